"""Fits one block: starts, the best of them behind the activation, and its refinement."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from math import ceil
from operator import itemgetter

import numpy as np

from onnx_relusv.covariance import row_energies
from onnx_relusv.decisions import Kept
from onnx_relusv.fitted import Change, Fitted
from onnx_relusv.graph.sums import ResidualSum
from onnx_relusv.importance import consumers_gram, direct_consumers, importance_root
from onnx_relusv.objectives import Objective
from onnx_relusv.opened import Opened
from onnx_relusv.own_answers import OwnAnswers
from onnx_relusv.progress import Advance, unseen
from onnx_relusv.records import Activation, Block, Floats, Geometry, LinearMap, Moments
from onnx_relusv.reduction import of_inputs, reduced_activation
from onnx_relusv.refinement import LOOKS, refined
from onnx_relusv.regression import RIDGES, in_metric, regression, rows_regressions, sketched
from onnx_relusv.reproduction import Reproduction
from onnx_relusv.spectra.moments import shrunk_moments
from onnx_relusv.spectra.product_sums import ProductSums
from onnx_relusv.spectra.target_moments import Seen, target_moments
from onnx_relusv.spectra.target_rows import CollectedRows, Rows
from onnx_relusv.split import Split
from onnx_relusv.target_patches import TargetPatches, of_rows
from onnx_relusv.workload import rows_within

_JUDGES = 3
# Of a block's fit, once it has seen all batches: the starts, and every look of the refinement.
STEPS = 1 + LOOKS
_RELU = Activation(kind="relu", slopes=np.zeros(1))


def is_reproduced(opened: Opened, block: Block, kept: Kept | None) -> bool:
    """Whether what is left of a block is fitted to tell its consumers what all of it told them.

    That needs units that are gone, and consumers that are blocks, and nothing else, which are then
    fitted to what is left; and samples to choose by.

    Args:
        opened: The model and its samples, split.
        block: The block.
        kept: What is left of its channels; None where all are.
    """
    if kept is None or len(kept.outputs) == block.geometry.out_channels:
        return False
    if opened.split is None or opened.split.select is None:
        return False
    consumers = direct_consumers(block, opened.blocks)
    return any(opened.folding(consumer).weight.any() for consumer in consumers)


class BlockFit:
    """One block that is fitted, and how its answers are judged.

    Args:
        opened: The model.
        change: What is wanted.
        residual: Where the block's answer is added to a shortcut; None where it is not.
        advance: Told of the `STEPS`.
        scores: Whether the block's answers are the network's class scores.
    """

    def __init__(
        self,
        opened: Opened,
        change: Change,
        residual: ResidualSum | None,
        advance: Advance = unseen,
        *,
        scores: bool = False,
    ) -> None:
        self.block: Block = change.block
        self.shortcut = None if residual is None else residual.shortcut
        self._opened = opened
        self._advance = advance
        self._change = change
        self._scores = scores
        self._linear = opened.folding(change.block)
        self._is_rectified = residual is not None and residual.rectified
        self._consumers = direct_consumers(change.block, opened.blocks)
        self._reproduces = is_reproduced(opened, change.block, change.kept)

    def fitted(self, plain: Fitted, parts: Split, batches: Iterator[tuple[Seen, bool]]) -> Fitted:
        """The best factors that are found.

        Args:
            plain: The plain factors, with the moments of the original's input.
            parts: The samples.
            batches: What the block sees, and whether it is for choosing.
        """
        opened = self._opened
        most = rows_within(self.block, opened.options.working_bytes)
        taken = self._patches(parts.fit.count)
        # Every look is at these, so that as many as steps see would double the time.
        selected = parts.select.count if parts.select else 1
        judged = self._patches(selected, max(1, most // _JUDGES))
        geometry = taken.geometry
        # No square array of a wide block's columns: what it is fitted to are the collected rows.
        sums = None
        if plain.moments is None or not plain.moments.factored:
            sums = ProductSums(geometry.groups, geometry.columns, geometry.rows, opened.provider)
        fitting, selecting = CollectedRows(), CollectedRows()
        most_of_a_sample = ceil(most / parts.fit.count)
        rng = np.random.default_rng(opened.options.seed)
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
            activation=reduced_activation(behind, self._change.kept),
            importance=self._importance(),
            provider=opened.provider,
            scores=self._scores,
        )
        everything = selecting.rows()
        judges = self._own(everything)
        gathered = fitting.rows() if sums is None else None
        if sums is None:
            assert gathered is not None
            regressions = rows_regressions(plain.target.weight, self._own(gathered), RIDGES)
            moments = sketched(self._own(gathered), parts.fit.independent)
        else:
            means = target_moments(sums)
            moments = shrunk_moments(means.mean, means.second, means.rows, parts.fit.independent)
            regressions = (regression(plain.target.weight, means, ridge) for ridge in RIDGES)
        best = self._best_start(
            plain, moments, regressions, lambda start: objective.value(start.factors, judges)
        )
        self._advance(1)
        descended: Objective = objective
        if self._reproduces:
            descended, judges = self._reproduction(geometry), everything
        gathered = fitting.rows() if gathered is None else gathered
        factors = refined(best.factors, descended, gathered, judges, rng, self._advance)
        return best if factors is best.factors else replace(best, factors=factors, refined=True)

    def _best_start(
        self,
        plain: Fitted,
        moments: Moments,
        regressions: Iterable[LinearMap],
        value: Callable[[Fitted], float],
    ) -> Fitted:
        """The plain factors, a regression, or the best of them as the consumers feel it."""
        change, root = self._change, self._root(plain)
        offered = [(value(plain), plain)]
        for linear in regressions:
            start = in_metric(change, linear, moments, None)
            offered.append((value(start), start))
        if root is not None:
            _, nearest = min(offered[1:], key=itemgetter(0))
            start = in_metric(change, nearest.target, moments, root)
            offered.append((value(start), start))
        return min(offered, key=itemgetter(0))[1]

    def _patches(self, samples: int, most: int | None = None) -> TargetPatches:
        return TargetPatches(
            self.block,
            self._linear,
            self._change.kept,
            samples,
            self._opened.provider,
            most,
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
            block.geometry.out_channels, map(self._opened.folding, self._consumers)
        )
        assert kept is not None
        assert importance is not None  # otherwise nothing is reproduced
        return Reproduction(
            geometry=geometry,
            activation=reduced_activation(block.activation, kept),
            whole_geometry=block.geometry,
            whole_activation=block.activation,
            kept=kept.outputs,
            importance=importance,
            provider=self._opened.provider,
        )

    def _importance(self) -> Floats | None:
        if not self._consumers:
            return None
        units = self._change.reduced.geometry.out_channels
        return consumers_gram(units, self._seen_by(self._consumers))

    def _root(self, plain: Fitted) -> Floats | None:
        """What outputs are weighted with in a regression; None where all count alike."""
        consumers, moments = self._consumers, plain.moments
        # A dense map loses nothing to any weighting.
        if self._change.form in ("spatial", "dense") or moments is None or not consumers:
            return None
        W = plain.target.weight[0]
        mean = W @ moments.mean[0] + plain.target.bias
        variance = row_energies(W, moments.of_group(0))
        activation = reduced_activation(self.block.activation, self._change.kept)
        return importance_root(activation, mean, variance, self._seen_by(consumers))

    def _seen_by(self, consumers: Iterable[Block]) -> Iterator[LinearMap]:
        """The consumers' maps of the outputs that are left."""
        kept = self._change.kept
        for consumer in consumers:
            linear = self._opened.folding(consumer)
            yield linear if kept is None else of_inputs(consumer.geometry, linear, kept.outputs)
