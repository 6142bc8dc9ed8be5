"""All forms by name, and those that cut the rank of the weight itself.

    pair     Gemm, MatMul: columns -> rank -> rows.
    channel  Conv: the whole kernel to `rank` channels, then 1x1.
    spatial  2-D Conv: (kernel rows x 1) to `rank` channels, then (1 x kernel columns).
    tucker   Conv: 1x1 to p channels, the whole kernel (the core) from p to r, then 1x1.
    dense    The block's own layer with other values.

The best L of rank k in the metric C is U U' W with U the k leading eigenvectors of W C W'.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np

from onnx_relusv.core.blocks import Floats, Geometry, LinearMap, Moments
from onnx_relusv.core.plans import Factors
from onnx_relusv.rewrites.low_rank.form import Form, Nested, of_width, pointwise
from onnx_relusv.rewrites.low_rank.spatial import Spatial
from onnx_relusv.rewrites.low_rank.tucker import Tucker
from onnx_relusv.spectra.singular import Decomposition, left_basis


class _Truncated(Nested):
    @cached_property
    def _second(self) -> Floats:
        return left_basis(self.W, self.metric, self.largest)[:, : self.largest]

    @cached_property
    def _first(self) -> Floats:
        return self._second.T @ self.W

    def at(self, rank: int) -> tuple[Floats, Floats]:
        return self._first[:rank], self._second[:, :rank]

    def gaps(self, part: Decomposition, ranks: Sequence[int]) -> Floats:
        return np.append(part.sigma, 0.0)[list(ranks)]


class _OfWeight(Form):
    """The rank is that of the weight, whose decomposition has all levels."""

    nested = _Truncated

    def largest_rank(self, geometry: Geometry) -> int:
        return geometry.largest_rank


class Pair(_OfWeight):
    """Two matrices, one behind the other."""

    name = "pair"

    def fits(self, geometry: Geometry) -> bool:
        """There is no kernel."""
        return not geometry.kernel

    def layers(self, geometry: Geometry, rank: int) -> tuple[Geometry, ...]:
        """Both are of the block's kind."""
        return (
            of_width(geometry, geometry.in_channels, rank),
            of_width(geometry, rank, geometry.out_channels),
        )


class Channel(_OfWeight):
    """The whole kernel to fewer channels, then 1x1; all that a 1x1 kernel can have."""

    name = "channel"

    def fits(self, geometry: Geometry) -> bool:
        """There is a kernel."""
        return bool(geometry.kernel)

    def layers(self, geometry: Geometry, rank: int) -> tuple[Geometry, ...]:
        """The first has the block's own strides, dilations and pads."""
        return (
            of_width(geometry, geometry.in_channels // geometry.groups, rank),
            pointwise(geometry, rank, geometry.rows),
        )


class Dense(_OfWeight):
    """The block's own layer with other values; its rank is the largest that these may have."""

    name = "dense"
    one_layer = True

    def fits(self, geometry: Geometry) -> bool:
        """It is no double layer, and makes nothing smaller."""
        return False

    def layers(self, geometry: Geometry, rank: int) -> tuple[Geometry, ...]:
        """The block's."""
        return (geometry,)

    def factors(
        self,
        geometry: Geometry,
        linear: LinearMap,
        moments: Moments | None,
        ranks: Sequence[int],
    ) -> Iterator[Factors]:
        """The linear map as it is, at any rank."""
        for rank in ranks:
            yield Factors(form=self.name, rank=rank, matrices=(linear.weight,), bias=linear.bias)

    def levels(
        self,
        geometry: Geometry,
        linear: LinearMap,
        moments: Moments | None,
        parts: Sequence[Decomposition],
        ranks: Sequence[int],
    ) -> Floats:
        """Nothing is lost."""
        return np.zeros(len(ranks))


DENSE = Dense()
FORMS: Mapping[str, Form] = {
    form.name: form for form in (Pair(), Channel(), Spatial(), Tucker(), DENSE)
}


def available_forms(geometry: Geometry) -> tuple[str, ...]:
    """The names of the forms that blocks of a geometry are offered."""
    return tuple(name for name, form in FORMS.items() if form.fits(geometry))


def double_layer(
    form: str, geometry: Geometry, linear: LinearMap, moments: Moments | None, rank: int
) -> Factors:
    """The factors of a form at a rank.

    Args:
        form: Name of the form.
        geometry: The block's geometry.
        linear: Its linear map.
        moments: Of its input; C = I and mean 0 if None.
        rank: Inner width, per group, from 1 to the form's largest.
    """
    return next(FORMS[form].factors(geometry, linear, moments, [rank]))
