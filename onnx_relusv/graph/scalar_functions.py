"""Functions of one number that follow a tensor, entry by entry, whatever nodes they are made of.

Exporters write one activation in many ways: an operator of its own, x * Sigmoid(x), the Erf and
Tanh forms of GELU in any order, x * Clip(x + 3, 0, 6) / 6. So no pattern is matched. What depends
on the tensor and on constants of one entry alone is a formula, which is computed on numbers of the
caller's and compared by what it gives. A gate of another tensor, x * Sigmoid(y), is none.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

import numpy as np
import scipy.special
from onnx import NodeProto

from onnx_relusv.core.blocks import Floats
from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.protos import used_names


@dataclass(frozen=True, eq=False)
class ScalarFunction:
    """A function of a tensor's entries that a graph computes.

    Attributes:
        output: The tensor that holds what it gives.
        nodes: Its nodes, as indices in the file's node list.
        values: At the numbers that were asked for.
    """

    output: str
    nodes: tuple[int, ...]
    values: Floats


class ScalarFunctions:
    """The functions of one number in a graph.

    Args:
        model: The model.
    """

    def __init__(self, model: Model) -> None:
        graph = model.proto.graph
        self._nodes, self._constants = graph.node, Constants(model)
        self._outputs = {value.name for value in graph.output}
        self._readers: dict[str, list[int]] = {}
        for index, node in enumerate(graph.node):
            # Bodies read too.
            for name in set(used_names([node])):
                self._readers.setdefault(name, []).append(index)

    def behind(self, tensor: str, t: Floats) -> Iterator[ScalarFunction]:
        """Those of a tensor after which nothing reads the tensor itself, shortest first.

        Args:
            tensor: What the functions are of.
            t: Numbers to compute them at.
        """
        computed = {tensor: t}
        made_of: dict[str, frozenset[int]] = {tensor: frozenset()}
        # Nodes are in topological order, and so they are taken.
        waiting = list(self._readers.get(tensor, ()))
        while waiting:
            index = heappop(waiting)
            node = self._nodes[index]
            values = _values(node, computed, self._constants)
            if values is None or node.output[0] in computed:
                continue
            (output,) = node.output
            computed[output] = values
            parts = [made_of[name] for name in node.input if name in made_of]
            made_of[output] = frozenset([index]).union(*parts)
            for reader in self._readers.get(output, ()):
                heappush(waiting, reader)
            if self._is_closed(tensor, output, made_of[output]):
                yield ScalarFunction(output, tuple(sorted(made_of[output])), values)

    def _is_closed(self, tensor: str, output: str, nodes: frozenset[int]) -> bool:
        """Whether all that leads from the tensor to the output is read by what leads there."""
        inner = {tensor, *(self._nodes[index].output[0] for index in nodes)} - {output}
        return inner.isdisjoint(self._outputs) and all(
            set(self._readers.get(name, ())) <= nodes for name in inner
        )


def _values(node: NodeProto, computed: dict[str, Floats], constants: Constants) -> Floats | None:
    """What a node makes of computed numbers and constants of one entry; None if it is no such."""
    operation = _OPERATIONS.get((node.domain if node.domain != "ai.onnx" else "", node.op_type))
    if operation is None or len(node.output) != 1 or computed.keys().isdisjoint(node.input):
        return None
    operands: list[Floats | float | None] = []
    for name in node.input:
        found = computed.get(name)
        number = constants.scalar(name) if found is None and name else None
        if found is None and name and number is None:
            return None
        operands.append(number if found is None else found)
    attributes = {one.name: one.s.decode() if one.s else one.f for one in node.attribute}
    with np.errstate(all="ignore"):
        try:
            return np.asarray(operation(attributes, *operands), np.float64)
        except TypeError:
            # More operands than it knows of, or none where it needs one.
            return None


def _gelu(attributes: dict[str, object], t: Floats) -> Floats:
    if attributes.get("approximate", "none") == "tanh":
        return _fast_gelu(attributes, t)
    return np.asarray(t * scipy.special.ndtr(t))


def _fast_gelu(_: dict[str, object], t: Floats) -> Floats:
    inner = math.sqrt(2 / math.pi) * (t + 0.044715 * t**3)
    return np.asarray(t * (1 + np.tanh(inner)) / 2)


def _clip(attributes: dict[str, object], t: Floats, *limits: float | None) -> Floats:
    # Attributes before opset 11, inputs since.
    low = limits[0] if limits else attributes.get("min")
    high = limits[1] if len(limits) > 1 else attributes.get("max")
    least, most = -np.inf if low is None else low, np.inf if high is None else high
    return np.asarray(np.clip(t, least, most))  # type: ignore[call-overload]


def _softplus(t: Floats) -> Floats:
    return np.asarray(np.logaddexp(t, 0.0))


def _elu(alpha: float, scale: float, t: Floats) -> Floats:
    return np.asarray(scale * np.where(t > 0, t, alpha * np.expm1(np.minimum(t, 0))))


def _hard_sigmoid(slope: float, offset: float, t: Floats) -> Floats:
    return np.clip(slope * t + offset, 0.0, 1.0)


# By operator set and name, with ONNX's default attributes.
_OPERATIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("", "Add"): lambda _, a, b: a + b,
    ("", "Sub"): lambda _, a, b: a - b,
    ("", "Mul"): lambda _, a, b: a * b,
    ("", "Div"): lambda _, a, b: a / b,
    ("", "Pow"): lambda _, a, b: np.power(a, b),
    ("", "Neg"): lambda _, t: -t,
    ("", "Exp"): lambda _, t: np.exp(t),
    ("", "Log"): lambda _, t: np.log(t),
    ("", "Erf"): lambda _, t: scipy.special.erf(t),
    ("", "Tanh"): lambda _, t: np.tanh(t),
    ("", "Sigmoid"): lambda _, t: scipy.special.expit(t),
    ("", "Softplus"): lambda _, t: _softplus(t),
    ("", "Reciprocal"): lambda _, t: 1 / t,
    ("", "Identity"): lambda _, t: t,
    ("", "Relu"): lambda _, t: np.maximum(t, 0),
    ("", "Min"): lambda _, a, b: np.minimum(a, b),
    ("", "Max"): lambda _, a, b: np.maximum(a, b),
    ("", "Clip"): _clip,
    ("", "Elu"): lambda given, t: _elu(given.get("alpha", 1.0), 1.0, t),
    ("", "Selu"): lambda given, t: _elu(
        given.get("alpha", 1.67326319217681884765625), given.get("gamma", 1.05070102214813232), t
    ),
    ("", "HardSigmoid"): lambda given, t: _hard_sigmoid(
        given.get("alpha", 0.2), given.get("beta", 0.5), t
    ),
    ("", "HardSwish"): lambda _, t: t * _hard_sigmoid(1 / 6, 0.5, t),
    ("", "Mish"): lambda _, t: t * np.tanh(_softplus(t)),
    ("", "Gelu"): _gelu,
    ("", "Swish"): lambda given, t: t * scipy.special.expit(given.get("alpha", 1.0) * t),
    ("com.microsoft", "Gelu"): _gelu,
    ("com.microsoft", "FastGelu"): _fast_gelu,
    ("com.microsoft", "QuickGelu"): lambda given, t: (
        t * scipy.special.expit(given.get("alpha", 1.702) * t)
    ),
}
