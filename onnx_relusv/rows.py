"""What is known of every block: as many are measured at a time as cores and memory allow."""

from collections.abc import Sequence
from dataclasses import dataclass

from onnx_relusv.cache import Fields
from onnx_relusv.candidates import block_candidates
from onnx_relusv.cost import block_cost
from onnx_relusv.decisions import Candidate, Cost
from onnx_relusv.entries.measures import measures_arrays, measures_of
from onnx_relusv.factors import decompose_block
from onnx_relusv.measures import Spectrum
from onnx_relusv.opened import BlockMoments, Opened
from onnx_relusv.parallel import available_cores, in_parallel
from onnx_relusv.progress import Progress
from onnx_relusv.records import Block, StatisticsSource
from onnx_relusv.results import BlockRow, RankSaving
from onnx_relusv.runtime.graph_parts import kernel_threads
from onnx_relusv.runtime.session import CPU
from onnx_relusv.spectra.measure import measure
from onnx_relusv.workload import measuring_load

TOLERANCES = (0.05, 0.1, 0.2)
_KIND = "measures"
_Found = tuple[BlockRow, tuple[Candidate, ...]]


@dataclass(frozen=True, eq=False)
class Measured:
    """The rows of all blocks and the candidates of each, by key."""

    rows: tuple[BlockRow, ...]
    candidates: dict[str, tuple[Candidate, ...]]


def measure_blocks(opened: Opened, moments: BlockMoments, progress: Progress) -> Measured:
    """Measures every block and lists its candidates, several blocks at a time.

    A GPU is fed by one thread. The blocks under way stay within the memory that there is for
    measuring; one that takes more is measured while no other is. What the cache knows is not
    measured again.
    """
    cores = available_cores()
    known: dict[int, _Found] = {}
    for number, block in enumerate(opened.blocks):
        measured = _known(opened, block, moments)
        if measured is not None:
            known[number] = measured
    with progress.stage("Spectra of the blocks", len(opened.blocks)) as advance:
        advance(len(known))
        found = in_parallel(
            opened.blocks,
            lambda block, threads: _measured(opened, block, moments, threads),
            lambda block: measuring_load(block, in_data_metric=moments[block.key] is not None),
            memory=opened.options.working_bytes,
            workers=cores if opened.provider == CPU else 1,
            cores=cores,
            advance=advance,
            known=known,
        )
    return Measured(
        tuple(row for row, _ in found), {row.block.key: candidates for row, candidates in found}
    )


def _measured(opened: Opened, block: Block, moments: BlockMoments, threads: int) -> _Found:
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
    candidates = block_candidates(block, linear, seen, parts)
    opened.cache.put(_KIND, _fields(opened, block), measures_arrays(spectrum, candidates))
    return _row(block, spectrum, candidates, _statistics(block, moments)), candidates


def _known(opened: Opened, block: Block, moments: BlockMoments) -> _Found | None:
    arrays = opened.cache.get(_KIND, _fields(opened, block))
    if arrays is None:
        return None
    rank, seed = block.geometry.largest_rank, opened.options.seed
    found = measures_of(arrays, rank=rank, seed=seed, provider=opened.provider)
    if found is None:
        return None
    spectrum, candidates = found
    return _row(block, spectrum, candidates, _statistics(block, moments)), candidates


def _statistics(block: Block, moments: BlockMoments) -> StatisticsSource:
    found = moments[block.key]
    return "none" if found is None else found.source


def _fields(opened: Opened, block: Block) -> Fields:
    return {**opened.identity, "block": block.key}


def _row(
    block: Block,
    spectrum: Spectrum,
    candidates: Sequence[Candidate],
    statistics: StatisticsSource,
) -> BlockRow:
    geometry, cost = block.geometry, block_cost(block)
    weights = geometry.groups * geometry.rows * geometry.columns
    return BlockRow(
        block=block,
        parameters=weights + geometry.out_channels,
        cost=cost,
        spectrum=spectrum,
        savings=tuple(_saving(candidates, tolerance, cost) for tolerance in TOLERANCES),
        statistics=statistics,
    )


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
