"""The error of a block's answers behind its activation, as its consumers feel it.

    E e'Se,    e = phi(Lz + b' + s') - phi(Wx + b + s),

S the consumers' Gram matrix or the identity, s and s' what shortcuts add. It is the objective of
Zhang, Zou, He, Sun (2015), equation 8, with S.

Where a block's answers are class scores, their squared error is not what counts: there the
Kullback-Leibler divergence of softmax(Lz + b') from softmax(Wx + b) stands in its place. What all
scores of a sample have in common is nothing to a softmax, so steps carry it anywhere; it is put
back afterwards (common_shift).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from onnx_relusv.common_shift import levelled
from onnx_relusv.decisions import Factors
from onnx_relusv.objectives import ROUNDINGS, Slopes, map_feeds, run, slopes_feed, steps_over
from onnx_relusv.records import Activation, Floats, Geometry, ReadOnlyArrays
from onnx_relusv.runtime.refine_kernels import (
    error_kernel,
    score_error_kernel,
    score_slope_kernel,
    slope_kernel,
)
from onnx_relusv.runtime.session import Session
from onnx_relusv.spectra.target_rows import Rows


class _Kernels(NamedTuple):
    """What computes one thing, of answers and of class scores."""

    of_answers: Callable[..., Session]
    of_scores: Callable[[str], Session]


_JUDGING = _Kernels(error_kernel, score_error_kernel)
_SLOPING = _Kernels(slope_kernel, score_slope_kernel)


@dataclass(frozen=True, eq=False, kw_only=True)
class OwnAnswers(ReadOnlyArrays):
    """E e'Se over rows, or the divergence of class scores, for factors of a block.

    Attributes:
        geometry: The block's.
        activation: What is behind the block's answer, or behind the sum that it goes into.
        importance: (out, out) float64 S; None for the identity.
        provider: Execution provider.
        scores: Whether the answers are class scores, which are compared behind a softmax. The
            block then has one group, no activation, and no shortcut.
    """

    geometry: Geometry
    activation: Activation
    importance: Floats | None
    provider: str
    scores: bool = False

    def others(self, start: Factors, rows: Rows, selecting: Rows) -> tuple[Floats, ...]:
        """Nothing else is moved."""
        return ()

    def value(self, factors: Factors, rows: Rows, others: tuple[Floats, ...] = ()) -> float:
        """The mean of e'Se, or of the divergences in nats."""
        total = sum(
            float(self._run(factors, rows, chosen, _JUDGING)["loss"]) for chosen in steps_over(rows)
        )
        return total / max(rows.count, 1)

    def rounding(self, rows: Rows) -> float:
        """A value that rounding alone can make."""
        target = rows.target.astype(np.float64)
        if self.scores:
            return ROUNDINGS * float(np.mean(np.abs(target).max(axis=2)))
        return ROUNDINGS**2 * float(np.mean(np.sum(target**2, axis=(0, 2))))

    def slopes(
        self, factors: Factors, rows: Rows, chosen: slice, others: tuple[Floats, ...] = ()
    ) -> Slopes:
        """Half the derivatives of the mean over some rows; of divergences the derivatives."""
        found = self._run(factors, rows, chosen, _SLOPING)
        count = chosen.stop - chosen.start
        map_slope = found["map_slope"] / np.float32(count)
        return Slopes(map_slope, found["bias_slope"].reshape(-1).astype(np.float64) / count, ())

    def settled(self, factors: Factors, rows: Rows) -> Factors:
        """Class scores with what all of them have in common where the targets have it."""
        return levelled(factors, rows) if self.scores else factors

    def _run(
        self, factors: Factors, rows: Rows, chosen: slice, kernels: _Kernels
    ) -> dict[str, np.ndarray]:
        activation = self.activation
        feeds = map_feeds(self.geometry, factors, rows, chosen)
        if self.scores:
            return run(kernels.of_scores(self.provider), feeds)
        feeds["slope"] = slopes_feed(activation, self.geometry)
        if rows.shift is not None:
            feeds["shift"] = rows.shift[:, chosen]
        if activation.ceiling is not None:
            feeds["ceiling"] = np.full((1, 1, 1), activation.ceiling)
        if self.importance is not None:
            feeds["importance"] = self.importance[None]
        kernel = kernels.of_answers(
            self.provider,
            clipped=activation.ceiling is not None,
            weighted=self.importance is not None,
            shifted=rows.shift is not None,
        )
        return run(kernel, feeds)
