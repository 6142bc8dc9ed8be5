"""What a refinement descends, and how much of it is rounding.

The error of a block's answers behind its activation, as its consumers feel it.

    E e'Se,    e = phi(Lz + b' + s') - phi(Wx + b + s),

S the consumers' Gram matrix or the identity, s and s' what shortcuts add. It is the objective of
Zhang, Zou, He, Sun (2015), equation 8, with S.

Where a block's answers are class scores, their squared error is not what counts: there the
Kullback-Leibler divergence of softmax(Lz + b') from softmax(Wx + b) stands in its place. What all
scores of a sample have in common is nothing to a softmax, so steps carry it anywhere; it is put
back afterwards (`recentred`).

How well what is left of a block's units tells its consumers what all units told them.

    E e'Se,    e = B phi(Lz + b') + c - phi(Wx + b),

with one row of e for every unit of the whole block, L and b' of the units that are left, and S the
consumers' Gram matrix. B and c stand for the consumers: whatever a linear map of the kept units
makes of the removed ones, they will be fitted to. Moved together with them, the kept units need
not stay what they were: they become those from which all of them follow best. Our reading: what
neuron merging does for one pair of layers (Kim, Kim, Park, Kim, "Neuron Merging", NeurIPS 2020),
with the kept units free too, on what really runs through them. With S = R'R it is the square of
(RB) phi(Lz + b') + Rc - R phi(Wx + b): since B and c are no result, RB and Rc are moved in their
place, R phi(Wx + b) is computed once, and no step multiplies with S.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np

from onnx_relusv.core.blocks import Activation, Floats, Geometry, ReadOnlyArrays
from onnx_relusv.core.plans import Factors
from onnx_relusv.fitting.regression import recentred, regression
from onnx_relusv.rewrites.low_rank.forms import FORMS
from onnx_relusv.runtime.kernels.refinement import (
    activated_kernel,
    error_kernel,
    reproduction_error_kernel,
    reproduction_slope_kernel,
    score_error_kernel,
    score_slope_kernel,
    slope_kernel,
)
from onnx_relusv.runtime.session import Session
from onnx_relusv.spectra.product_sums import ProductSums, Rows, target_moments

ROWS_A_STEP = 1024
# Beside what an error of float32 makes of targets. Of less than this there is nothing to refine.
ROUNDINGS = 8 * float(np.finfo(np.float32).eps)


class Slopes(NamedTuple):
    """Derivatives of an objective's mean, or half of them where it is a square.

    Attributes:
        matrices: With respect to each of the factors, in their shapes, float32.
        bias: (out,) float32.
        others: With respect to what else is moved, float32.
    """

    matrices: tuple[np.ndarray, ...]
    bias: np.ndarray
    others: tuple[np.ndarray, ...]


class Objective(Protocol):
    """How far factors are from what is wanted, over rows.

    Beside the factors, other numbers may be moved that the block itself does not have; they begin
    with `others`, and are not a result of the fit.
    """

    @property
    def geometry(self) -> Geometry:
        """Of what is left of the block."""
        ...

    def compared(self, rows: Rows) -> Rows:
        """Rows with their targets as answers are compared with them; all below take these."""
        ...

    def others(self, start: Factors, rows: Rows, selecting: Rows) -> tuple[Floats, ...]:
        """What else is moved, to begin with: found on rows, chosen on others."""
        ...

    def value(self, factors: Factors, rows: Rows, others: tuple[Floats, ...] = ()) -> float:
        """The mean over rows."""
        ...

    def slopes(
        self, factors: Factors, rows: Rows, chosen: slice, others: tuple[Floats, ...] = ()
    ) -> Slopes:
        """The derivatives of the mean over some rows."""
        ...

    def rounding(self, rows: Rows) -> float:
        """A value that rounding alone can make."""
        ...

    def settled(self, factors: Factors, rows: Rows) -> Factors:
        """Refined factors with what the objective does not see put right."""
        ...


def steps_over(rows: Rows) -> Iterator[slice]:
    """All rows, as many at a time as a step takes."""
    for start in range(0, rows.count, ROWS_A_STEP):
        yield slice(start, start + ROWS_A_STEP)


def map_feeds(geometry: Geometry, factors: Factors, rows: Rows, chosen: slice) -> dict[str, Floats]:
    """The inputs of a kernel that every objective has: some rows, and the map or its factors."""
    form, (*before, last) = FORMS[factors.form], _singles(factors)
    feeds = {
        "z": rows.z[:, chosen],
        "bias": factors.bias.reshape(geometry.groups, 1, geometry.rows),
    }
    if goes_through_factors(geometry, factors):
        return {**feeds, "map": last, "inner": form.inner(*before)}
    return {**feeds, "map": form.compose(geometry, *before, last)}


def goes_through_factors(geometry: Geometry, factors: Factors) -> bool:
    """Whether a step takes fewer products where rows go through the factors than through the map.

    That is counted for `ROWS_A_STEP` rows: of the map it takes two products with the rows, its
    composition and the chain rule, of the factors five with their rank in place of a side.
    """
    form, rank = FORMS[factors.form], int(factors.matrices[-1].shape[2])
    if form.one_layer or not form.rows_are_outputs:
        return False
    rows, columns = geometry.rows, geometry.columns
    through = ROWS_A_STEP * rank * (2 * columns + 3 * rows)
    return through < rows * columns * (2 * ROWS_A_STEP + 3 * rank)


def chained(
    geometry: Geometry, factors: Factors, found: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, ...]:
    """The slopes of all factors from those that a kernel found."""
    form, (*before, last) = FORMS[factors.form], _singles(factors)
    if "inner_slope" in found:
        return (*form.inner_slopes(found["inner_slope"], *before), found["map_slope"])
    return tuple(form.slopes(geometry, [*before, last], found["map_slope"]))


def _singles(factors: Factors) -> list[Any]:
    return [np.asarray(matrix, np.float32) for matrix in factors.matrices]


def slopes_feed(activation: Activation, geometry: Geometry) -> Floats:
    """The activation's slopes for negative arguments, (groups, 1, rows)."""
    slopes = np.broadcast_to(activation.slopes, (geometry.out_channels,))
    return slopes.reshape(geometry.groups, 1, geometry.rows)


