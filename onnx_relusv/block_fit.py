"""Fits one block: starts, the best of them behind the activation, and its refinement."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import ceil

import numpy as np

from onnx_relusv.fitted import Change, Fitted
from onnx_relusv.graph.sums import ResidualSum
from onnx_relusv.importance import consumers_gram, direct_consumers, importance_root
from onnx_relusv.opened import Opened
from onnx_relusv.progress import Advance, unseen
from onnx_relusv.records import Activation, Block, Floats, LinearMap
from onnx_relusv.reduction import of_inputs, reduced_activation
from onnx_relusv.refinement import LOOKS, Objective, refined
from onnx_relusv.regression import regressions
from onnx_relusv.spectra.product_sums import ProductSums
from onnx_relusv.spectra.target_moments import Seen, target_moments
from onnx_relusv.spectra.target_rows import CollectedRows
from onnx_relusv.split import Split
from onnx_relusv.target_patches import TargetPatches
from onnx_relusv.workload import rows_within

_JUDGES = 3
# Of a block's fit, once it has seen all batches: the starts, and every look of the refinement.
STEPS = 1 + LOOKS
_RELU = Activation(kind="relu", slopes=np.zeros(1))


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

    def fitted(self, plain: Fitted, parts: Split, batches: Iterator[tuple[Seen, bool]]) -> Fitted:
        """The best factors that are found.

        Args:
            plain: The plain factors, with the moments of the original's input.
            parts: The samples.
            batches: What the block sees, and whether it is for choosing.
        """
        opened, kept = self._opened, self._change.kept
        most = rows_within(self.block, opened.options.working_bytes)
        taken = self._patches(parts.fit.count)
        # Every look is at these, so that as many as steps see would double the time.
        selected = parts.select.count if parts.select else 1
        judged = self._patches(selected, max(1, most // _JUDGES))
        geometry = taken.geometry
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
                sums.add(rows.z, rows.missing)
                fitting.add(rows, most_of_a_sample * seen.real, rng)
        objective = Objective(
            geometry=geometry,
            activation=reduced_activation(behind, kept),
            importance=self._importance(),
            provider=opened.provider,
            scores=self._scores,
        )
        judges = selecting.rows()
        starts = [
            plain,
            *regressions(
                self._change,
                plain.target.weight,
                target_moments(sums),
                parts.fit.independent,
                self._root(plain),
            ),
        ]
        values = [objective.value(start.factors, judges) for start in starts]
        best = starts[int(np.argmin(values))]
        self._advance(1)
        factors = refined(best.factors, objective, fitting.rows(), judges, rng, self._advance)
        return best if factors is best.factors else replace(best, factors=factors, refined=True)

    def _patches(self, samples: int, most: int | None = None) -> TargetPatches:
        kept, provider = self._change.kept, self._opened.provider
        return TargetPatches(self.block, self._linear, kept, samples, provider, most)

    def _importance(self) -> Floats | None:
        consumers = direct_consumers(self.block, self._opened.blocks)
        if not consumers:
            return None
        units = self._change.reduced.geometry.out_channels
        return consumers_gram(units, self._seen_by(consumers))

    def _root(self, plain: Fitted) -> Floats | None:
        """What outputs are weighted with in a regression; None where all count alike."""
        consumers, moments = direct_consumers(self.block, self._opened.blocks), plain.moments
        # A dense map loses nothing to any weighting.
        if self._change.form in ("spatial", "dense") or moments is None or not consumers:
            return None
        W = plain.target.weight[0]
        mean = W @ moments.mean[0] + plain.target.bias
        variance = np.einsum("rc,rc->r", W @ moments.covariance[0], W)
        activation = reduced_activation(self.block.activation, self._change.kept)
        return importance_root(activation, mean, variance, self._seen_by(consumers))

    def _seen_by(self, consumers: Iterable[Block]) -> Iterator[LinearMap]:
        """The consumers' maps of the outputs that are left."""
        kept = self._change.kept
        for consumer in consumers:
            linear = self._opened.folding(consumer)
            yield linear if kept is None else of_inputs(consumer.geometry, linear, kept.outputs)
