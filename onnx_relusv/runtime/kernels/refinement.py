"""Graphs for the ReLU-aware fit: errors behind the activation, and their slopes.

They work for every shape: dimensions arrive as inputs.
"""

from functools import lru_cache

from onnx_relusv.runtime.kernels.parts import FLOAT, Graph, Tensor
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
    graph = Graph("error")
    _, error, weighted_error = _errors(graph, clipped, weighted, shifted)
    return _with_loss(graph, error * weighted_error, provider)


@lru_cache(maxsize=16)
def slope_kernel(provider: str, clipped: bool, weighted: bool, shifted: bool) -> Session:
    """Half the derivative of what `error_kernel` computes, from the same inputs.

    Outputs:
        map_slope: (groups, rows, columns) float32, with respect to L.
        bias_slope: (groups, 1, rows) float32, with respect to b'.
    """
    graph = Graph("error slope")
    answers, _, weighted_error = _errors(graph, clipped, weighted, shifted)
    pull = weighted_error * _derivative(graph, answers, clipped)
    return _with_slopes(graph, pull, provider)


@lru_cache(maxsize=4)
def score_error_kernel(provider: str) -> Session:
    """The divergence of softmax(Lz + b') from softmax(t).

    Inputs:
        z: (1, n, columns) float32. target: (1, n, rows) float32, t.
        map: (1, rows, columns) float32, L. bias: (1, 1, rows) float32, b'.

    Outputs:
        loss: () float32, the sum of the Kullback-Leibler divergences, in nats.
    """
    graph = Graph("score error")
    answers, target = _logarithms(graph)
    return _with_loss(graph, graph.op("Exp", target) * (target - answers), provider)


@lru_cache(maxsize=4)
def score_slope_kernel(provider: str) -> Session:
    """The derivative of what `score_error_kernel` computes, from the same inputs.

    Outputs:
        map_slope: (1, rows, columns) float32. bias_slope: (1, 1, rows) float32.
    """
    graph = Graph("score slope")
    answers, target = _logarithms(graph)
    return _with_slopes(graph, graph.op("Exp", answers) - graph.op("Exp", target), provider)


@lru_cache(maxsize=4)
def activated_kernel(provider: str, clipped: bool) -> Session:
    """phi(Lz + b') of the remaining units, and phi(t) of all units.

    Inputs:
        z: (1, n, columns) float32. target: (1, n, units) float32, t.
        map: (1, kept, columns) float32, L. bias: (1, 1, kept) float32, b'.
        slope: (1, 1, kept) float32, of phi for negative arguments.
        whole_slope: (1, 1, units) float32, of all units.
        ceiling: (1, 1, 1) float32 (clipped only).

    Outputs:
        own_out: (1, n, kept) float32. target_out: (1, n, units) float32.
    """
    graph = Graph("activated")
    graph.output("own_out", _activated(graph, _answers(graph), clipped), 3)
    target = _activated(graph, graph.input("target", 3), clipped, "whole_slope")
    graph.output("target_out", target, 3)
    return _opened(graph, provider)


@lru_cache(maxsize=4)
def reproduction_error_kernel(provider: str, clipped: bool) -> Session:
    """The error of B phi(Lz + b') + c against phi(t).

    Inputs, besides those of `activated_kernel`:
        reading: (1, units, kept) float32, B. offset: (1, 1, units) float32, c.
        importance: (1, units, units) float32 symmetric S.

    Outputs:
        loss: () float32, the sum of e'Se over all patches.
    """
    graph = Graph("reproduction error")
    _, _, error, weighted_error = _reproduced(graph, clipped)
    return _with_loss(graph, error * weighted_error, provider)


@lru_cache(maxsize=4)
def reproduction_slope_kernel(provider: str, clipped: bool) -> Session:
    """Half the derivative of what `reproduction_error_kernel` computes, from the same inputs.

    Outputs:
        map_slope: (1, kept, columns). bias_slope: (1, 1, kept).
        reading_slope: (1, units, kept). offset_slope: (1, 1, units).
    """
    graph = Graph("reproduction slope")
    answers, activated, _, weighted_error = _reproduced(graph, clipped)
    graph.output("reading_slope", weighted_error.transposed(0, 2, 1) @ activated, 3)
    graph.output("offset_slope", weighted_error.sum(1), 3)
    pull = weighted_error @ graph.input("reading", 3)
    return _with_slopes(graph, pull * _derivative(graph, answers, clipped), provider)


def _answers(graph: Graph, *, shifted: bool = False) -> Tensor:
    """Lz + b' + s."""
    z, linear, bias = (graph.input(name, 3) for name in ("z", "map", "bias"))
    answers = z @ linear.transposed(0, 2, 1) + bias
    return answers + graph.input("shift", 3) if shifted else answers


def _activated(graph: Graph, y: Tensor, clipped: bool, slope: str = "slope") -> Tensor:
    """phi(y)."""
    rising = graph.op("PRelu", y, graph.input(slope, 3))
    return graph.op("Min", rising, graph.input("ceiling", 3)) if clipped else rising


def _derivative(graph: Graph, y: Tensor, clipped: bool) -> Tensor:
    """phi'(y): that of negative arguments at 0, and 0 at the ceiling."""
    slope = graph.input("slope", 3)
    # Faster than a choice between 1 and the slope.
    rising = (y > 0).cast(FLOAT) * graph.op("Sub", 1, slope) + slope
    return (y < graph.input("ceiling", 3)).cast(FLOAT) * rising if clipped else rising


def _errors(
    graph: Graph, clipped: bool, weighted: bool, shifted: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Lz + b' + s, the error e, and Se."""
    answers = _answers(graph, shifted=shifted)
    target = _activated(graph, graph.input("target", 3), clipped)
    error = _activated(graph, answers, clipped) - target
    return answers, error, error @ graph.input("importance", 3) if weighted else error


def _logarithms(graph: Graph) -> tuple[Tensor, Tensor]:
    """The logarithms of softmax(Lz + b') and of softmax(t)."""
    answers, target = _answers(graph), graph.input("target", 3)
    return graph.op("LogSoftmax", answers, axis=2), graph.op("LogSoftmax", target, axis=2)


def _reproduced(graph: Graph, clipped: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Lz + b', phi of that, the error e of what is reproduced from it, and Se."""
    answers = _answers(graph)
    activated = _activated(graph, answers, clipped)
    target = _activated(graph, graph.input("target", 3), clipped, "whole_slope")
    read = activated @ graph.input("reading", 3).transposed(0, 2, 1)
    error = read + graph.input("offset", 3) - target
    return answers, activated, error, error @ graph.input("importance", 3)


def _with_loss(graph: Graph, parts: Tensor, provider: str) -> Session:
    graph.output("loss", parts.sum(keepdims=False), 0)
    return _opened(graph, provider)


def _with_slopes(graph: Graph, pull: Tensor, provider: str) -> Session:
    """From the slope with respect to Lz + b', (groups, n, rows), to those to L and b'."""
    graph.output("map_slope", pull.transposed(0, 2, 1) @ graph.input("z", 3), 3)
    graph.output("bias_slope", pull.sum(1), 3)
    return _opened(graph, provider)


def _opened(graph: Graph, provider: str) -> Session:
    # It takes turns with the products of the chain rule.
    return graph.opened(provider, alone=False)
