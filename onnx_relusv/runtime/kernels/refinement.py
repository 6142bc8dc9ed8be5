"""Graphs for the ReLU-aware fit: errors behind the activation, and their slopes.

They work for every shape: dimensions arrive as inputs. The linear map L is read as it is, or as a
product of two: then rows go through one after the other, which for few rows between them takes a
fraction of the products with L.
"""

from functools import lru_cache

from onnx_relusv.runtime.kernels.parts import FLOAT, Graph, Tensor
from onnx_relusv.runtime.session import Session


@lru_cache(maxsize=32)
def error_kernel(
    provider: str, clipped: bool, weighted: bool, shifted: bool, factored: bool
) -> Session:
    """The error of phi(Lz + b' + s) against phi(t).

    Inputs:
        z: (groups, n, columns) float32. target: (groups, n, rows) float32, t.
        shift: (groups, n, rows) float32, s (shifted only).
        map: (groups, rows, columns) float32, L. bias: (groups, 1, rows) float32, b'.
        inner: (groups, rank, columns) float32 (factored only); map is then (groups, rows, rank),
            and L their product.
        slope: (groups, 1, rows) float32, of phi for negative arguments.
        ceiling: (1, 1, 1) float32 (clipped only).
        importance: (1, rows, rows) float32 symmetric S (weighted only); otherwise S = I.

    Outputs:
        loss: () float32, the sum of e'Se over all patches, e = phi(Lz + b' + s) - phi(t).
    """
    graph = Graph("error")
    _, _, error, weighted_error = _errors(graph, clipped, weighted, shifted, factored)
    return _with_loss(graph, error * weighted_error, provider)


@lru_cache(maxsize=32)
def slope_kernel(
    provider: str, clipped: bool, weighted: bool, shifted: bool, factored: bool
) -> Session:
    """Half the derivative of what `error_kernel` computes, from the same inputs.

    Outputs:
        map_slope: (groups, rows, columns) float32, with respect to L, or where it is factored
            (groups, rows, rank), to the factor that is read as `map`.
        inner_slope: (groups, rank, columns) float32, to the other one (factored only).
        bias_slope: (groups, 1, rows) float32, with respect to b'.
    """
    graph = Graph("error slope")
    read, answers, _, weighted_error = _errors(graph, clipped, weighted, shifted, factored)
    pull = weighted_error * _derivative(graph, answers, clipped)
    return _with_slopes(graph, read, pull, provider, factored)


@lru_cache(maxsize=8)
def score_error_kernel(provider: str, factored: bool) -> Session:
    """The divergence of softmax(Lz + b') from softmax(t).

    Inputs:
        z: (1, n, columns) float32. target: (1, n, rows) float32, t.
        map: (1, rows, columns) float32, L. bias: (1, 1, rows) float32, b'.
        inner: As of `error_kernel`.

    Outputs:
        loss: () float32, the sum of the Kullback-Leibler divergences, in nats.
    """
    graph = Graph("score error")
    _, answers, target = _logarithms(graph, factored)
    return _with_loss(graph, graph.op("Exp", target) * (target - answers), provider)


@lru_cache(maxsize=8)
def score_slope_kernel(provider: str, factored: bool) -> Session:
    """The derivative of what `score_error_kernel` computes, from the same inputs.

    Outputs:
        map_slope, inner_slope, bias_slope: As of `slope_kernel`, of one group.
    """
    graph = Graph("score slope")
    read, answers, target = _logarithms(graph, factored)
    pull = graph.op("Exp", answers) - graph.op("Exp", target)
    return _with_slopes(graph, read, pull, provider, factored)


@lru_cache(maxsize=8)
def activated_kernel(provider: str, clipped: bool, factored: bool) -> Session:
    """phi(Lz + b') of the remaining units.

    Inputs:
        z: (1, n, columns) float32.
        map: (1, kept, columns) float32, L. bias: (1, 1, kept) float32, b'.
        inner: As of `error_kernel`.
        slope: (1, 1, kept) float32, of phi for negative arguments.
        ceiling: (1, 1, 1) float32 (clipped only).

    Outputs:
        activated: (1, n, kept) float32.
    """
    graph = Graph("activated")
    _, answers = _answers(graph, factored)
    graph.output("activated", _activated(graph, answers, clipped), 3)
    return _opened(graph, provider)


