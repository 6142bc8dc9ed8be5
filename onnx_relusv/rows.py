"""What is known of every block: as many are measured at a time as cores and memory allow."""

from collections.abc import Sequence
from dataclasses import dataclass

from onnx_relusv.candidates import block_candidates
from onnx_relusv.cost import block_cost
from onnx_relusv.decisions import Candidate, Cost
from onnx_relusv.factors import decompose_block
from onnx_relusv.opened import BlockMoments, Opened
from onnx_relusv.parallel import available_cores, in_parallel
from onnx_relusv.progress import Progress
from onnx_relusv.records import Block
from onnx_relusv.results import BlockRow, RankSaving
from onnx_relusv.runtime.graph_parts import kernel_threads
from onnx_relusv.runtime.session import CPU
from onnx_relusv.spectra.measure import measure
from onnx_relusv.workload import measuring_load

TOLERANCES = (0.05, 0.1, 0.2)


@dataclass(frozen=True, eq=False)
class Measured:
    """The rows of all blocks and the candidates of each, by key."""

    rows: tuple[BlockRow, ...]
    candidates: dict[str, tuple[Candidate, ...]]


def measure_blocks(opened: Opened, moments: BlockMoments, progress: Progress) -> Measured:
    """Measures every block and lists its candidates, several blocks at a time.

    A GPU is fed by one thread. The blocks under way stay within the memory that there is for
    measuring; one that takes more is measured while no other is.
    """
    cores = available_cores()
    with progress.stage("Spectra of the blocks", len(opened.blocks)) as advance:
        found = in_parallel(
            opened.blocks,
            lambda block, threads: _measured(opened, block, moments, threads),
            lambda block: measuring_load(block, in_data_metric=moments[block.key] is not None),
            memory=opened.options.working_bytes,
            workers=cores if opened.provider == CPU else 1,
            cores=cores,
            advance=advance,
        )
    return Measured(
        tuple(row for row, _ in found), {row.block.key: candidates for row, candidates in found}
    )


def _measured(
    opened: Opened, block: Block, moments: BlockMoments, threads: int
) -> tuple[BlockRow, tuple[Candidate, ...]]:
    linear, seen = opened.folding(block), moments[block.key]
    with kernel_threads(threads):
        parts = decompose_block(linear, seen)
        spectrum = measure(
            block,
            linear,
            seen,
            parts,
            seed=opened.options.seed,
            provider=opened.provider,
        )
    candidates, cost = block_candidates(block, linear, seen, parts), block_cost(block)
    row = BlockRow(
        block=block,
        parameters=linear.weight.size + linear.bias.size,
        cost=cost,
        spectrum=spectrum,
        savings=tuple(_saving(candidates, tolerance, cost) for tolerance in TOLERANCES),
    )
    return row, candidates


def _saving(candidates: Sequence[Candidate], tolerance: float, now: Cost) -> RankSaving:
    enough = [candidate for candidate in candidates if candidate.level <= tolerance]
    if not enough:
        return RankSaving(tolerance=tolerance, form=None, rank=None, saved_bytes=0, saved_macs=0)
    best = min(enough, key=lambda candidate: candidate.bytes)
    return RankSaving(
        tolerance=tolerance,
        form=best.form,
        rank=best.rank,
        saved_bytes=now.bytes - best.bytes,
        saved_macs=now.macs - best.macs,
    )
