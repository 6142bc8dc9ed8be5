"""Graphs for the ReLU-aware fit: errors behind the activation, and their slopes.

They work for every shape: dimensions arrive as inputs.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from onnx import NodeProto, ValueInfoProto, helper, numpy_helper

from onnx_relusv.runtime.kernels.parts import FLOAT, node, open_kernel, value
from onnx_relusv.runtime.session import Session


@lru_cache(maxsize=16)
def error_kernel(provider: str, clipped: bool, weighted: bool, shifted: bool) -> Session:
    """The error of phi(Lz + b' + s) against phi(t).

    Inputs:
        z: (groups, n, columns) float32. target: (groups, n, rows) float32, t.
        shift: (groups, n, rows) float32, s (shifted only).
        map: (groups, rows, columns) float32, L. bias: (groups, 1, rows) float32, b'.
        slope: (groups, 1, rows) float32, of phi for negative arguments.
        ceiling: (1, 1, 1) float32 (clipped only).
        importance: (1, rows, rows) float32 symmetric S (weighted only); otherwise S = I.

    Outputs:
        loss: () float32, the sum of e'Se over all patches, e = phi(Lz + b' + s) - phi(t).
    """
    nodes = [
        *_felt(clipped, weighted, shifted),
        node("Mul", ["error", "felt"], "parts"),
        node("ReduceSum", ["parts"], "loss", keepdims=0),
    ]
    return _opened(nodes, _names(clipped, weighted, shifted), _LOSS, provider)


@lru_cache(maxsize=16)
def slope_kernel(provider: str, clipped: bool, weighted: bool, shifted: bool) -> Session:
    """Half the derivative of what `error_kernel` computes, from the same inputs.

    Outputs:
        map_slope: (groups, rows, columns) float32, with respect to L.
        bias_slope: (groups, 1, rows) float32, with respect to b'.
    """
    nodes = [
        *_felt(clipped, weighted, shifted),
        *_derivative("own", clipped),
        node("Mul", ["felt", "own_slope"], "pull"),
        *_PULLED,
    ]
    return _opened(nodes, _names(clipped, weighted, shifted), _SLOPES, provider)


@lru_cache(maxsize=4)
def score_error_kernel(provider: str) -> Session:
    """The divergence of softmax(Lz + b') from softmax(t).

    Inputs:
        z: (1, n, columns) float32. target: (1, n, rows) float32, t.
        map: (1, rows, columns) float32, L. bias: (1, 1, rows) float32, b'.

    Outputs:
        loss: () float32, the sum of the Kullback-Leibler divergences, in nats.
    """
    nodes = [
        *_shares(),
        node("Sub", ["target_log", "own_log"], "gaps"),
        node("Mul", ["target_shares", "gaps"], "parts"),
        node("ReduceSum", ["parts"], "loss", keepdims=0),
    ]
    return _opened(nodes, _names(), _LOSS, provider)


@lru_cache(maxsize=4)
def score_slope_kernel(provider: str) -> Session:
    """The derivative of what `score_error_kernel` computes, from the same inputs.

    Outputs:
        map_slope: (1, rows, columns) float32. bias_slope: (1, 1, rows) float32.
    """
    nodes = [
        *_shares(),
        node("Exp", ["own_log"], "own_shares"),
        node("Sub", ["own_shares", "target_shares"], "pull"),
        *_PULLED,
    ]
    return _opened(nodes, _names(), _SLOPES, provider)


@lru_cache(maxsize=4)
def activated_kernel(provider: str, clipped: bool) -> Session:
    """phi(Lz + b') of the units that are left, and phi(t) of all units.

    Inputs:
        z: (1, n, columns) float32. target: (1, n, units) float32, t.
        map: (1, kept, columns) float32, L. bias: (1, 1, kept) float32, b'.
        slope: (1, 1, kept) float32, of phi for negative arguments.
        whole_slope: (1, 1, units) float32, of all units.
        ceiling: (1, 1, 1) float32 (clipped only).

    Outputs:
        own_out: (1, n, kept) float32. target_out: (1, n, units) float32.
    """
    outputs = (value("own_out", FLOAT, 3), value("target_out", FLOAT, 3))
    return _opened(_both(clipped), _activated_names(clipped), outputs, provider)


@lru_cache(maxsize=4)
def reproduction_error_kernel(provider: str, clipped: bool) -> Session:
    """The error of B phi(Lz + b') + c against phi(t).

    Inputs, besides those of `activated_kernel`:
        reading: (1, units, kept) float32, B. offset: (1, 1, units) float32, c.
        importance: (1, units, units) float32 symmetric S.

    Outputs:
        loss: () float32, the sum of e'Se over all patches.
    """
    nodes = [
        *_reproduced(clipped),
        node("Mul", ["error", "felt"], "parts"),
        node("ReduceSum", ["parts"], "loss", keepdims=0),
    ]
    return _opened(nodes, _reproduction_names(clipped), _LOSS, provider)


@lru_cache(maxsize=4)
def reproduction_slope_kernel(provider: str, clipped: bool) -> Session:
    """Half the derivative of what `reproduction_error_kernel` computes, from the same inputs.

    Outputs:
        map_slope: (1, kept, columns). bias_slope: (1, 1, kept).
        reading_slope: (1, units, kept). offset_slope: (1, 1, units).
    """
    nodes = [
        *_reproduced(clipped),
        node("Transpose", ["felt"], "felt_turned", perm=[0, 2, 1]),
        node("MatMul", ["felt_turned", "own_out"], "reading_slope"),
        node("ReduceSum", ["felt", "middle"], "offset_slope", keepdims=1),
        node("MatMul", ["felt", "reading"], "felt_by_own"),
        *_derivative("own", clipped),
        node("Mul", ["felt_by_own", "own_slope"], "pull"),
        *_PULLED,
    ]
    slopes = (*_SLOPES, value("reading_slope", FLOAT, 3), value("offset_slope", FLOAT, 3))
    return _opened(nodes, _reproduction_names(clipped), slopes, provider)


_LOSS = (value("loss", FLOAT, 0),)
_SLOPES = (value("map_slope", FLOAT, 3), value("bias_slope", FLOAT, 3))
# From the slope with respect to Lz + b' to those with respect to L and b'.
_PULLED = (
    node("Transpose", ["pull"], "pull_turned", perm=[0, 2, 1]),
    node("MatMul", ["pull_turned", "z"], "map_slope"),
    node("ReduceSum", ["pull", "middle"], "bias_slope", keepdims=1),
)


def _names(clipped: bool | None = None, weighted: bool = False, shifted: bool = False) -> list[str]:
    """The inputs of a kernel; `clipped` is None of class scores, which have no activation."""
    names = ["z", "target", "map", "bias"] + ["slope"] * (clipped is not None)
    return names + ["shift"] * shifted + ["ceiling"] * bool(clipped) + ["importance"] * weighted


def _activated_names(clipped: bool) -> list[str]:
    return ["z", "target", "map", "bias", "slope", "whole_slope"] + ["ceiling"] * clipped


def _reproduction_names(clipped: bool) -> list[str]:
    return [*_activated_names(clipped), "reading", "offset", "importance"]


def _own(shifted: bool) -> list[NodeProto]:
    """Lz + b' + s as own."""
    nodes = [
        node("Transpose", ["map"], "map_turned", perm=[0, 2, 1]),
        node("MatMul", ["z", "map_turned"], "products"),
        node("Add", ["products", "bias"], "unshifted" if shifted else "own"),
    ]
    return [*nodes, node("Add", ["unshifted", "shift"], "own")] if shifted else nodes


def _shares() -> list[NodeProto]:
    """The logarithms of both softmaxes, and the target's."""
    return [
        *_own(shifted=False),
        node("LogSoftmax", ["own"], "own_log", axis=2),
        node("LogSoftmax", ["target"], "target_log", axis=2),
        node("Exp", ["target_log"], "target_shares"),
    ]


def _felt(clipped: bool, weighted: bool, shifted: bool) -> list[NodeProto]:
    """The error, and the error with S in front of it, as felt."""
    return [
        *_own(shifted),
        *_activation("own", clipped),
        *_activation("target", clipped),
        node("Sub", ["own_out", "target_out"], "error"),
        node("MatMul", ["error", "importance"], "felt")
        if weighted
        else node("Identity", ["error"], "felt"),
    ]


def _both(clipped: bool) -> list[NodeProto]:
    """What is left of the units and all units, behind their activations."""
    return [
        *_own(shifted=False),
        *_activation("own", clipped),
        *_activation("target", clipped, "whole_slope"),
    ]


def _reproduced(clipped: bool) -> list[NodeProto]:
    """The error of what is reproduced, and the error with S in front of it, as felt."""
    return [
        *_both(clipped),
        node("Transpose", ["reading"], "reading_turned", perm=[0, 2, 1]),
        node("MatMul", ["own_out", "reading_turned"], "read"),
        node("Add", ["read", "offset"], "made"),
        node("Sub", ["made", "target_out"], "error"),
        node("MatMul", ["error", "importance"], "felt"),
    ]


def _activation(name: str, clipped: bool, slope: str = "slope") -> list[NodeProto]:
    """phi(NAME) as NAME_out."""
    if not clipped:
        return [node("PRelu", [name, slope], f"{name}_out")]
    return [
        node("PRelu", [name, slope], f"{name}_uncut"),
        node("Min", [f"{name}_uncut", "ceiling"], f"{name}_out"),
    ]


def _derivative(name: str, clipped: bool) -> list[NodeProto]:
    """phi'(NAME) as NAME_slope: that of negative arguments at 0, and 0 at the ceiling."""
    rising = f"{name}_rising" if clipped else f"{name}_slope"
    nodes = [
        node("Greater", [name, "zero"], f"{name}_active"),
        node("Cast", [f"{name}_active"], f"{name}_share", to=FLOAT),
        # slope + (1 - slope) * share, which is faster than a choice between the two.
        node("Sub", ["one", "slope"], "steep"),
        node("Mul", [f"{name}_share", "steep"], f"{name}_more"),
        node("Add", [f"{name}_more", "slope"], rising),
    ]
    if clipped:
        nodes += [
            node("Less", [name, "ceiling"], f"{name}_below"),
            node("Cast", [f"{name}_below"], f"{name}_below_share", to=FLOAT),
            node("Mul", [f"{name}_below_share", rising], f"{name}_slope"),
        ]
    return nodes


def _opened(
    nodes: list[NodeProto], names: list[str], outputs: Sequence[ValueInfoProto], provider: str
) -> Session:
    graph = helper.make_graph(
        nodes,
        "refinement",
        [value(name, FLOAT, 3) for name in names],
        outputs,
        [
            numpy_helper.from_array(np.array(0, np.float32), "zero"),
            numpy_helper.from_array(np.array(1, np.float32), "one"),
            numpy_helper.from_array(np.array([1]), "middle"),
        ],
    )
    # It takes turns with the products of the chain rule.
    return open_kernel(graph, provider, alone=False)
