"""Fits double layers, block after block, to the inputs that the compressed network delivers.

By the time a block is fitted, the blocks before it are compressed, and its input is z, not the
original x. Its target is still the original's Wx + b. The best linear map of z is

    M = E[Wx z'] E[zz']^(-1)      (centred moments, ridge towards W),

and since the rest of the error does not depend on L, the best L of a form and rank is that of M in
the metric of z: asymmetric reduced-rank regression, after Zhang, Zou, He, Sun, "Accelerating Very
Deep Convolutional Networks for Classification and Detection" (2015), whose ReLU-aware part is not
here. The bias follows from the means.

The strength of the ridge is chosen on batches that the moments it is judged by were not fitted to;
the plain factors, which know of the original's input alone, are among the choices, and win where
nothing is better on those batches. The winner is then fitted to all samples.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy.linalg

from onnx_relusv.decisions import Factors, Form
from onnx_relusv.factors import as_stored, double_layer
from onnx_relusv.graph.reference import with_dense
from onnx_relusv.graph.segments import cuts, segment
from onnx_relusv.importance import direct_consumers, importance_root
from onnx_relusv.opened import BlockMoments, Opened
from onnx_relusv.progress import Progress
from onnx_relusv.records import Block, Floats, LinearMap, Moments
from onnx_relusv.runtime.session import Session
from onnx_relusv.runtime.streams import Stream
from onnx_relusv.spectra.moments import shrunk_moments
from onnx_relusv.spectra.passes import batch_length
from onnx_relusv.spectra.target_moments import TargetMoments, TargetSums
from onnx_relusv.split import Split

# Shares of the mean variance of z, from a nearly free regression to one that hardly leaves W.
RIDGES = (1e-3, 1e-2, 1e-1)


@dataclass(frozen=True)
class Change:
    """A block that is to be replaced, and by what."""

    block: Block
    form: Form
    rank: int


@dataclass(frozen=True, eq=False)
class Fitted:
    """Factors, and the linear map and moments whose best approximation they are.

    Attributes:
        factors: The double layer.
        target: The map it stands for: the block's own, or the regression M.
        moments: Of the input in whose metric it does; None without samples.
        root: (out, out), what outputs were weighted with; None where all count alike.
    """

    factors: Factors
    target: LinearMap
    moments: Moments | None
    root: Floats | None = None

    def weighted(self, dense: LinearMap) -> LinearMap:
        """A dense map as the fit saw it: its outputs weighted by what the consumers feel."""
        return dense if self.root is None else _weighted(self.root, dense)


def fit(
    opened: Opened, changes: Sequence[Change], moments: BlockMoments, progress: Progress
) -> dict[str, Fitted]:
    """Fits all changes in topological order.

    Args:
        opened: The model and its samples.
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


