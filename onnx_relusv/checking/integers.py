"""What a file with 8-bit integers has passed, besides what every file has.

With floats between its layers it has equalled the reference to float rounding. What is left to be
shown is that its weights are the planned ones, that the operands of its quantisation are sound,
that no processor cuts a sum off (`rewrites/low_rank/rounding`), whichever this one is, and that
what it gives is what integers give: without optimisation it is run beside a graph in which every
tensor is divided, rounded, cut and multiplied by elementary operators. onnxruntime's integer
kernels round once more where they fuse, so with optimisation it may differ from that, by a few
times what integers between the layers change; how much is stated.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnx_relusv.core.errors import ValidationError
from onnx_relusv.core.kinds import LINEAR_OPERATORS
from onnx_relusv.core.plans import Factors, Int8Format
from onnx_relusv.core.results import Check
from onnx_relusv.graph.checks import checker_problem
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.nodes import attribute
from onnx_relusv.graph.protos import FreshNames, copied
from onnx_relusv.graph.reference import runnable
from onnx_relusv.rewrites.int8.activations import (
    dequantized_weights,
    integer_weights,
    quantized_pairs,
)
from onnx_relusv.runtime.differences import gap_between, identical, norm_of
from onnx_relusv.runtime.session import Session
from onnx_relusv.samples.feeds import Feeds

_RUNS = 3
# Of a float32's resolution: both graphs run the same float kernels on the same numbers.
_ROUNDINGS = 32.0
# Of what integers between the layers change: a kernel rounds biases, and sums before activations,
# once more, with steps as large as these. Sums that overflow are off by far more.
_MORE_ROUNDINGS = 3.0
# Of what optimisation changes of the floats that integers stand for, as every file may.
_LEVELS = 16.0
# Of an input whose blocks of 32 numbers are rounded to 127 steps of their largest: what that can
# change of it. onnxruntime does so where a product reads weights of integers, and floats.
_BLOCKS = 32**0.5 / 254
# What an x86 processor without VNNI adds the products of two bytes of an input in.
_LARGEST_BYTE, _LARGEST_SUM = 255, 2**15 - 1


def integer_checks(
    written: Model,
    floats: Path,
    factors: Mapping[str, Factors],
    feeds: Feeds,
    provider: str,
    int8_format: Int8Format,
) -> list[Check]:
    """Checks a written file.

    Args:
        written: The file.
        floats: The same with floats between its layers.
        factors: That it was written of, by the key of the block.
        feeds: What it is run on.
        provider: The execution provider.
        int8_format: What its layers of integers read.

    Raises:
        ValidationError: A check failed; the message names it.
    """
    problem = checker_problem(written.path)
    if problem is not None and checker_problem(floats) is None:
        raise ValidationError(f"onnx.checker refuses the result: {problem}")
    operands = next(operand_problems(written.proto.graph, int8_format), None)
    if operands is not None:
        raise ValidationError(f"the quantisation is unsound: {operands}.")
    too_large = next(_too_large_sums(written), None)
    if too_large is not None:
        raise ValidationError(f"processors without VNNI would cut sums off: {too_large}.")
    weights = _planned(written, factors)
    return [
        Check("integers", f"{weights} weights times their scales are the planned ones, exactly"),
        *_runs(written, floats, feeds, provider, int8_format),
    ]


def operand_problems(graph: GraphProto, int8_format: Int8Format) -> Iterator[str]:
    """What is wrong with scales, zero points and axes, in words."""
    signed = int8_format == "s8s8"
    arrays = {tensor.name: tensor for tensor in graph.initializer}
    for name, node in integer_weights(graph).items():
        weight, scale = (arrays[one] for one in node.input[:2])
        axis = attribute(node, "axis", 1)
        if not 0 <= axis < len(weight.dims) or list(scale.dims) != [weight.dims[axis]]:
            yield f"{name} has {list(scale.dims)} scales on axis {axis} of {list(weight.dims)}"
        yield from _scale_problem(name, scale)
        if len(node.input) > 2:
            zero = arrays[node.input[2]]
            wrong = zero.data_type != weight.data_type or list(zero.dims) != list(scale.dims)
            if wrong or np.any(numpy_helper.to_array(zero)):
                yield f"{name} has a zero point that is not 0, or of another type or shape"
    for name, (quantize, dequantize) in quantized_pairs(graph).items():
        if int8_format == "weights":
            yield f"{name} is made of integers, where weights alone are to be"
        if list(quantize.input[1:]) != list(dequantize.input[1:]):
            yield f"{name} is not made of integers by what they were made with"
        yield from _scale_problem(name, arrays[quantize.input[1]])
        kind = TensorProto.INT8 if signed else TensorProto.UINT8
        own = arrays[quantize.input[2]] if len(quantize.input) > 2 else None
        if own is None or own.data_type != kind:
            yield f"{name} has no zero point of type {'int8' if signed else 'uint8'}"
        elif signed and np.any(numpy_helper.to_array(own)):
            yield f"{name} has a zero point that is not 0, and is not symmetric"


def _scale_problem(name: str, scale: TensorProto) -> Iterator[str]:
    values = numpy_helper.to_array(scale)
    if scale.data_type != TensorProto.FLOAT or not np.all(np.isfinite(values) & (values > 0)):
        yield f"{name} has a scale that is no positive float32"


def _too_large_sums(written: Model) -> Iterator[str]:
    """Which weights have neighbours whose products with bytes exceed 16 bits together, in words."""
    arrays = {tensor.name: tensor for tensor in written.proto.graph.initializer}
    weights = integer_weights(written.proto.graph)
    for node in written.proto.graph.node:
        if node.op_type not in LINEAR_OPERATORS or node.input[1] not in weights:
            continue
        name = weights[node.input[1]].input[0]
        values = numpy_helper.to_array(written.loaded(arrays[name])).astype(np.int64)
        if LINEAR_OPERATORS[node.op_type].spatial:
            groups = attribute(node, "group", 1)
            if values.shape[1] == 1 and groups == len(values):
                continue  # a depthwise kernel adds in 32 bits
            rows = np.moveaxis(values, 1, -1).reshape(len(values), -1)
        else:
            rows = values if attribute(node, "transB", 0) else values.swapaxes(-1, -2)
        paired = rows[..., : rows.shape[-1] // 2 * 2].reshape(-1, 2)
        for sums in (np.maximum(paired, 0).sum(axis=1), np.minimum(paired, 0).sum(axis=1)):
            largest = int(_LARGEST_BYTE * np.abs(sums).max(initial=0))
            if largest > _LARGEST_SUM:
                yield f"two neighbours of {name} reach {largest}, beyond {_LARGEST_SUM}"


def _rounded_products(graph: GraphProto) -> int:
    """How many products of floats and integers onnxruntime computes with rounded floats."""
    weights, pairs = integer_weights(graph), quantized_pairs(graph)
    return sum(
        node.op_type in LINEAR_OPERATORS
        and not LINEAR_OPERATORS[node.op_type].spatial
        and node.input[1] in weights
        and node.input[0] not in pairs
        and not attribute(node, "transB", 0)
        for node in graph.node
    )


def _planned(written: Model, factors: Mapping[str, Factors]) -> int:
    """How many weights of the file are integers, each of them one that was planned."""
    planned: dict[bytes, int] = {}
    for own in factors.values():
        for matrix in own.matrices if own.are_integers else ():
            key = np.sort(matrix.astype(np.float32), axis=None).tobytes()
            planned[key] = planned.get(key, 0) + 1
    found = dequantized_weights(written)
    for name, values in found.items():
        key = np.sort(values, axis=None).tobytes()
        if planned.get(key, 0) == 0:
            raise ValidationError(f"{name}: integers times scales are none of the planned weights.")
        planned[key] -= 1
    if any(planned.values()):
        raise ValidationError("a planned weight of integers is not in the file.")
    return len(found)


def with_elementary_nodes(model: Model) -> ModelProto:
    """The file with elementary operators in the place of its quantisation."""
    result = copied(model.proto)
    graph, names = result.graph, FreshNames(model.proto.graph)
    pairs, weights = quantized_pairs(model.proto.graph), integer_weights(model.proto.graph)
    arrays = {tensor.name: tensor for tensor in model.proto.graph.initializer}
    quantizing = {pair[0].output[0] for pair in pairs.values()}
    del graph.node[:]

    def constant(value: np.ndarray) -> str:
        name = names("elementary")
        graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    for node in model.proto.graph.node:
        output = node.output[0] if node.output else ""
        if output in weights:
            scale = numpy_helper.to_array(model.loaded(arrays[node.input[1]]))
            shape = [1] * len(arrays[node.input[0]].dims)
            shape[attribute(node, "axis", 1)] = -1
            number, factor = names("elementary"), constant(scale.reshape(shape))
            # Computed, as in the file: kernels sum constant weights in another order.
            graph.node.append(
                helper.make_node("Cast", [node.input[0]], [number], to=TensorProto.FLOAT)
            )
            graph.node.append(helper.make_node("Mul", [number, factor], [output]))
        elif output in pairs:
            quantize, _ = pairs[output]
            scale, zero = (numpy_helper.to_array(arrays[one]) for one in quantize.input[1:])
            kind = np.iinfo(zero.dtype)
            low, high = np.float32(kind.min - int(zero)), np.float32(kind.max - int(zero))
            graph.node.extend(
                _elementary(quantize.input[0], output, constant, names, (scale, low, high))
            )
        elif output not in quantizing:
            graph.node.append(node)
    return result


def _elementary(
    source: str,
    output: str,
    constant: Callable[[np.ndarray], str],
    names: FreshNames,
    numbers: Sequence[np.ndarray | np.floating],
) -> list[NodeProto]:
    scale, low, high = (constant(np.asarray(value, np.float32)) for value in numbers)
    steps = [names("elementary") for _ in range(3)]
    return [
        helper.make_node("Div", [source, scale], [steps[0]]),
        helper.make_node("Round", [steps[0]], [steps[1]]),
        helper.make_node("Clip", [steps[1], low, high], [steps[2]]),
        helper.make_node("Mul", [steps[2], scale], [output]),
    ]


def _runs(
    written: Model, floats: Path, feeds: Feeds, provider: str, int8_format: Int8Format
) -> Iterator[Check]:
    elementary = runnable(written, with_elementary_nodes(written))
    plain, exact, between = (
        Session(source, provider, optimized=False).run(feeds)
        for source in (written.path, elementary, floats)
    )
    of_floats = Session(floats, provider).run(feeds)
    optimised = Session(written.path, provider)
    runs = [optimised.run(feeds) for _ in range(_RUNS)]
    rounding = _BLOCKS * _rounded_products(written.proto.graph)
    furthest = between_layers = 0.0
    for name, value in exact.items():
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            continue
        norm = norm_of(value) or 1.0
        allowed = _ROUNDINGS * float(np.finfo(np.float32).eps) * norm
        gap = gap_between(plain[name], value)
        if not gap <= allowed:
            raise ValidationError(
                f"output {name} differs from what its integers stand for by {gap / norm:.2g}."
            )
        if any(not identical(runs[0][name], run[name]) for run in runs[1:]):
            raise ValidationError(f"runs of the result on the same input differ in {name}.")
        by_themselves = gap_between(value, between[name])
        gap = gap_between(runs[0][name], value)
        levels = _LEVELS * gap_between(of_floats[name], between[name])
        if not gap <= _MORE_ROUNDINGS * by_themselves + levels + allowed + rounding * norm:
            raise ValidationError(
                f"output {name} changes by {gap / norm:.2g} when onnxruntime runs the result on "
                f"integers; integers between its layers change it by {by_themselves / norm:.2g}."
            )
        furthest = max(furthest, gap / norm)
        between_layers = max(between_layers, by_themselves / norm)
    text = f"without optimisation equal to elementary operators, with it within {furthest:.2g}"
    if int8_format != "weights":
        text += f"; integers between layers change {between_layers:.2g}"
    yield Check("integer kernels", text)
