"""ReLU maps of small layers: exact s_0, gaps to maps of lower rank, inputs to meet them at."""

import math
from itertools import product

import numpy as np
from examples import RELU
from hypothesis import strategies as st

from onnx_relusv.core.blocks import Activation, Floats
from onnx_relusv.spectra.activation_functions import ActivationFunction
from onnx_relusv.spectra.layers import Layer, layer_of


def exact_s0(W: Floats, slopes: Floats | float = 0.0, *, any_eigenvector: bool = False) -> float:
    """s_0 by enumeration of signs; with a slope of 0 these are the subsets of rows.

    s_0 is the largest |phi(Wx)| on the unit ball. With slopes a, |phi(y)| is the largest <u, y>
    over the u with |max(u, 0)|^2 + |min(u, 0) / a|^2 <= 1; so s_0^2 is the largest v' S G S v over
    unit v >= 0 and over the diagonal matrices S of +1 and -a, where G = WW'. Inside the orthant a
    largest value is a top eigenvector; on its faces the same holds for fewer rows. So s_0 is exact
    by enumeration, if only those S and subsets of rows count whose top eigenvector is non-negative.
    """
    below = -np.broadcast_to(slopes, len(W)).astype(float)
    signs = np.array(list(product(*([0.0, 1.0] if a == 0 else [0.0, 1.0, a] for a in below))))
    scaled = signs[:, :, None] * (W @ W.T) * signs[:, None, :]
    squares, vectors = np.linalg.eigh(scaled)
    top = vectors[:, :, -1]
    top = top * np.where(top.sum(axis=1) < 0, -1, 1)[:, None]
    # A subset's eigenvector is zero elsewhere but for rounding.
    counts = np.ones(len(top), bool) if any_eigenvector else (top >= -1e-9).all(axis=1)
    return math.sqrt(max(0.0, squares[counts, -1].max(initial=0.0)))


def phi(y: Floats, activation: Activation | ActivationFunction) -> Floats:
    """The activation itself, rows of y being output channels."""
    if isinstance(activation, ActivationFunction):
        return activation(y)
    slopes = np.broadcast_to(activation.slopes, (len(y),))
    slopes = slopes.reshape(-1, *[1] * (y.ndim - 1))
    out = np.maximum(y, 0) + slopes * np.minimum(y, 0)
    return out if activation.ceiling is None else np.minimum(out, activation.ceiling)


# Small whole numbers give many ties, zeros and repeated rows, where bounds are tight.
integer_weights = st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
    lambda shape: st.lists(
        st.lists(st.integers(-3, 3), min_size=shape[1], max_size=shape[1]),
        min_size=shape[0],
        max_size=shape[0],
    ).map(lambda rows: np.array(rows, float))
)


def gaps(
    W: Floats,
    L: Floats,
    x: Floats,
    activation: Activation | ActivationFunction = RELU,
    bias: Floats | None = None,
    other_bias: Floats | None = None,
) -> Floats:
    """|phi(Wx + b) - phi(Lx + b')| for every column x; L keeps b if b' is None."""
    b = np.zeros(len(W)) if bias is None else bias
    other = b if other_bias is None else other_bias
    whole = phi(W @ x + b[:, None], activation)
    part = phi(L @ x + other[:, None], activation)
    return np.asarray(np.linalg.norm(whole - part, axis=0))


def unit_columns(values: Floats) -> Floats:
    return values / np.maximum(np.linalg.norm(values, axis=0, keepdims=True), 1e-30)


def directions(size: int, count: int, seed: int) -> Floats:
    return unit_columns(np.random.default_rng(seed).standard_normal((size, count)))


def circle(count: int = 20_001) -> Floats:
    """(2, count) unit columns, evenly spread; no direction is farther than pi / count."""
    angle = np.linspace(0, 2 * np.pi, count)
    return np.stack([np.cos(angle), np.sin(angle)])


def sphere(count: int = 20_000) -> Floats:
    """(3, count) unit columns on a spiral; no direction is farther than about 3 / sqrt(count)."""
    turn = np.arange(count) * np.pi * (3 - np.sqrt(5))
    height = 1 - (2 * np.arange(count) + 1) / count
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), height])


def truncated(W: Floats, k: int) -> Floats:
    u, s, vt = np.linalg.svd(W, full_matrices=False)
    return np.asarray((u[:, :k] * s[:k]) @ vt[:k])


def blind(W: Floats, L: Floats, k: int) -> Floats:
    """(in, 2): x and -x among W's first k + 1 right singular vectors that L of rank k maps to 0."""
    span = np.linalg.svd(W, full_matrices=False)[2][: k + 1]
    x = np.linalg.svd(L @ span.T)[2][-1] @ span
    return np.stack([x, -x], axis=1)


def any_of_rank(W: Floats, k: int, seed: int, *, nearby: bool) -> Floats:
    """A map of rank k: anywhere, or the truncated SVD with its left side shaken."""
    rng = np.random.default_rng(seed)
    if not nearby:
        return rng.standard_normal((len(W), k)) @ rng.standard_normal((k, W.shape[1]))
    u, s, vt = np.linalg.svd(W, full_matrices=False)
    return np.asarray((u[:, :k] * s[:k] + 0.3 * rng.standard_normal((len(W), k))) @ vt[:k])


def layer(
    W: Floats,
    activation: Activation | ActivationFunction = RELU,
    bias: Floats | None = None,
    *,
    nonnegative: bool = False,
) -> Layer:
    b = np.zeros(len(W)) if bias is None else bias
    return layer_of(W, b, None, activation, nonnegative=nonnegative)


def met_from_below(
    W: Floats,
    L: Floats,
    k: int,
    activation: Activation | ActivationFunction,
    bias: Floats | None = None,
    other_bias: Floats | None = None,
) -> float:
    """The largest gap at many points, among them those that the proofs speak of."""
    x = np.hstack([blind(W, L, k), directions(W.shape[1], 100, 0)])
    return float(gaps(W, L, x, activation, bias, other_bias).max())


def slack(sigma: Floats) -> float:
    return float(1e-9 * (1 + sigma[0]))