@lru_cache(maxsize=8)
def reproduction_error_kernel(provider: str, clipped: bool, factored: bool) -> Session:
    """The error of B phi(Lz + b') + c against what is wanted.

    Inputs, besides those of `activated_kernel`:
        target: (1, n, units) float32.
        reading: (1, units, kept) float32, B. offset: (1, 1, units) float32, c.

    Outputs:
        loss: () float32, the sum of the squares of all patches' errors.
    """
    graph = Graph("reproduction error")
    _, _, _, error = _reproduced(graph, clipped, factored)
    return _with_loss(graph, error * error, provider)


@lru_cache(maxsize=8)
def reproduction_slope_kernel(provider: str, clipped: bool, factored: bool) -> Session:
    """Half the derivative of what `reproduction_error_kernel` computes, from the same inputs.

    Outputs:
        map_slope, inner_slope, bias_slope: As of `slope_kernel`, of one group.
        reading_slope: (1, units, kept). offset_slope: (1, 1, units).
    """
    graph = Graph("reproduction slope")
    read, answers, activated, error = _reproduced(graph, clipped, factored)
    graph.output("reading_slope", error.transposed(0, 2, 1) @ activated, 3)
    graph.output("offset_slope", error.sum(1), 3)
    pull = (error @ graph.input("reading", 3)) * _derivative(graph, answers, clipped)
    return _with_slopes(graph, read, pull, provider, factored)


def _answers(graph: Graph, factored: bool, *, shifted: bool = False) -> tuple[Tensor, Tensor]:
    """What the map, or the last of its factors, reads; and Lz + b' + s."""
    read, linear, bias = (graph.input(name, 3) for name in ("z", "map", "bias"))
    if factored:
        read = read @ graph.input("inner", 3).transposed(0, 2, 1)
    answers = read @ linear.transposed(0, 2, 1) + bias
    return read, answers + graph.input("shift", 3) if shifted else answers


def _activated(graph: Graph, y: Tensor, clipped: bool) -> Tensor:
    """phi(y)."""
    rising = graph.op("PRelu", y, graph.input("slope", 3))
    return graph.op("Min", rising, graph.input("ceiling", 3)) if clipped else rising


def _derivative(graph: Graph, y: Tensor, clipped: bool) -> Tensor:
    """phi'(y): that of negative arguments at 0, and 0 at the ceiling."""
    slope = graph.input("slope", 3)
    # Faster than a choice between 1 and the slope.
    rising = (y > 0).cast(FLOAT) * graph.op("Sub", 1, slope) + slope
    return (y < graph.input("ceiling", 3)).cast(FLOAT) * rising if clipped else rising


def _errors(
    graph: Graph, clipped: bool, weighted: bool, shifted: bool, factored: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the map reads, Lz + b' + s, the error e, and Se."""
    read, answers = _answers(graph, factored, shifted=shifted)
    target = _activated(graph, graph.input("target", 3), clipped)
    error = _activated(graph, answers, clipped) - target
    return read, answers, error, error @ graph.input("importance", 3) if weighted else error


def _logarithms(graph: Graph, factored: bool) -> tuple[Tensor, Tensor, Tensor]:
    """What the map reads, and the logarithms of softmax(Lz + b') and of softmax(t)."""
    (read, answers), target = _answers(graph, factored), graph.input("target", 3)
    return read, graph.op("LogSoftmax", answers, axis=2), graph.op("LogSoftmax", target, axis=2)


def _reproduced(
    graph: Graph, clipped: bool, factored: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the map reads, Lz + b', phi of that, and the error of what is reproduced from it."""
    read, answers = _answers(graph, factored)
    activated = _activated(graph, answers, clipped)
    reproduced = activated @ graph.input("reading", 3).transposed(0, 2, 1)
    error = reproduced + graph.input("offset", 3) - graph.input("target", 3)
    return read, answers, activated, error


def _with_loss(graph: Graph, parts: Tensor, provider: str) -> Session:
    graph.output("loss", parts.sum(keepdims=False), 0)
    return _opened(graph, provider)


def _with_slopes(
    graph: Graph, read: Tensor, pull: Tensor, provider: str, factored: bool
) -> Session:
    """From the slope with respect to Lz + b', (groups, n, rows), to those to L and b'."""
    graph.output("map_slope", pull.transposed(0, 2, 1) @ read, 3)
    if factored:
        inner = (pull @ graph.input("map", 3)).transposed(0, 2, 1)
        graph.output("inner_slope", inner @ graph.input("z", 3), 3)
    graph.output("bias_slope", pull.sum(1), 3)
    return _opened(graph, provider)


def _opened(graph: Graph, provider: str) -> Session:
    # It takes turns with the products of the chain rule.
    return graph.opened(provider, alone=False)
