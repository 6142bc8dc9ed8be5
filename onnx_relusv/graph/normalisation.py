"""How a model normalises an input: the constants that it is shifted and scaled by at the front.

Networks are trained on inputs that are, once normalised, about 0 on average with a variance of
about 1. Where a file does that itself, it so tells what its raw inputs are like.
"""

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.operators import is_standard
from onnx_relusv.graph.view import View
from onnx_relusv.records import Floats, ReadOnlyArrays

_PASSED = ("Identity", "Cast")


@dataclass(frozen=True, eq=False)
class Normalisation(ReadOnlyArrays):
    """What becomes of an input x: scale * x + shift, both broadcast to x as ONNX does.

    Attributes:
        scale: float64, any shape that broadcasts to the input's; nowhere 0.
        shift: Likewise.
    """

    scale: Floats
    shift: Floats


NOTHING = Normalisation(np.ones(()), np.zeros(()))


def normalisation(model: Model, view: View, name: str) -> Normalisation:
    """How an input is normalised; `NOTHING` where the file does not.

    Args:
        model: The model.
        view: Its graph.
        name: Of the input.
    """
    constants = Constants(model)
    tensor: gs.Tensor | None = next(t for t in view.graph.inputs if t.name == name)
    found: Normalisation | None = NOTHING
    last = NOTHING
    while tensor is not None and found is not None:
        last = found
        readers = tensor.outputs
        if len(readers) != 1 or id(readers[0]) not in view.index or not is_standard(readers[0]):
            break
        node = readers[0]
        if node.op in _PASSED:
            tensor = node.outputs[0]
            continue
        found = _applied(node, tensor, last, constants)
        tensor = node.outputs[0]
    return last


def _applied(
    node: gs.Node, tensor: gs.Tensor, before: Normalisation, constants: Constants
) -> Normalisation | None:
    """What comes behind one more node; None where it is no shift or scale by constants."""
    if node.op not in ("Add", "Sub", "Mul", "Div") or len(node.inputs) != 2:
        return None
    own = 0 if node.inputs[0] is tensor else 1
    values = constants.array(node.inputs[1 - own].name)
    if values is None or (own == 1 and node.op == "Div"):
        return None
    constant = values.astype(np.float64)
    if not np.isfinite(constant).all() or (node.op in ("Mul", "Div") and not constant.all()):
        return None
    if node.op == "Add":
        return Normalisation(before.scale, before.shift + constant)
    if node.op == "Mul":
        return Normalisation(before.scale * constant, before.shift * constant)
    if node.op == "Div":
        return Normalisation(before.scale / constant, before.shift / constant)
    if own == 0:
        return Normalisation(before.scale, before.shift - constant)
    return Normalisation(-before.scale, constant - before.shift)
