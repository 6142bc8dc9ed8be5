"""Fits double layers, block after block, to the inputs that the compressed network delivers.

By the time a block is fitted, the blocks before it are compressed, and its input is z, not the
original x; its target is still what the original answers. Where the answer is added to a shortcut,
the target is that of the sum, so that the block mends what came over the shortcut.

The starts are the plain factors, which know of the original's input alone, and regressions on z
of several strengths, with and without the consumers' view (regression, importance). The one with
the least error behind the activation, on samples that no moments were taken of, is refined by steps
(refinement); never is the result worse on them than the plain factors.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from onnx_relusv.block_fit import BlockFit
from onnx_relusv.factors import as_stored, double_layer
from onnx_relusv.fitted import Change, Fitted
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.segments import cuts
from onnx_relusv.graph.sums import ResidualSum, residual_sum
from onnx_relusv.opened import BlockMoments, Opened
from onnx_relusv.progress import Progress
from onnx_relusv.records import Block, LinearMap, Moments
from onnx_relusv.runtime.streams import Stream
from onnx_relusv.segment_sessions import segment_session
from onnx_relusv.spectra.passes import batch_length
from onnx_relusv.spectra.target_moments import Seen
from onnx_relusv.split import Split


def fit(
    opened: Opened, changes: Sequence[Change], moments: BlockMoments, progress: Progress
) -> dict[str, Fitted]:
    """Fits all changes in topological order.

    Args:
        opened: The model and its samples, split.
        changes: In topological order.
        moments: Of the original's inputs; blocks without are fitted plainly.
        progress: Told of the batches.

    Returns:
        By block key.
    """
    found: dict[str, Fitted] = {}
    parts = opened.split
    for change in changes:
        if parts is None or parts.select is None or moments[change.block.key] is None:
            found[change.block.key] = _plain(opened, change, None)
    waiting = [change for change in changes if change.block.key not in found]
    if parts is None or not waiting:
        return found
    with tempfile.TemporaryDirectory(prefix="onnx-relusv-") as folder:
        fitting = _Fitting(opened, parts, moments, found, Path(folder))
        fitting.run(waiting, progress)
    return found


def _residual_sums(model: Model, changes: Sequence[Change]) -> dict[str, ResidualSum | None]:
    """The sums that changed blocks mend, by key.

    Where two of them are added to each other, the first, whose input is there before the other's,
    is fitted to its own answer and the second mends both. For each to wait for the other, one of
    them would have to run before it is fitted.
    """
    made = {name: at for at, node in enumerate(model.proto.graph.node) for name in node.output}
    found = {change.block.key: residual_sum(model, change.block) for change in changes}
    for change in sorted(changes, key=lambda change: made.get(change.block.source, -1)):
        own = found[change.block.key]
        if own is not None and found.get(own.shortcut) is not None:
            found[change.block.key] = None
    return found


def _needed(block: Block, residual: ResidualSum | None) -> set[str]:
    """What has to be alive where a block is fitted."""
    return {block.source} if residual is None else {block.source, residual.shortcut}


def _plain(opened: Opened, change: Change, moments: Moments | None) -> Fitted:
    linear = opened.folding(change.block)
    factors = double_layer(change.form, change.block.geometry, linear, moments, change.rank)
    return Fitted(factors, linear, moments)


def _is_answer(values: np.ndarray, source: np.ndarray, block: Block) -> bool:
    """Whether a tensor has the shape of what a block answers, and is not broadcast to it."""
    lengths = block.output_shape[1:]
    if block.geometry.kind != "conv":
        lengths = (*source.shape[1:-1], block.geometry.out_channels)
    return values.shape == (len(source), *lengths)


class _Fitting:
    """The loop over the cuts, with a stream of the original and one of the compressed model."""

    def __init__(
        self,
        opened: Opened,
        parts: Split,
        moments: BlockMoments,
        found: dict[str, Fitted],
        folder: Path,
    ) -> None:
        self._opened = opened
        self._parts = parts
        self._moments = moments
        self._found = found
        self._folder = folder
        self._length = batch_length(opened.blocks, opened.options.working_bytes)
        # Of every batch, how many of its samples are real, how many it has with padding, and
        # whether it is for choosing.
        self._batches: list[tuple[int, int, bool]] = []

    def run(self, changes: Sequence[Change], progress: Progress) -> None:
        """Fits the changes and adds them to what was found."""
        model = self._opened.model
        sums = _residual_sums(model, changes)
        needs = {
            change.block.key: _needed(change.block, sums[change.block.key]) for change in changes
        }
        exact = Stream(self._folder, self._feeds())
        delivered = exact
        wanted = sorted({name for names in needs.values() for name in names})
        places = cuts(model, wanted)
        complete: set[str] = set()
        with progress.stage("Fit", 2 * len(places) * len(self._batches)) as advance:
            for place in places:
                session = segment_session(self._opened, exact, place.live, {})
                moved = exact.advanced(session, place.live, advance)
                if delivered is exact and not self._found:
                    advance(len(self._batches))
                    delivered_moved = moved
                else:
                    dense = {key: self._dense(key) for key in self._found}
                    session = segment_session(self._opened, delivered, place.live, dense)
                    delivered_moved = delivered.advanced(session, place.live, advance)
                for stream in {id(s): s for s in (exact, delivered)}.values():
                    stream.drop()
                exact, delivered = moved, delivered_moved
                before = set(complete)
                complete.update(place.sources)
                for change in changes:
                    needed = needs[change.block.key]
                    if needed <= complete and not needed <= before:
                        item = BlockFit(self._opened, change, sums[change.block.key])
                        plain = _plain(self._opened, change, self._moments[change.block.key])
                        seen = self._seen(item, exact, delivered)
                        self._found[change.block.key] = item.fitted(plain, self._parts, seen)

    def _feeds(self) -> Iterator[dict[str, np.ndarray]]:
        for samples, choosing in ((self._parts.fit, False), (self._parts.select, True)):
            for batch in () if samples is None else samples.batches(self._length):
                self._batches.append((batch.count, batch.size, choosing))
                yield batch.feeds

    def _dense(self, key: str) -> LinearMap:
        block = next(block for block in self._opened.blocks if block.key == key)
        return as_stored(block, self._found[key].factors)

    def _seen(
        self, item: BlockFit, exact: Stream, delivered: Stream
    ) -> Iterator[tuple[Seen, bool]]:
        source, shortcut = item.block.source, item.shortcut
        for (real, size, choosing), x, z in zip(self._batches, exact, delivered, strict=True):
            added = None
            if shortcut is not None and _is_answer(x[shortcut], x[source], item.block):
                added = (x[shortcut], z[shortcut])
            yield Seen(x[source], z[source], real, size, added), choosing
