"""Double layers in numbers: from a linear map, the moments of its input, a form and a rank.

Everything is measured in |(W - L) C^(1/2)| with C the centred covariance of the input; the mean
goes into the bias, b' = b + (W - L) mean, so that the double layer is right on average.

pair, channel: the best L of rank k is U U' W with U the k leading eigenvectors of W C W'.

spatial: L is a sum over kernel columns x of Q_x P, P of shape (k, c*y) and Q of shape (o*x, k). P
spans the best rank k of the unfolded kernel in the covariance of one kernel column, averaged over
the columns; Q is then the least squares answer in the whole C. For C = I both steps are the plain
SVD of the unfolded kernel.

tucker: see the module of that name.

dense: W itself.

Where C is factored, as that of a wide block is (covariance), spatial and tucker factors are those
of C = I; their level and their bias are of C. Their least squares would take square arrays.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import helper

from onnx_relusv.core.blocks import (
    Block,
    Covariance,
    FactoredCovariance,
    Floats,
    Geometry,
    LinearMap,
    Moments,
)
from onnx_relusv.core.linear_algebra import energy, solved
from onnx_relusv.core.plans import Factors, Form
from onnx_relusv.core.reduction import reduced_geometry, whole_map
from onnx_relusv.rewrites.low_rank import forms
from onnx_relusv.rewrites.low_rank.tucker import NestedTucker, balanced
from onnx_relusv.spectra.singular import (
    Decomposition,
    decompose,
    left_basis,
    measured,
    metric_norm,
    spectral_norm,
)

# Forms whose bases are of an unfolded kernel.
_UNFOLDED: frozenset[Form] = frozenset({"spatial", "tucker"})
# Ranks at which the levels of such a form of a wide block are measured.
_MOST_MEASURED = 12


def levels(
    form: Form,
    geometry: Geometry,
    linear: LinearMap,
    moments: Moments | None,
    parts: Sequence[Decomposition],
    ranks: Sequence[int],
) -> Floats:
    """The level |(W - L) C^(1/2)|_2 / |W C^(1/2)|_2 of a form at several ranks.

    Args:
        form: The form.
        geometry: The block's geometry.
        linear: Its linear map.
        moments: Of its input; C = I if None.
        parts: The linear map's decomposition in that metric, one a group.
        ranks: Increasing.

    Returns:
        (len(ranks),) float64; the largest gap over the groups over the largest norm over them.
    """
    if form == "dense":
        return np.zeros(len(ranks))
    gaps = np.zeros((geometry.groups, len(ranks)))
    if moments is not None and moments.factored and form in _UNFOLDED:
        gaps[...] = _measured_gaps(form, geometry, linear, moments, ranks)
    else:
        for group in range(geometry.groups):
            W, C = linear.weight[group], _dense_metric(moments, group)
            if form == "spatial":
                gaps[group] = [spectral_norm(gram) for gram in _spatial_gaps(geometry, W, C, ranks)]
            elif form == "tucker":
                nested = NestedTucker(geometry, W, C, max(ranks))
                gaps[group] = [spectral_norm(gram) for gram in nested.gaps(ranks)]
            else:
                gaps[group] = np.append(parts[group].sigma, 0.0)[list(ranks)]
    largest = max(float(part.sigma[0]) for part in parts)
    return gaps.max(axis=0) / largest if largest > 0 else np.zeros(len(ranks))


def double_layer(
    form: Form, geometry: Geometry, linear: LinearMap, moments: Moments | None, rank: int
) -> Factors:
    """The factors of a form at a rank.

    Args:
        form: The form.
        geometry: The block's geometry.
        linear: Its linear map.
        moments: Of its input; C = I and mean 0 if None.
        rank: Inner width, per group, from 1 to `forms.largest_rank`.
    """
    return next(double_layers(form, geometry, linear, moments, [rank]))


def double_layers(
    form: Form,
    geometry: Geometry,
    linear: LinearMap,
    moments: Moments | None,
    ranks: Sequence[int],
) -> Iterator[Factors]:
    """The factors of a form at several ranks; what they share is computed once.

    Args:
        form: The form.
        geometry: The block's geometry.
        linear: Its linear map.
        moments: Of its input; C = I and mean 0 if None.
        ranks: Inner widths, per group, from 1 to `forms.largest_rank`.
    """
    if form == "dense":
        yield from (
            Factors(form=form, rank=rank, matrices=(linear.weight,), bias=linear.bias)
            for rank in ranks
        )
        return
    largest = max(ranks)
    nested = [
        NestedTucker(geometry, W, _dense_metric(moments, group), largest)
        if form == "tucker"
        else _Nested(form, geometry, W, _metric(moments, group), largest)
        for group, W in enumerate(linear.weight)
    ]
    for rank in ranks:
        groups = [group.at(rank) for group in nested]
        matrices = balanced(*(np.stack(each) for each in zip(*groups, strict=True)))
        bias = linear.bias
        if moments is not None:
            composed = forms.compose(form, geometry, *matrices)
            mean = moments.mean[:, :, None]
            # Not of their difference, which is as large as the weight.
            bias = bias + (linear.weight @ mean - composed @ mean).reshape(-1)
        yield Factors(
            form=form,
            rank=rank,
            matrices=matrices,
            bias=bias,
        )


def decompose_block(linear: LinearMap, moments: Moments | None) -> tuple[Decomposition, ...]:
    """The decomposition of a linear map in the metric of its input, one a group."""
    return tuple(measured(W, _metric(moments, group)) for group, W in enumerate(linear.weight))


def composed_level(linear: LinearMap, composed: Floats, moments: Moments | None) -> float:
    """The level of a dense kernel (groups, rows, columns) in place of the linear map's weight."""
    gaps, norms = [], []
    for group, (W, L) in enumerate(zip(linear.weight, composed, strict=True)):
        C = _metric(moments, group)
        gaps.append(metric_norm(W - L, C))
        norms.append(metric_norm(W, C))
    return max(gaps) / max(norms) if max(norms) > 0 else 0.0


