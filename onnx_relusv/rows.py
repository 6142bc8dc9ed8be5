"""What is known of every block, measured one by one so that one linear map is in memory."""

from collections.abc import Sequence
from dataclasses import dataclass

from onnx_relusv.candidates import block_candidates
from onnx_relusv.cost import block_cost
from onnx_relusv.decisions import Candidate, Cost
from onnx_relusv.factors import decompose_block
from onnx_relusv.opened import BlockMoments, Opened
from onnx_relusv.progress import Progress
from onnx_relusv.results import BlockRow, RankSaving
from onnx_relusv.spectra.measure import measure

TOLERANCES = (0.05, 0.1, 0.2)


@dataclass(frozen=True, eq=False)
class Measured:
    """The rows of all blocks and the candidates of each, by key."""

    rows: tuple[BlockRow, ...]
    candidates: dict[str, tuple[Candidate, ...]]


def measure_blocks(opened: Opened, moments: BlockMoments, progress: Progress) -> Measured:
    """Measures every block and lists its candidates."""
    rows: list[BlockRow] = []
    candidates: dict[str, tuple[Candidate, ...]] = {}
    with progress.stage("Spectra of the blocks", len(opened.blocks)) as advance:
        for block in opened.blocks:
            linear, seen = opened.folding(block), moments[block.key]
            parts = decompose_block(linear, seen)
            spectrum = measure(
                block,
                linear,
                seen,
                parts,
                seed=opened.options.seed,
                provider=opened.provider,
            )
            candidates[block.key] = block_candidates(block, linear, seen, parts)
            cost = block_cost(block)
            row = BlockRow(
                block=block,
                parameters=linear.weight.size + linear.bias.size,
                cost=cost,
                spectrum=spectrum,
                savings=tuple(
                    _saving(candidates[block.key], tolerance, cost) for tolerance in TOLERANCES
                ),
            )
            rows.append(row)
            advance(1)
    return Measured(tuple(rows), candidates)


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
