"""What a form of double layer is, and what all forms share.

A double layer replaces the linear map x -> Wx + b by x -> U(Vx) + b'. In every form stride, pads
and dilation are placed so that the layers compute the one map with the composed kernel L, padded
borders included; that needs all layers but the last to have no bias.

A form says which layers these are, as geometries, into which matrix it unfolds the kernel before
it cuts its rank, and what the factors of every rank are. From that follow sizes,
multiply-accumulates, stored weights, the composed kernel, its chain rule, levels and biases.

Everything is measured in |(W - L) C^(1/2)| with C the centred covariance of the input; the mean
goes into the bias, b' = b + (W - L) mean, so that the double layer is right on average.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from onnx_relusv.core.blocks import (
    Covariance,
    FactoredCovariance,
    Floats,
    Geometry,
    LinearMap,
    Moments,
)
from onnx_relusv.core.kinds import Shape, kind_of
from onnx_relusv.core.linear_algebra import energy
from onnx_relusv.core.plans import Factors
from onnx_relusv.spectra.singular import Decomposition, spectral_norm

# float64, or float32 where a graph goes on with it.
Reals = TypeVar("Reals", Floats, npt.NDArray[np.float32])
# Ranks at which the levels of a costly form of a wide block are measured.
_MOST_MEASURED = 12


class Nested(ABC):
    """One group's factors at every rank up to a largest one; what they share is computed once.

    Args:
        geometry: The block's geometry.
        W: (rows, columns) of the group.
        metric: (columns, columns) positive definite C, or, unless the form is costly, a factored
            one; the identity if None.
        largest: The largest rank.
    """

    def __init__(
        self, geometry: Geometry, W: Floats, metric: Covariance | None, largest: int
    ) -> None:
        self.geometry, self.W, self.metric, self.largest = geometry, W, metric, largest

    @property
    def C(self) -> Floats | None:  # noqa: N802 - the covariance is C everywhere
        """The metric of a costly form."""
        assert not isinstance(self.metric, FactoredCovariance)
        return self.metric

    @abstractmethod
    def at(self, rank: int) -> tuple[Floats, ...]:
        """The factors at a rank, one of each of `Form.shapes`."""

    @abstractmethod
    def gaps(self, part: Decomposition, ranks: Sequence[int]) -> Sequence[float] | Floats:
        """|(W - L) C^(1/2)|_2 at several increasing ranks; `part` decomposes W C^(1/2)."""


@dataclass(frozen=True)
class LevelLoad:
    """What the levels of a form take beside the block's own decomposition.

    Attributes:
        side: Of the Gram matrix that is decomposed; 0 where there is none.
        copies: Arrays as large as the covariance that are held at a time, with moments.
        products: Multiplications with the covariance, with moments.
    """

    side: int = 0
    copies: int = 0
    products: int = 0


class Form(ABC):
    """A form of double layer.

    Attributes:
        name: In plan files, reports and the cache.
        unfolding: What is said behind a rank that is of another matrix than the block's, whose
            spectrum it is shown in; empty where it is of that one.
        one_layer: Whether the block stays one layer, with other values; its level is 0.
        costly: Whether levels take more than the block's spectrum, so that not all ranks are
            offered; the factors of a wide block, whose C is factored, are then those of C = I, for
            their bases would take square arrays. Their level and their bias are of C.
        rows_are_outputs: Whether a row of the last factor is an output channel.
        nested: What computes its factors.
    """

    name: ClassVar[str]
    nested: ClassVar[type[Nested]]
    unfolding: ClassVar[str] = ""
    one_layer: ClassVar[bool] = False
    costly: ClassVar[bool] = False
    rows_are_outputs: ClassVar[bool] = True

    @abstractmethod
    def fits(self, geometry: Geometry) -> bool:
        """Whether blocks of this geometry are offered the form."""

    @abstractmethod
    def layers(self, geometry: Geometry, rank: int) -> tuple[Geometry, ...]:
        """The layers, in the order in which they run, at an inner width per group."""

    @abstractmethod
    def largest_rank(self, geometry: Geometry) -> int:
        """The least rank with which the form reproduces any kernel."""

    def shapes(self, geometry: Geometry, rank: int) -> tuple[tuple[int, int], ...]:
        """Shapes of one group's factors as matrices, in the order in which their layers run."""
        return tuple((layer.rows, layer.columns) for layer in self.layers(geometry, rank))

    def parameters(self, geometry: Geometry, rank: int) -> int:
        """Numbers in all factors, over all groups, without the bias."""
        return geometry.groups * sum(map(prod, self.shapes(geometry, rank)))

    def macs(self, geometry: Geometry, rank: int, source_shape: Shape) -> int:
        """Multiply-accumulates of all layers for one sample, whose input has this shape."""
        return layers_macs(self.layers(geometry, rank), source_shape)

    def load(self, geometry: Geometry) -> LevelLoad:
        """What its levels take."""
        return LevelLoad()

    def as_layers(self, geometry: Geometry, matrices: Sequence[Floats]) -> tuple[Floats, ...]:
        """The factors as the (groups, rows, columns) matrices of their layers."""
        return tuple(matrices)

    def from_layers(self, geometry: Geometry, layers: Sequence[Floats]) -> tuple[Floats, ...]:
        """The inverse of `as_layers`."""
        return tuple(layers)

    def stored(
        self, geometry: Geometry, rank: int, matrices: Sequence[Floats]
    ) -> tuple[npt.NDArray[np.float64], ...]:
        """The factors in the shapes in which the nodes of their layers read them."""
        layers = zip(self.layers(geometry, rank), self.as_layers(geometry, matrices), strict=True)
        return tuple(kind_of(layer).stored(layer, matrix) for layer, matrix in layers)

    def unfold(self, geometry: Geometry, weight: Reals) -> Reals:
        """The matrix whose rank the form cuts, per group.

        Args:
            geometry: The block's geometry.
            weight: (groups, rows, columns); of all groups or of some.

        Returns:
            (groups, rows of the last factor, columns that the others together have).
        """
        return weight

    def fold(self, geometry: Geometry, matrix: Reals) -> Reals:
        """The inverse of `unfold`: (groups, rows, columns) from the form's own matrix."""
        return matrix

    def reads(self, geometry: Geometry, before: Sequence[Floats]) -> Floats:
        """What a layer behind others reads, as a linear map of the block's patch.

        Args:
            geometry: The block's geometry.
            before: Matrices of the layers before it, one at least.

        Returns:
            (groups, the layer's columns, the block's columns).
        """
        return self.inner(*before)

    def first_metric(self, geometry: Geometry, covariance: Floats) -> Floats:
        """The covariance of what the first layer reads, from that of one group's patches."""
        return covariance

    def inner(self, first: Reals, *further: Reals) -> Reals:
        """What all layers but the last compute, as one factor (groups, rank, columns)."""
        return first

    def inner_slopes(self, slope: Reals, first: Reals, *further: Reals) -> list[Reals]:
        """The chain rule through `inner`.

        Args:
            slope: With respect to what `inner` gives.
            first: As given to it.
            further: Likewise.

        Returns:
            With respect to each of these.
        """
        return [slope]

    def compose(self, geometry: Geometry, *matrices: Reals) -> Reals:
        """The dense kernel L, (groups, rows, columns), that factors stand for.

        Args:
            geometry: The block's geometry.
            matrices: One of each of `shapes`, in that order, with the groups as their first axis.
        """
        if len(matrices) == 1:
            return self.fold(geometry, matrices[0])
        return self.fold(geometry, matrices[-1] @ self.inner(*matrices[:-1]))

    def slopes(
        self,
        geometry: Geometry,
        matrices: Sequence[npt.NDArray[np.float32]],
        map_slope: npt.NDArray[np.float32],
    ) -> list[Floats]:
        """The chain rule through `compose`.

        Args:
            geometry: The block's geometry.
            matrices: As given to it.
            map_slope: (groups, rows, columns), with respect to L.

        Returns:
            With respect to each matrix.
        """
        matrix = self.unfold(geometry, map_slope)
        *before, last = matrices
        if not before:
            return [np.asarray(matrix, np.float64)]
        inner_slope = np.asarray(last.transpose(0, 2, 1) @ matrix, np.float32)
        last_slope = matrix @ self.inner(*before).transpose(0, 2, 1)
        slopes = (*self.inner_slopes(inner_slope, *before), last_slope)
        return [np.asarray(slope, np.float64) for slope in slopes]

    def balanced(self, *matrices: Floats) -> tuple[Floats, ...]:
        """Factors whose inner channels are equally long on both sides; L stays the same.

        Low-precision storage needs that. Of all factors with one product these have the least sum
        of squares, and steps of one length do as much to each of them.

        Args:
            matrices: As `compose` takes them.

        Returns:
            The same with equal norms before and behind every inner channel, but for those that
            are zero on one side, which stay as they are.
        """
        if len(matrices) == 1:
            return matrices
        first, second = matrices
        scale = np.sqrt(ratio(np.linalg.norm(first, axis=2), np.linalg.norm(second, axis=1)))
        return first * scale[:, :, None], second / scale[:, None, :]

    def factors(
        self,
        geometry: Geometry,
        linear: LinearMap,
        moments: Moments | None,
        ranks: Sequence[int],
    ) -> Iterator[Factors]:
        """The factors at several ranks.

        Args:
            geometry: The block's geometry.
            linear: Its linear map.
            moments: Of its input; C = I and mean 0 if None.
            ranks: Inner widths, per group, from 1 to `largest_rank`.
        """
        nested = [
            self.nested(geometry, W, self._metric(moments, group), max(ranks))
            for group, W in enumerate(linear.weight)
        ]
        for rank in ranks:
            groups = [group.at(rank) for group in nested]
            matrices = self.balanced(*(np.stack(each) for each in zip(*groups, strict=True)))
            bias = linear.bias
            if moments is not None:
                composed = self.compose(geometry, *matrices)
                mean = moments.mean[:, :, None]
                # Not of their difference, which is as large as the weight.
                bias = bias + (linear.weight @ mean - composed @ mean).reshape(-1)
            yield Factors(form=self.name, rank=rank, matrices=matrices, bias=bias)

    def levels(
        self,
        geometry: Geometry,
        linear: LinearMap,
        moments: Moments | None,
        parts: Sequence[Decomposition],
        ranks: Sequence[int],
    ) -> Floats:
        """The level |(W - L) C^(1/2)|_2 / |W C^(1/2)|_2 at several ranks.

        Args:
            geometry: The block's geometry.
            linear: Its linear map.
            moments: Of its input; C = I if None.
            parts: The linear map's decomposition in that metric, one a group.
            ranks: Increasing.

        Returns:
            (len(ranks),) float64; the largest gap over the groups over the largest norm over them.
        """
        if moments is not None and moments.factored and self.costly:
            gaps = self._interpolated(geometry, linear, moments, ranks)
        else:
            gaps = np.zeros((geometry.groups, len(ranks)))
            for group, W in enumerate(linear.weight):
                metric = self._metric(moments, group)
                nested = self.nested(geometry, W, metric, max(ranks))
                gaps[group] = nested.gaps(parts[group], ranks)
        largest = max(float(part.sigma[0]) for part in parts)
        return gaps.max(axis=0) / largest if largest > 0 else np.zeros(len(ranks))

    def _metric(self, moments: Moments | None, group: int) -> Covariance | None:
        """The metric of bases and factors: of a costly form C = I where C is factored."""
        metric = None if moments is None else moments.of_group(group)
        return None if self.costly and isinstance(metric, FactoredCovariance) else metric

    def _interpolated(
        self, geometry: Geometry, linear: LinearMap, moments: Moments, ranks: Sequence[int]
    ) -> Floats:
        """(groups, ranks) |(W - L) C^(1/2)|_2 of a wide block; between a few ranks interpolated."""
        places = np.linspace(0, len(ranks) - 1, min(len(ranks), _MOST_MEASURED)).round().astype(int)
        measured = [ranks[place] for place in places]
        found = np.zeros((geometry.groups, len(measured)))
        for place, factors in enumerate(self.factors(geometry, linear, None, measured)):
            composed = self.compose(geometry, *factors.matrices)
            for group, (W, L) in enumerate(zip(linear.weight, composed, strict=True)):
                found[group, place] = spectral_norm(energy(W - L, moments.of_group(group)))
        return np.stack([np.interp(ranks, measured, own) for own in found])