def as_stored(block: Block, factors: Factors) -> LinearMap:
    """The dense map that factors stand for once they are rounded to the types they are stored in.

    It has the whole block's shape; what belongs to removed channels is zero.
    """
    dtype = helper.tensor_dtype_to_np_dtype(block.weight_type)
    matrices = [matrix.astype(dtype).astype(np.float64) for matrix in factors.matrices]
    bias = factors.bias.astype(helper.tensor_dtype_to_np_dtype(block.element_type))
    geometry = reduced_geometry(block.geometry, factors.kept)
    kernel = forms.compose(factors.form, geometry, *matrices)
    reduced = LinearMap(kernel, bias.astype(np.float64))
    return whole_map(block.geometry, reduced, factors.kept)


def _metric(moments: Moments | None, group: int) -> Covariance | None:
    return None if moments is None else moments.of_group(group)


def _dense_metric(moments: Moments | None, group: int) -> Floats | None:
    """The metric of forms that unfold the kernel; C = I where it is factored."""
    metric = _metric(moments, group)
    return None if isinstance(metric, FactoredCovariance) else metric


def _measured_gaps(
    form: Form, geometry: Geometry, linear: LinearMap, moments: Moments, ranks: Sequence[int]
) -> Floats:
    """(groups, ranks) |(W - L) C^(1/2)|_2 of a wide block; between a few ranks interpolated."""
    places = np.linspace(0, len(ranks) - 1, min(len(ranks), _MOST_MEASURED)).round().astype(int)
    measured = [ranks[place] for place in places]
    found = np.zeros((geometry.groups, len(measured)))
    for place, factors in enumerate(double_layers(form, geometry, linear, None, measured)):
        composed = forms.compose(form, geometry, *factors.matrices)
        for group, (W, L) in enumerate(zip(linear.weight, composed, strict=True)):
            found[group, place] = spectral_norm(energy(W - L, moments.of_group(group)))
    return np.stack([np.interp(ranks, measured, own) for own in found])


class _Nested:
    """One group's factors at every rank up to a largest one."""

    def __init__(
        self, form: Form, geometry: Geometry, W: Floats, metric: Covariance | None, largest: int
    ) -> None:
        self._geometry = geometry
        self._seen: _Seen | None = None
        if form != "spatial":
            self._second = left_basis(W, metric, largest)[:, :largest]
            self._first = self._second.T @ W
            return
        C = None if isinstance(metric, FactoredCovariance) else metric
        self._first, self._second = _spatial_basis(geometry, W, C, largest)
        if C is not None:
            self._seen = _Seen.of(geometry, W, C, self._first)

    def at(self, rank: int) -> tuple[Floats, Floats]:
        """Both factors at a rank."""
        first = self._first[:rank]
        if self._seen is None:
            return first, self._second[:, :rank]
        width = self._geometry.kernel[1]
        seen = self._seen.truncated(width, rank)
        answer = solved(seen.within, seen.across.T).T
        # (o, x * k) -> (o * x, k), the rows of the spatial form.
        return first, answer.reshape(self._geometry.rows * width, rank)


