"""Fits one block: starts, the best of them behind the activation, and its refinement.

What a block is fitted to: patches of its input, with the original's answers, batch by batch.

A block of which channels are gone sees and answers nothing of them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import ceil
from operator import itemgetter

import numpy as np

from onnx_relusv.core.blocks import Activation, Block, Floats, Geometry, LinearMap, Moments
from onnx_relusv.core.kinds import kind_of
from onnx_relusv.core.linear_algebra import row_energies
from onnx_relusv.core.plans import ChannelMask
from onnx_relusv.core.reduction import (
    Change,
    Fitted,
    kept_groups,
    kept_outputs,
    kept_rows,
    masked_activation,
    masked_geometry,
    of_inputs,
)
from onnx_relusv.fitting.objectives import Objective, OwnAnswers, Reproduction
from onnx_relusv.fitting.refinement import LOOKS, refined
from onnx_relusv.fitting.regression import (
    CLOSED_RIDGES,
    RIDGES,
    consumers_gram,
    finer,
    has_nearest,
    importance_root,
    in_metric,
    nearest_in_span,
    regression,
    rows_regressions,
    sketched,
)
from onnx_relusv.graph.blocks import ResidualSum
from onnx_relusv.measuring.blocks import rows_within
from onnx_relusv.measuring.case import Case, Workspace
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.rewrites.changes import direct_consumers, is_reproduced
from onnx_relusv.rewrites.low_rank.forms import FORMS
from onnx_relusv.runtime.kernels.moments import answers_kernel, patches_kernel
from onnx_relusv.runtime.session import as_array, as_value
from onnx_relusv.samples.split import Split
from onnx_relusv.spectra.moments import ENOUGH, Draw, Enough, Sampling, shrunk_moments
from onnx_relusv.spectra.product_sums import (
    CollectedRows,
    ProductSums,
    Rows,
    Seen,
    TargetMoments,
    target_moments,
)
from onnx_relusv.work.executors import Advance, threads_for, unseen


class TargetPatches:
    """Takes patches of what is delivered to a block, with what the original answers.

    Args:
        block: The whole block.
        linear: Its linear map.
        kept: What is left of its channels; None where all are.
        samples: How many samples there are in all.
        provider: Execution provider.
        most: About how many patches are taken of them; by default as many as moments need.
        enough: How many these are.
        all_answers: Whether targets are those of all outputs, also of the ones that are gone.

    Attributes:
        geometry: Of what is left of the block.
        rows_per_sample: How many patches are taken of a sample, if it has as many.
    """

    def __init__(
        self,
        block: Block,
        linear: LinearMap,
        kept: ChannelMask | None,
        samples: int,
        provider: str,
        most: int | None = None,
        enough: Enough = ENOUGH,
        *,
        all_answers: bool = False,
    ) -> None:
        self.geometry = masked_geometry(block.geometry, kept)
        self._whole, self._kept, self._provider = block.geometry, kept, provider
        self._answering = None if all_answers else kept
        self._kind = kind_of(block.geometry)
        self._sampling = Sampling(block, samples, most, enough)
        self.rows_per_sample = self._sampling.rows_per_sample
        left = kept_outputs(block.geometry, linear, self._answering)
        bias = left.bias.reshape(len(left.weight), 1, -1)
        self._map = {
            "weight": left.weight.astype(np.float32),
            "bias": bias.astype(np.float32),
        }

    def of(self, seen: Seen, rng: np.random.Generator) -> Rows:
        """Patches of the real samples of a batch."""
        draw = self._sampling.draw(seen.delivered.shape, seen.real, seen.size, rng)
        original, z = seen.original, self._left(seen.delivered)
        feeds = self._kind.patch_feeds(self.geometry, z.shape, seen.real, draw.places)
        whole_feeds = draw.feeds
        if self._whole.is_depthwise:
            # What went away with a channel tells nothing of the others.
            original, whole_feeds = self._left(original), feeds
        x, delivered = as_value(original), as_value(z)
        answers = answers_kernel(self._provider, self._kind.spatial, x.element_type())
        patches = patches_kernel(self._provider, self._kind.spatial, delivered.element_type())
        target = as_array(
            answers.run_on_device({"x": x, **self._map, **whole_feeds}, ["answers"])["answers"]
        )
        rows = as_array(patches.run_on_device({"x": delivered, **feeds}, ["z"])["z"])
        shift = None
        if seen.shortcut is not None:
            exact, shift = (self._added(values, draw, seen.real) for values in seen.shortcut)
            target = target + exact
        return Rows(rows.astype(np.float32, copy=False), target, shift)

    def _left(self, values: np.ndarray) -> np.ndarray:
        """An input without the channels that are gone."""
        if self._kept is None:
            return values
        if self._whole.is_depthwise:
            return values[:, self._kept.outputs]
        return self._kind.of_channels(self._whole, values, self._kept.inputs)

    def _added(self, values: np.ndarray, draw: Draw, real: int) -> np.ndarray:
        found = self._sampling.answers(values, draw, real).astype(np.float32)
        return found if self._answering is None else of_rows(self._whole, found, self._answering)


def of_rows(geometry: Geometry, values: np.ndarray, kept: ChannelMask) -> np.ndarray:
    """Of (groups, n, rows) answers of a whole block those that are left."""
    left = values[kept_groups(geometry, kept)]
    return np.take_along_axis(left, kept_rows(geometry, kept)[:, None, :], axis=2)


_JUDGES = 3
# Of a block's fit, once it has seen all batches: the starts, and every look of the refinement.
STEPS = 1 + LOOKS
_RELU = Activation(kind="relu", slopes=np.zeros(1))


def _regressions(
    towards: Floats, means: TargetMoments, ridges: Sequence[float]
) -> Iterator[LinearMap]:
    """The regressions of several strengths, one after the other."""
    return (regression(towards, means, ridge) for ridge in ridges)


class BlockFit:
    """One block that is fitted, and how its answers are judged.

    Args:
        case: The model.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        change: What is wanted.
        residual: Where the block's answer is added to a shortcut; None where it is not.
        advance: Called after each of the `STEPS`.
        scores: Whether the block's answers are the network's class scores.
    """

    def __init__(
        self,
        case: Case,
        inputs: Inputs,
        workspace: Workspace,
        change: Change,
        residual: ResidualSum | None,
        advance: Advance = unseen,
        *,
        scores: bool = False,
    ) -> None:
        self.block: Block = change.block
        self.shortcut = None if residual is None else residual.shortcut
        self._case = case
        self._workspace = workspace
        self._advance = advance
        self._change = change
        self._scores = scores
        self._linear = case.folding(change.block)
        self._is_rectified = residual is not None and residual.rectified
        self._consumers = direct_consumers(change.block, case.blocks)
        self._reproduces = is_reproduced(case, inputs, change.block, change.kept)

    def fitted(self, plain: Fitted, parts: Split, batches: Iterator[tuple[Seen, bool]]) -> Fitted:
        """The best factors that are found.

        Args:
            plain: The plain factors, with the moments of the original's input.
            parts: The samples.
            batches: What the block sees, and whether it is for choosing.
        """
        most = rows_within(self.block, self._workspace.options.working_bytes)
        taken = self._patches(parts.fit.count)
        # Every look is at these, so that as many as steps see would double the time.
        selected = parts.select.count if parts.select else 1
        judged = self._patches(selected, max(1, most // _JUDGES))
        geometry = taken.geometry
        # No square array of a wide block's columns: what it is fitted to are the collected rows.
        sums = None
        if plain.moments is None or not plain.moments.factored:
            sums = ProductSums(
                geometry.groups, geometry.columns, geometry.rows, self._workspace.provider
            )
        fitting, selecting = CollectedRows(), CollectedRows()
        most_of_a_sample = ceil(most / parts.fit.count)
        rng = np.random.default_rng(self._workspace.options.seed)
        behind = self.block.activation
        for seen, choosing in batches:
            if seen.shortcut is not None and self._is_rectified:
                behind = _RELU
            rows = (judged if choosing else taken).of(seen, rng)
            if choosing:
                selecting.add(rows, rows.count, rng)
            else:
                if sums is not None:
                    sums.add(rows.z, self._own(rows).missing)
                fitting.add(rows, most_of_a_sample * seen.real, rng)
        objective = OwnAnswers(
            geometry=geometry,
            activation=masked_activation(behind, self._change.kept),
            importance=self._importance(),
            provider=self._workspace.provider,
            scores=self._scores,
        )
        everything = selecting.rows()
        judges = self._own(everything)
        gathered = fitting.rows() if sums is None else None
        if sums is None:
            assert gathered is not None
            own = self._own(gathered)
            regressions = partial(rows_regressions, plain.target.weight, own)
            moments = sketched(self._own(gathered), parts.fit.independent)
        else:
            means = target_moments(sums)
            moments = shrunk_moments(means.mean, means.second, means.rows, parts.fit.independent)
            regressions = partial(_regressions, plain.target.weight, means)
        best = self._best_start(
            plain, moments, regressions, lambda start: objective.value(start.factors, judges)
        )
        self._advance(1)
        if not self._workspace.spending.refines:
            self._advance(LOOKS)
            return best
        descended: Objective = objective
        if self._reproduces:
            descended, judges = self._reproduction(geometry), everything
        gathered = fitting.rows() if gathered is None else gathered
        # What steps multiply by themselves is of the block's size, and of no more rows than it has.
        with threads_for(geometry.rows * geometry.columns * geometry.rows):
            factors = refined(best.factors, descended, gathered, judges, rng, self._advance)
        return best if factors is best.factors else replace(best, factors=factors, refined=True)

    def _best_start(
        self,
        plain: Fitted,
        moments: Moments,
        regressions: Callable[[Sequence[float]], Iterator[LinearMap]],
        value: Callable[[Fitted], float],
    ) -> Fitted:
        """The plain factors, a regression, or the best of them as the consumers feel it."""
        change, root = self._change, self._root(plain)
        offered = [(value(plain), plain)]
        # A decomposition of each of several large maps would take longer than all else: they are
        # told apart by what the plain factors' span holds of them.
        quick = has_nearest(plain)
        tried: list[tuple[float, float, Fitted]] = []
        refines = self._workspace.spending.refines
        ridges: Sequence[float] = RIDGES if refines else CLOSED_RIDGES
        while ridges:
            for ridge, linear in zip(ridges, regressions(ridges), strict=True):
                start = (
                    nearest_in_span(plain, linear, moments)
                    if quick
                    else in_metric(change, linear, moments, None)
                )
                # Only the best is kept: each holds a map as large as the block's.
                tried = [min([*tried, (value(start), ridge, start)], key=itemgetter(0))]
            best = tried[0][1]
            # A reproduction goes on to descend something else than what starts are judged by.
            ridges = finer(best) if ridges is RIDGES and not self._reproduces else ()
        least, _, nearest = tried[0]
        if quick:
            nearest = in_metric(change, nearest.target, moments, None)
            least = value(nearest)
        offered.append((least, nearest))
        if root is not None:
            start = in_metric(change, nearest.target, moments, root)
            offered.append((value(start), start))
        return min(offered, key=itemgetter(0))[1]

    def _patches(self, samples: int, most: int | None = None) -> TargetPatches:
        return TargetPatches(
            self.block,
            self._linear,
            self._change.kept,
            samples,
            self._workspace.provider,
            most,
            self._workspace.enough,
            all_answers=self._reproduces,
        )

    def _own(self, rows: Rows) -> Rows:
        """Rows with the answers that are left."""
        kept = self._change.kept
        if kept is None or not self._reproduces:
            return rows
        return replace(rows, target=of_rows(self.block.geometry, rows.target, kept))

    def _reproduction(self, geometry: Geometry) -> Reproduction:
        block, kept = self.block, self._change.kept
        importance = consumers_gram(
            block.geometry.out_channels, map(self._case.folding, self._consumers)
        )
        assert kept is not None
        assert importance is not None  # otherwise nothing is reproduced
        return Reproduction(
            geometry=geometry,
            activation=masked_activation(block.activation, kept),
            whole_geometry=block.geometry,
            whole_activation=block.activation,
            kept=kept.outputs,
            importance=importance,
            provider=self._workspace.provider,
        )

    def _importance(self) -> Floats | None:
        if not self._consumers:
            return None
        units = self._change.reduced.geometry.out_channels
        return consumers_gram(units, self._seen_by(self._consumers))

    def _root(self, plain: Fitted) -> Floats | None:
        """What outputs are weighted with in a regression; None where all count alike."""
        consumers, moments = self._consumers, plain.moments
        form = FORMS[self._change.form]
        # Of one layer nothing is lost to any weighting.
        weighs = form.rows_are_outputs and not form.one_layer
        if not weighs or moments is None or not consumers:
            return None
        W = plain.target.weight[0]
        mean = W @ moments.mean[0] + plain.target.bias
        variance = row_energies(W, moments.of_group(0))
        activation = masked_activation(self.block.activation, self._change.kept)
        return importance_root(activation, mean, variance, self._seen_by(consumers))

    def _seen_by(self, consumers: Iterable[Block]) -> Iterator[LinearMap]:
        """The consumers' maps of the outputs that are left."""
        kept = self._change.kept
        for consumer in consumers:
            linear = self._case.folding(consumer)
            yield linear if kept is None else of_inputs(consumer.geometry, linear, kept.outputs)