def layers_macs(layers: Sequence[Geometry], source_shape: Shape) -> int:
    """Multiply-accumulates of layers that run one behind the other, for one sample."""
    total, shape = 0, source_shape
    for layer in layers:
        total += kind_of(layer).macs(layer, shape)
        shape = kind_of(layer).output_shape(layer, shape)
    return total


def ratio(before: Floats, after: Floats) -> Floats:
    """What `before` has to be multiplied with to be `after`; 1 where either is 0."""
    found = np.ones_like(before)
    np.divide(after, before, out=found, where=(before > 0) & (after > 0))
    return found


def pointwise(geometry: Geometry, inputs: int, outputs: int) -> Geometry:
    """A 1x1 layer from and to so many channels of every group."""
    axes = len(geometry.kernel)
    one = (1,) * axes
    return replace(
        geometry,
        in_channels=geometry.groups * inputs,
        out_channels=geometry.groups * outputs,
        kernel=one,
        strides=one,
        dilations=one,
        pads=(0,) * (2 * axes),
        auto_pad="NOTSET",
    )


def of_width(geometry: Geometry, inputs: int, outputs: int) -> Geometry:
    """A layer with the block's own kernel, from and to so many channels of every group."""
    groups = geometry.groups
    return replace(geometry, in_channels=groups * inputs, out_channels=groups * outputs)
