"""ReLU singular values of small maps by enumeration, and the activations themselves.

s_0 is the largest |phi(Wx)| on the unit ball. With slopes a, |phi(y)| is the largest <u, y> over
the u with |max(u, 0)|^2 + |min(u, 0) / a|^2 <= 1; so s_0^2 is the largest v' S G S v over unit
v >= 0 and over the diagonal matrices S of +1 and -a, where G = WW'. Inside the orthant a largest
value is a top eigenvector; on its faces the same holds for fewer rows. So s_0 is exact by
enumeration, if only those S and subsets of rows count whose top eigenvector is non-negative.
"""

import math
from itertools import product

import numpy as np

from onnx_relusv.core.blocks import Activation, Floats


def exact_s0(W: Floats, slopes: Floats | float = 0.0, *, any_eigenvector: bool = False) -> float:
    """s_0 by enumeration of signs; with a slope of 0 these are the subsets of rows."""
    below = -np.broadcast_to(slopes, len(W)).astype(float)
    signs = np.array(list(product(*([0.0, 1.0] if a == 0 else [0.0, 1.0, a] for a in below))))
    scaled = signs[:, :, None] * (W @ W.T) * signs[:, None, :]
    squares, vectors = np.linalg.eigh(scaled)
    top = vectors[:, :, -1]
    top = top * np.where(top.sum(axis=1) < 0, -1, 1)[:, None]
    # A subset's eigenvector is zero elsewhere but for rounding.
    counts = np.ones(len(top), bool) if any_eigenvector else (top >= -1e-9).all(axis=1)
    return math.sqrt(max(0.0, squares[counts, -1].max(initial=0.0)))


def phi(y: Floats, activation: Activation) -> Floats:
    """The activation itself, rows of y being output channels."""
    slopes = np.broadcast_to(activation.slopes, (len(y),))
    slopes = slopes.reshape(-1, *[1] * (y.ndim - 1))
    out = np.maximum(y, 0) + slopes * np.minimum(y, 0)
    return out if activation.ceiling is None else np.minimum(out, activation.ceiling)
