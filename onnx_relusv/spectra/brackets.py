"""Certified bounds of all ReLU singular values from one singular value decomposition.

    s_k(W) = min over rank(L) <= k of max over |x| <= 1 of |phi(Wx + b) - phi(Lx + b)|_2

Upper ends: take L as the truncated SVD; phi is Lipschitz coordinate by coordinate. Lower ends: the
kernel of any L of rank k meets the span of the first k + 1 right singular vectors in a unit x, and
there L's answer is the same at x and -x, while the block's answers are far apart or far from it.
Proofs are in docs/theory.md. A radius R is the same as R times the weight.
"""

import math

import numpy as np

from onnx_relusv.records import Activation, Floats

RELU = Activation(kind="relu", slopes=np.zeros(1))


def bracket(
    sigma: Floats,
    activation: Activation,
    *,
    bias: Floats | None = None,
    free_bias: bool = False,
    nonnegative: bool = False,
) -> tuple[Floats, Floats]:
    """Certified lower and upper bounds of all s_k on the unit ball.

    Args:
        sigma: (r,) ordinary singular values, descending.
        activation: The block's activation.
        bias: (out,) the block's bias b; None for none.
        free_bias: Whether L's bias is as free as L; otherwise L keeps b.
        nonnegative: Whether inputs are the non-negative part of the ball only.

    Returns:
        Two (r,) arrays. The upper one is max(1, |a|) sigma for slopes a, always. The lower one,
        for s = sigma, a = min |slope|:

        ========================  ====================  =======================================
        activation                no bias               bias, L keeps it (L's is free)
        ========================  ====================  =======================================
        none                      s                     s
        Relu, LeakyRelu, PRelu    s sqrt((1 + a^2)/2)   (s - |e|)+ times the same
                                                        (times (1 + a)/2), or a s if larger
        Clip from 0 to c          min(s, c)/sqrt(2)     min((s - |e|)+, c/2)/sqrt(2)
                                                        (min((s - |e|)+, c)/2)
        ========================  ====================  =======================================

        e is how far b lies outside of the interval where phi is steep: below 0, or above c.
        The lower bounds with a bias need slopes of 0 or more; with others, and for non-negative
        inputs, nothing but 0 is proved.
    """
    upper = sigma * max(1.0, float(np.max(np.abs(activation.slopes))))
    if nonnegative:
        return np.zeros_like(sigma), upper
    if activation.kind == "none":
        return sigma, sigma
    if bias is None and not free_bias:
        return _without_bias(sigma, activation), upper
    return _with_bias(sigma, activation, bias, free_bias), upper


def _without_bias(sigma: Floats, activation: Activation) -> Floats:
    if activation.ceiling is not None:
        return np.minimum(sigma, activation.ceiling) * math.sqrt(0.5)
    # |phi(y)|^2 + |phi(-y)|^2 = (1 + a^2) |y|^2 coordinate by coordinate.
    flattest = float(np.min(activation.slopes**2))
    return sigma * math.sqrt((1 + flattest) / 2)


def _with_bias(
    sigma: Floats, activation: Activation, bias: Floats | None, free_bias: bool
) -> Floats:
    offset = np.zeros(1) if bias is None else bias
    outside = np.maximum(-offset, 0)
    ceiling = activation.ceiling
    if ceiling is not None:
        outside = outside + np.maximum(offset - ceiling, 0)
    left = np.maximum(sigma - np.linalg.norm(outside), 0)
    if ceiling is not None:
        if free_bias:
            return np.minimum(left, ceiling) / 2
        return np.minimum(left, ceiling / 2) * math.sqrt(0.5)
    if float(np.min(activation.slopes)) < 0:
        return np.zeros_like(sigma)
    # phi stretches every distance by a at least, but never by more than 1 where a > 1.
    flattest = min(1.0, float(np.min(activation.slopes)))
    share = (1 + flattest) / 2 if free_bias else math.sqrt((1 + flattest**2) / 2)
    return np.maximum(flattest * sigma, share * left)