def _plain(opened: Opened, change: Change, moments: Moments | None) -> Fitted:
    linear = opened.folding(change.block)
    factors = double_layer(change.form, change.block.geometry, linear, moments, change.rank)
    return Fitted(factors, linear, moments)


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
        exact = Stream(self._folder, self._feeds())
        delivered = exact
        places = cuts(model, [change.block.source for change in changes])
        with progress.stage("Fit", 2 * len(places) * len(self._batches)) as advance:
            for place in places:
                moved = exact.advanced(self._session(exact, place.live, {}), place.live, advance)
                if delivered is exact and not self._found:
                    advance(len(self._batches))
                    delivered_moved = moved
                else:
                    dense = {key: self._dense(key) for key in self._found}
                    session = self._session(delivered, place.live, dense)
                    delivered_moved = delivered.advanced(session, place.live, advance)
                for stream in {id(s): s for s in (exact, delivered)}.values():
                    stream.drop()
                exact, delivered = moved, delivered_moved
                for change in changes:
                    if change.block.source in place.sources:
                        self._found[change.block.key] = self._fit(change, exact, delivered)

    def _feeds(self) -> Iterator[dict[str, np.ndarray]]:
        for samples, choosing in ((self._parts.fit, False), (self._parts.select, True)):
            for batch in () if samples is None else samples.batches(self._length):
                self._batches.append((batch.count, batch.size, choosing))
                yield batch.feeds

    def _session(
        self, stream: Stream, live: tuple[str, ...], dense: Mapping[str, LinearMap]
    ) -> Session | None:
        model, example = self._opened.model, next(iter(stream))
        if all(name in example for name in live):
            return None
        proto, arrays = with_dense(model, self._opened.blocks, dense)
        return Session(segment(model, proto, example, live, arrays), self._opened.provider)

    def _dense(self, key: str) -> LinearMap:
        block = next(block for block in self._opened.blocks if block.key == key)
        return as_stored(block, self._found[key].factors)

    def _fit(self, change: Change, exact: Stream, delivered: Stream) -> Fitted:
        block = change.block
        linear = self._opened.folding(block)
        count = self._parts.fit.count
        fitting, selecting = (TargetSums(block, linear, count) for _ in range(2))
        rng = np.random.default_rng(self._opened.options.seed)
        for (real, size, choosing), x, z in zip(self._batches, exact, delivered, strict=True):
            sums, source = selecting if choosing else fitting, block.source
            sums.add(x[source], z[source], real, size, rng, self._opened.provider)
        plain = _plain(self._opened, change, self._moments[block.key])
        if not (fitting.rows and selecting.rows):
            return plain
        held_out, root = selecting.means(), self._root(change, linear)
        best, least = None, held_out.error(block, linear, plain.factors, root)
        for ridge in RIDGES:
            candidate = _regressed(change, linear, fitting.means(), ridge, count, root)
            error = held_out.error(block, linear, candidate.factors, root)
            if error < least:
                best, least = ridge, error
        if best is None:
            return plain
        everything = fitting.plus(selecting).means()
        return _regressed(change, linear, everything, best, count, root)

    def _root(self, change: Change, linear: LinearMap) -> Floats | None:
        block, moments = change.block, self._moments[change.block.key]
        consumers = direct_consumers(block, self._opened.blocks)
        if change.form == "spatial" or moments is None or not consumers:
            return None
        W = linear.weight[0]
        mean = W @ moments.mean[0] + linear.bias
        variance = np.einsum("rc,rc->r", W @ moments.covariance[0], W)
        maps = (self._opened.folding(consumer) for consumer in consumers)
        return importance_root(block.activation, mean, variance, maps)


def _weighted(root: Floats, dense: LinearMap) -> LinearMap:
    return LinearMap((root @ dense.weight[0])[None], root @ dense.bias)


def _regressed(
    change: Change,
    linear: LinearMap,
    means: TargetMoments,
    ridge: float,
    samples: int,
    root: Floats | None,
) -> Fitted:
    """The factors of M in the metric of z, and of what consumers feel if `root` is given."""
    moments = shrunk_moments(means.mean, means.second, means.rows, samples)
    maps = []
    for W, second, cross, mean, target in zip(
        linear.weight, means.second, means.cross, means.mean, means.target, strict=True
    ):
        metric = second - np.outer(mean, mean)
        towards = ridge * np.trace(metric) / len(metric) + np.finfo(np.float64).tiny
        metric[np.diag_indices_from(metric)] += towards
        seen = cross - np.outer(target, mean) + towards * W
        maps.append(scipy.linalg.solve(metric, seen.T, assume_a="pos").T)
    weight = np.stack(maps)
    bias = linear.bias + (means.target - np.einsum("grc,gc->gr", weight, means.mean)).reshape(-1)
    regression = LinearMap(weight, bias)
    form, geometry, rank = change.form, change.block.geometry, change.rank
    if root is None:
        factors = double_layer(form, geometry, regression, moments, rank)
        return Fitted(factors, regression, moments)
    # Outputs weighted by R: the factors of RM, with R taken off the second one again.
    target = _weighted(root, regression)
    seen_by_consumers = double_layer(form, geometry, target, moments, rank)
    second = scipy.linalg.solve_triangular(root, seen_by_consumers.second[0])
    offset = scipy.linalg.solve_triangular(root, seen_by_consumers.bias)
    factors = replace(seen_by_consumers, second=second[None], bias=offset)
    return Fitted(factors, target, moments, root)