def run(kernel: Session, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Runs a kernel in float32."""
    ready = {name: np.ascontiguousarray(each, np.float32) for name, each in feeds.items()}
    return kernel.run(ready)


class _Kernels(NamedTuple):
    """What computes one thing, of answers and of class scores."""

    of_answers: Callable[..., Session]
    of_scores: Callable[[str, bool], Session]


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

    def compared(self, rows: Rows) -> Rows:
        """The rows as they are."""
        return rows

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
        found = _means(self._run(factors, rows, chosen, _SLOPING), chosen)
        matrices = chained(self.geometry, factors, found)
        return Slopes(matrices, found["bias_slope"].reshape(-1), ())

    def settled(self, factors: Factors, rows: Rows) -> Factors:
        """Class scores with what all of them have in common where the targets have it."""
        return recentred(factors, rows) if self.scores else factors

    def _run(
        self, factors: Factors, rows: Rows, chosen: slice, kernels: _Kernels
    ) -> dict[str, np.ndarray]:
        activation = self.activation
        feeds = map_feeds(self.geometry, factors, rows, chosen)
        feeds["target"] = rows.target[:, chosen]
        factored = "inner" in feeds
        if self.scores:
            return run(kernels.of_scores(self.provider, factored), feeds)
        feeds["slope"] = slopes_feed(activation, self.geometry)
        if rows.shift is not None:
            feeds["shift"] = rows.shift[:, chosen]
        if activation.ceiling is not None:
            feeds["ceiling"] = np.full((1, 1, 1), activation.ceiling)
        if self._single_importance is not None:
            feeds["importance"] = self._single_importance
        kernel = kernels.of_answers(
            self.provider,
            clipped=activation.ceiling is not None,
            weighted=self.importance is not None,
            shifted=rows.shift is not None,
            factored=factored,
        )
        return run(kernel, feeds)

    @cached_property
    def _single_importance(self) -> np.ndarray | None:
        """As kernels read it: at every step the same, and as large as the block's map."""
        return None if self.importance is None else self.importance[None].astype(np.float32)


def _means(sums: Mapping[str, np.ndarray], chosen: slice) -> dict[str, np.ndarray]:
    """What a kernel added up over some rows, divided by their number."""
    count = np.float32(chosen.stop - chosen.start)
    return {name: values / count for name, values in sums.items()}


# Of the mean variance of the kept units, by which B is drawn towards leaving them as they are: from
# nothing, where a few units really tell the others, to what few samples need.
_RIDGES = (1e-9, 1e-4, 1e-2, 1.0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Reproduction(ReadOnlyArrays):
    """E e'Se over rows with the answers of all units, for factors of those that are left.

    What is moved besides the factors are RB and Rc, of S = R'R.

    Attributes:
        geometry: Of what is left of the block; one group.
        activation: Of the units that are left.
        whole_geometry: Of the whole block.
        whole_activation: Of all its units.
        kept: (kept,) int64, the units that are left.
        importance: (units, units) float64 S.
        provider: Execution provider.
    """

    geometry: Geometry
    activation: Activation
    whole_geometry: Geometry
    whole_activation: Activation
    kept: np.ndarray
    importance: Floats
    provider: str

    def compared(self, rows: Rows) -> Rows:
        """Rows with R phi(t) as their targets."""
        activation, target = self.whole_activation, rows.target
        slopes = activation.slopes.astype(np.float32)
        answers = np.where(target > 0, target, slopes * target)
        if activation.ceiling is not None:
            answers = np.minimum(answers, np.float32(activation.ceiling))
        return replace(rows, target=answers @ self._root.T.astype(np.float32))

    def others(self, start: Factors, rows: Rows, selecting: Rows) -> tuple[Floats, ...]:
        """RB and Rc by least squares, with the ridge that is best on the selecting rows."""
        sums = ProductSums(1, len(self.kept), self.whole_geometry.rows, self.provider)
        for chosen in steps_over(rows):
            feeds = self._feeds(start, rows, chosen)
            kernel = activated_kernel(
                self.provider, clipped=self._clipped, factored="inner" in feeds
            )
            sums.add(run(kernel, feeds)["activated"], rows.target[:, chosen])
        moments = target_moments(sums)
        # Of B it is towards leaving the kept units as they are.
        towards = self._root[None, :, self.kept]
        tried = [regression(towards, moments, ridge) for ridge in _RIDGES]
        offered = [(linear.weight[0], linear.bias) for linear in tried]
        return min(offered, key=lambda others: self.value(start, selecting, others))

    def value(self, factors: Factors, rows: Rows, others: tuple[Floats, ...] = ()) -> float:
        """The mean of e'Se."""
        total = sum(
            float(self._run(factors, rows, chosen, others, reproduction_error_kernel)["loss"])
            for chosen in steps_over(rows)
        )
        return total / max(rows.count, 1)

    def rounding(self, rows: Rows) -> float:
        """A value that rounding alone can make."""
        return ROUNDINGS**2 * float(np.mean(np.sum(rows.target.astype(np.float64) ** 2, axis=2)))

    def slopes(
        self, factors: Factors, rows: Rows, chosen: slice, others: tuple[Floats, ...] = ()
    ) -> Slopes:
        """Half the derivatives of the mean over some rows, for RB and Rc too."""
        sums = self._run(factors, rows, chosen, others, reproduction_slope_kernel)
        found = _means(sums, chosen)
        matrices = chained(self.geometry, factors, found)
        offset = found["offset_slope"].reshape(-1)
        bias = found["bias_slope"].reshape(-1)
        return Slopes(matrices, bias, (found["reading_slope"][0], offset))

    def settled(self, factors: Factors, rows: Rows) -> Factors:
        """The factors: consumers will see all of them."""
        return factors

    @property
    def _clipped(self) -> bool:
        return self.activation.ceiling is not None

    @cached_property
    def _root(self) -> Floats:
        """(units, units) float64 R, upper triangular."""
        return np.asarray(np.linalg.cholesky(self.importance).T)

    def _feeds(self, factors: Factors, rows: Rows, chosen: slice) -> dict[str, np.ndarray]:
        feeds = map_feeds(self.geometry, factors, rows, chosen)
        feeds["slope"] = slopes_feed(self.activation, self.geometry)
        if self._clipped:
            feeds["ceiling"] = np.full((1, 1, 1), self.activation.ceiling)
        return feeds

    def _run(
        self,
        factors: Factors,
        rows: Rows,
        chosen: slice,
        others: tuple[Floats, ...],
        kernel: Callable[..., Session],
    ) -> dict[str, np.ndarray]:
        reading, offset = others
        feeds = {
            **self._feeds(factors, rows, chosen),
            "target": rows.target[:, chosen],
            "reading": reading[None],
            "offset": offset[None, None],
        }
        factored = "inner" in feeds
        return run(kernel(self.provider, clipped=self._clipped, factored=factored), feeds)
