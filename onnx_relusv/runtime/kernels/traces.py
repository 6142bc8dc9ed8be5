"""The graph that measures activated operators A_x = diag(phi'(Wx + b)) W, a batch at a time.

All of it rests on the Gram matrix G = W W', so what a sample costs depends on the block's outputs
alone, and inputs are never looked at.
"""

from functools import lru_cache

from onnx import TensorProto

from onnx_relusv.runtime.kernels.parts import FLOAT, INT, Graph, Tensor
from onnx_relusv.runtime.session import Session

STEPS = 10
# Outputs for every row; `open` or `derivatives` besides, where exact values are requested.
FIGURES = ("active", "square", "fourth", "climbed", "before", "single", "margin")
OPEN, DERIVATIVES = "open", "derivatives"

_TINY = 1e-37


@lru_cache(maxsize=16)
def trace_kernel(
    provider: str, spatial: bool, element_type: int, *, derived: bool = False
) -> Session:
    """Measures the activated operators at some output positions of every sample.

    With D = diag(d), d = phi' at the pre-activation, e = d^2, and F^2 = e'diag(G), the squared
    largest ReLU singular value of A_x is the maximum of u'DGDu over u >= 0, |u| = 1. It is climbed
    by the power method for that cone, u <- max(0, DGDu) / |.|, from u = |d| / |d|: since u'DGDu is
    convex, no step descends, and |max(0, DGDu)| lies between its values at u and at the next u. So
    this length is the value. The value at a single unit, e_i G_ii, may be larger where the start
    was a poor one.

    Where `derived`, y holds d itself, of an activation that is not piecewise linear; what is said
    of slopes, the ceiling and the margin then counts for nothing.

    Inputs:
        y: a batch of the block's pre-activation, of the element type; any rank.
        shape: (3,) int64, [samples, channels, -1] for a Conv, else [samples, -1, features].
        index: (positions,) int64, into the axis of -1.
        split: (3,) int64, [-1, groups, units of a group].
        gram: (groups, units, units) float32, G in units in which its largest entry is 1.
        squares: (groups, 1, units) float32, the diagonal of G.
        slope: (groups, 1, units) float32, the derivative of a unit that is not open.
        ceiling: (1,) float32, where units close again; the largest float32 where they do not.
        reciprocal: (groups, 1, units) float32, one over the length of a unit's weights, in any
            units; 0 where that length is 0.
        least: (groups, 1, units) float32, 0; infinite for units whose distance does not count.

    Outputs, rows = samples * positions, the positions of a sample one behind the other:
        active: (rows,) float32, how many d are not zero.
        square: (rows,) float32, F^2.
        fourth: (rows,) float32, e'(G o G)e, the sum of sigma^4.
        climbed: (rows,) float32, the value at the last step, the largest over the groups.
        before: (rows,) float32, the value one step earlier.
        single: (rows,) float32, the largest value at a single unit.
        margin: (rows,) float32, the least |y - knee| * reciprocal, the knees being 0 and ceiling.
        open: (groups, rows, units) bool, which units lie strictly between the knees.
        derivatives: (groups, rows, units) float32, d (derived only, in place of open).
    """
    graph = Graph("trace")
    gram = graph.input("gram", 3)
    squares, slope, reciprocal, least = (
        graph.input(name, 3) for name in ("squares", "slope", "reciprocal", "least")
    )
    ceiling = graph.input("ceiling", 1)
    rows = _rows(graph, spatial, element_type)
    is_open = graph.op("And", rows > 0.0, rows < ceiling)
    d = graph.op("Identity", rows) if derived else graph.op("Where", is_open, 1.0, slope)
    e = d * d
    parts = e * squares
    group_square = parts.sum(2)
    from_knee = graph.op("Min", graph.op("Abs", rows), graph.op("Abs", rows - ceiling))
    margin = graph.op("Max", from_knee * reciprocal, least)
    before, climbed = (
        _largest(graph, length * group_square)
        for length in _power_steps(graph, d, gram, group_square)[-2:]
    )
    figures = {
        "active": graph.op("ReduceSumSquare", graph.op("Sign", d), axes=[0, 2], keepdims=0),
        "square": group_square.sum(0, 2, keepdims=False),
        "fourth": (e * (e @ (gram * gram))).sum(0, 2, keepdims=False),
        "climbed": climbed,
        "before": before,
        "single": _largest(graph, parts),
        "margin": graph.op("ReduceMin", margin, axes=[0, 2], keepdims=0),
    }
    for name in FIGURES:
        graph.output(name, figures[name], 1)
    if derived:
        graph.output(DERIVATIVES, d, 3)
    else:
        graph.output(OPEN, is_open, 3, TensorProto.BOOL)
    return graph.opened(provider, alone=False)


def _rows(graph: Graph, spatial: bool, element_type: int) -> Tensor:
    """The chosen positions, (groups, rows, units) float32."""
    shape, index, split = (graph.input(name, 1, INT) for name in ("shape", "index", "split"))
    flat = graph.op("Reshape", graph.input("y", None, element_type), shape)
    chosen = graph.op("Gather", flat, index, axis=2 if spatial else 1)
    if spatial:
        chosen = chosen.transposed(0, 2, 1)
    return graph.op("Reshape", chosen.cast(FLOAT), split).transposed(1, 0, 2)


def _power_steps(graph: Graph, d: Tensor, gram: Tensor, group_square: Tensor) -> list[Tensor]:
    """The value at every step, as a share of F^2.

    The steps are unrolled, and on DGD / F^2, so that no power of it leaves float32's range.
    """
    scaled = d / graph.op("Sqrt", graph.op("Max", group_square, _TINY))
    kept = graph.op("Abs", scaled)
    lengths: list[Tensor] = []
    for step in range(STEPS + 1):
        if step:
            u = kept / graph.op("Max", lengths[-1], _TINY)
            kept = graph.op("Relu", (u * scaled) @ gram * scaled)
        lengths.append(graph.op("ReduceL2", kept, axes=[-1], keepdims=1))
    return lengths


def _largest(graph: Graph, values: Tensor) -> Tensor:
    """(rows,): the largest over groups and units."""
    return graph.op("ReduceMax", values, axes=[0, 2], keepdims=0)