def _spatial_basis(
    geometry: Geometry, W: Floats, C: Floats | None, rank: int
) -> tuple[Floats, Floats]:
    """P and a first Q from the unfolded kernel, in the mean covariance of a kernel column.

    With a metric, Q follows from P by least squares, and only the span of P's first k rows counts
    for every k; so they come orthonormal, which a kernel with dead channels would not give.
    """
    unfolded = forms.unfold("spatial", geometry, W[None])[0]
    column = None if C is None else np.einsum("ixjx->ij", _by_column(geometry, C))
    left = left_basis(unfolded, column)[:, :rank]
    first = left.T @ unfolded
    return (first if C is None else np.linalg.qr(first.T)[0].T), left


def _by_column(geometry: Geometry, C: Floats) -> Floats:
    """(c*y, x, c*y, x) view of a covariance of patches in the order (c, y, x)."""
    width = geometry.kernel[1]
    height = geometry.columns // width
    return C.reshape(height, width, height, width)


@dataclass(frozen=True, eq=False)
class _Seen:
    """What least squares for Q needs: S C S' and W C S', S the block diagonal of P over x."""

    within: Floats
    across: Floats

    @staticmethod
    def of(geometry: Geometry, W: Floats, C: Floats, first: Floats) -> "_Seen":
        width, rank = geometry.kernel[1], len(first)
        by_column = _by_column(geometry, C)
        # (x, k, c*y, x'): the inner channels' covariance with every input of the patch.
        inner = np.einsum("ki,ixjz->xkjz", first, by_column, optimize=True)
        within = np.einsum("xkjz,lj->xkzl", inner, first, optimize=True)
        across = W @ inner.reshape(width * rank, geometry.columns).T
        return _Seen(within.reshape(width * rank, width * rank), across)

    def truncated(self, width: int, rank: int) -> "_Seen":
        """The same for the first `rank` rows of P."""
        largest = len(self.within) // width
        keep = (np.arange(width)[:, None] * largest + np.arange(rank)).reshape(-1)
        return _Seen(self.within[np.ix_(keep, keep)], self.across[:, keep])


def _spatial_gaps(
    geometry: Geometry, W: Floats, C: Floats | None, ranks: Sequence[int]
) -> list[Floats]:
    """(W - L) C (W - L)' at several ranks; P is nested, so the costly products are made once."""
    if C is None:
        return _plain_spatial_gaps(geometry, W, ranks)
    largest = max(ranks)
    first, _ = _spatial_basis(geometry, W, C, largest)
    whole = energy(W, C)
    everything = _Seen.of(geometry, W, C, first)
    gaps = []
    for rank in ranks:
        seen = everything.truncated(geometry.kernel[1], rank)
        # At the least squares answer L C L' = L C W', so the gap is W C W' - L C W'.
        explained = solved(seen.within, seen.across.T)
        gaps.append(whole - seen.across @ explained)
    return gaps


def _plain_spatial_gaps(geometry: Geometry, W: Floats, ranks: Sequence[int]) -> list[Floats]:
    """The same for C = I, where the gap is what the truncated SVD of the unfolded kernel drops.

    With the unfolded kernel's left singular vectors u_j over (o, x), (W - L)(W - L)' is the sum
    over the dropped j of sigma_j^2 u_j u_j', traced over x; summed up from the smallest on.
    """
    unfolded = forms.unfold("spatial", geometry, W[None])[0]
    reduced = decompose(unfolded).reduced
    scaled = reduced.reshape(geometry.rows, geometry.kernel[1], -1)
    gram = np.zeros((geometry.rows, geometry.rows))
    gaps: list[Floats] = []
    end = reduced.shape[1]
    for rank in reversed(ranks):
        dropped = scaled[:, :, rank:end].reshape(geometry.rows, -1)
        gram = gram + dropped @ dropped.T
        gaps.append(gram)
        end = rank
    return gaps[::-1]
