"""Lengths that a graph fixes, whatever it is fed, and where a reshape takes channels.

Shapes come from a run with one sample. Another batch or another size of image may make something
else of one and the same Reshape, so what is decided has to hold for these too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
import onnx
from onnx import ModelProto, numpy_helper

from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.lengths.shape_chains import Known, ShapeChains
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.nodes import Shape
from onnx_relusv.graph.protos import copy_fields

Lengths = tuple[int | None, ...]
# Numbers that a shape, a scale or a bound for inference may have.
_FEW = 64
# How often lengths are inferred anew at most.
_PASSES = 4
# By what lengths that are not fixed are multiplied when a reshape is tried at other sizes.
_FACTORS = (1, 2, 3)


@dataclass(frozen=True, eq=False)
class InferredLengths:
    """What follows from a graph about the lengths of its tensors, whatever it is fed.

    Attributes:
        fixed: Of every tensor whose rank follows from the graph, its lengths; None where they
            vary.
        chains: The tensors that consist of lengths, and shapes that are computed of them.
    """

    fixed: dict[str, Lengths]
    chains: ShapeChains


def inferred_lengths(model: Model) -> InferredLengths:
    """Infers lengths; what the file itself says of inner tensors is not believed.

    It may be of one size only.
    """
    constants = Constants(model)
    bare = _bare(model, constants)
    known = _inferred(bare)
    chains = ShapeChains(model, constants, known)
    done: set[str] = set()
    # A view behind a view is understood once the first one is.
    for _ in range(_PASSES):
        fresh = {name: each for name, each in chains.vectors.items() if name not in done}
        if not fresh:
            break
        done.update(fresh)
        for node in bare.graph.node:
            if node.output and node.output[0] in fresh:
                name = f"{node.output[0]}/lengths"
                vector = np.array(fresh[node.output[0]], np.int64)
                bare.graph.initializer.append(numpy_helper.from_array(vector, name))
                node.input[1] = name
        known = _inferred(bare)
        chains = ShapeChains(model, constants, known)
    fixed = {
        name: tuple(each if isinstance(each, int) else None for each in lengths)
        for name, lengths in known.items()
    }
    return InferredLengths(fixed, chains)


def _bare(model: Model, constants: Constants) -> ModelProto:
    """A model for inference: constants where it looks for them, and names for lengths that vary."""
    bare, computed = ModelProto(), dict[str, np.ndarray]()
    copy_fields(model.proto, bare, skipped={"graph"})
    copy_fields(model.proto.graph, bare.graph, skipped={"value_info"})
    for node in bare.graph.node:
        for slot, name in enumerate(node.input):
            # Inference does not look through other nodes for a shape or a scale.
            tensor = constants.tensor(name)
            if tensor is None:
                continue
            node.input[slot] = constants.root(name)
            values = constants.array(name) if constants.is_computed(name) else None
            if values is not None and values.size <= _FEW:
                node.input[slot] = f"{constants.root(name)}/computed"
                computed[node.input[slot]] = values
    bare.graph.initializer.extend(
        numpy_helper.from_array(values, name) for name, values in computed.items()
    )
    for value in bare.graph.input:
        for place, axis in enumerate(value.type.tensor_type.shape.dim):
            if not axis.dim_value and not axis.dim_param:
                axis.dim_param = f"{value.name}[{place}]"
    for value in bare.graph.output:
        for axis in value.type.tensor_type.shape.dim:
            axis.ClearField("dim_param")
    return bare


def _inferred(bare: ModelProto) -> dict[str, Known]:
    try:
        graph = onnx.shape_inference.infer_shapes(bare).graph
    except Exception:  # several unrelated types; then nothing is known to be fixed
        return {}
    return {
        value.name: tuple(
            axis.dim_value or axis.dim_param or None for axis in value.type.tensor_type.shape.dim
        )
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape")
    }


@dataclass(frozen=True)
class Reshaping:
    """What a Flatten or a Reshape does to shapes.

    Attributes:
        wanted: A Reshape's shape as given, with 0 and -1; None for a Flatten.
        allow_zero: Whether a 0 is a length of 0, and not that of the input.
        axis: A Flatten's.
    """

    wanted: tuple[int, ...] | None
    allow_zero: bool = False
    axis: int = 1

    def __call__(self, before: Sequence[int]) -> Shape | None:
        """The new shape; None where there is none."""
        if self.wanted is None:
            axis = self.axis + len(before) if self.axis < 0 else self.axis
            return prod(before[:axis]), prod(before[axis:])
        after = list(self.wanted)
        if not self.allow_zero:
            if any(not each and place >= len(before) for place, each in enumerate(after)):
                return None
            after = [each or before[place] for place, each in enumerate(after)]
        total = prod(before)
        if -1 in after:
            known = -prod(after)
            if not known or total % known:
                return None
            after[after.index(-1)] = total // known
        return tuple(after) if prod(after) == total else None


@dataclass(frozen=True)
class Run:
    """How channels lie along an axis.

    Attributes:
        axis: The axis.
        each: How many neighbouring indices belong to one channel.
        times: How often the row of all channels comes.
    """

    axis: int
    each: int = 1
    times: int = 1

    def count(self, shape: Shape) -> int:
        """How many channels there are."""
        return shape[self.axis] // (self.each * self.times)


def destination(reshaping: Reshaping, before: Shape, run: Run, fixed: Lengths) -> Run | None:
    """Where a reshape takes channels; None if not to one axis, or not to the same at all sizes.

    Args:
        reshaping: What is done.
        before: The shape of its input at one size.
        run: How channels lie in it. Their axis has this length at all sizes.
        fixed: Which of the other lengths are the same at all sizes.
    """
    found = [_moved(reshaping, before, run)]
    for other in _other_sizes(before, run.axis, fixed):
        # A size that cannot be reshaped cannot come.
        if reshaping(other) is not None:
            found.append(_moved(reshaping, other, run))
    first = found[0]
    if first is None or any(each is None or each.axis != first.axis for each in found):
        return None
    # If both vary, an axis of one length can be made in several ways.
    for along in ("each", "times"):
        if len({getattr(each, along) for each in found}) == 1:
            return first if _stays_valid(reshaping, before, run, first) else None
    return None


def _other_sizes(before: Shape, channels: int, fixed: Lengths) -> Iterator[Shape]:
    free = [place != channels and length is None for place, length in enumerate(fixed)]
    for factors in product(*(_FACTORS if each else (1,) for each in free)):
        yield tuple(length * factor for length, factor in zip(before, factors, strict=True))


def _moved(reshaping: Reshaping, before: Shape, run: Run) -> Run | None:
    """Where channels are at one size: on the axis that takes all of them up, and never the first.

    With C channels, T rows and E indices each in front, it has to have t C e indices, where
    t divides what is in front of the channels and e what is behind them.
    """
    after = reshaping(before)
    if after is None or not prod(after):
        return None
    count = run.count(before)
    front = prod(before[: run.axis]) * run.times
    back = prod(before[run.axis + 1 :]) * run.each
    for axis in range(1, len(after)):
        new_front, new_back = prod(after[:axis]), prod(after[axis + 1 :])
        times, each = front // new_front, back // new_back
        whole = times * new_front == front and each * new_back == back
        if whole and after[axis] == times * count * each:
            return Run(axis, each, times)
    return None


def _stays_valid(reshaping: Reshaping, before: Shape, run: Run, place: Run) -> bool:
    """Whether, with a channel less, the given shape with its renamed length means the same."""
    after = reshaping(before)
    assert after is not None  # the channels have been found in it
    if run.count(before) == 1:
        return True
    fewer, wanted = list(before), list(after)
    fewer[run.axis] -= run.each * run.times
    wanted[place.axis] -= place.each * place.times
    renamed = reshaping
    if reshaping.wanted is not None and reshaping.wanted[place.axis] > 0:
        lengths = list(reshaping.wanted)
        lengths[place.axis] = wanted[place.axis]
        renamed = Reshaping(tuple(lengths), reshaping.allow_zero)
    return renamed(fewer) == tuple(wanted)
