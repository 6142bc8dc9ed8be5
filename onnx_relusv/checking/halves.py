"""What a file in half precision has passed, besides what the same in float32 has.

Its outputs are what the file in float32 computes, node by node, but for Casts from one to the other
and constants that were rounded once: both graphs are written as expressions of their inputs, which
have to be equal. Its nodes are in topological order. It opens with optimisation and without it, and
gives the same answer three times. On a CPU, onnxruntime computes most of it in float32; so it is
run with every node's answer rounded to half precision too. All answers are finite where those in
float32 are; how far they are from these is stated.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper

from onnx_relusv.core.errors import InputError, ValidationError
from onnx_relusv.core.results import Check
from onnx_relusv.graph.checks import checker_problem, signature_differences
from onnx_relusv.graph.model import Model, read_model
from onnx_relusv.graph.nodes import attribute, is_standard
from onnx_relusv.graph.protos import FreshNames, copied, first_output, held, used_names
from onnx_relusv.graph.reference import runnable
from onnx_relusv.rewrites.fp16.operators import Types
from onnx_relusv.runtime.differences import gap_between, identical, norm_of
from onnx_relusv.runtime.session import Session

_RUNS = 3
_SHOWN = 3
# The file as it is meant, without optimisation and with it; kernels round where they like, in the
# resolution of half precision, so their errors may be a few times those of rounding every node.
_KINDS, _MORE_ROUNDINGS, _RESOLUTION = 3, 4.0, 2.0**-11
_TYPES = (TensorProto.FLOAT, TensorProto.FLOAT16)


def half_checks(
    written: Path,
    floats: Path,
    staying: Mapping[str, str],
    feeds: Mapping[str, np.ndarray],
    provider: str,
) -> list[Check]:
    """Checks a written file.

    Args:
        written: The file.
        floats: The same in float32.
        staying: The nodes that stay float32, with reasons.
        feeds: What both are run on.
        provider: The execution provider.

    Raises:
        ValidationError: A check failed; the message names it.
    """
    problem = checker_problem(written)
    if problem is not None and checker_problem(floats) is None:
        raise ValidationError(f"onnx.checker refuses the result in half precision: {problem}")
    _check_order(onnx.load(str(written), load_external_data=False).graph.node)
    half, full = read_model(written), read_model(floats)
    differences = signature_differences(full.proto, half.proto)
    if differences:
        raise ValidationError(f"the result does not look like the one in float32: {differences}")
    rounded = _check_expressions(half, full)
    return [
        Check(
            "half precision",
            f"{rounded} constants rounded once, and nodes as in float32, {_kept(staying)}",
        ),
        _runs(written, floats, feeds, provider),
    ]


def _kept(staying: Mapping[str, str]) -> str:
    if not staying:
        return "all of them in half precision"
    counted = Counter(staying.values()).most_common()
    shown = [f"{count}: {why}" for why, count in counted[:_SHOWN]]
    others = len(staying) - sum(count for _, count in counted[:_SHOWN])
    shown += [f"{others}: other reasons"] if others else []
    return f"of which {len(staying)} stay float32 ({'; '.join(shown)})"


def _check_order(nodes: Sequence[NodeProto]) -> None:
    """Checks that every node stands behind those that make what it reads."""
    later = {name for node in nodes for name in node.output if name}
    for node in nodes:
        late = next((name for name in used_names([node]) if name in later), None)
        if late is not None:
            raise ValidationError(
                f"the nodes of the result are in no topological order: {first_output(node)} reads "
                f"{late}, which is made behind it."
            )
        later.difference_update(node.output)


def _check_expressions(half: Model, full: Model) -> int:
    """How many constants of a file are in half precision that are not in the one in float32.

    Raises:
        ValidationError: An output is another expression of inputs and constants, or a constant that
            stays float32 has other numbers.
    """
    after, before = _Expressions(half), _Expressions(full)
    if not after.floats <= before.floats:
        raise ValidationError("a constant that stays float32 has other numbers in the result.")
    for value in full.proto.graph.output:
        if after.of(value.name) != before.of(value.name):
            raise ValidationError(
                f"in half precision, output {value.name} is not computed by the same nodes of the "
                "same constants, rounded once."
            )
    return after.halves - before.halves


class _Expressions:
    """The tensors of a graph as expressions of its inputs and constants, hashed.

    Attributes:
        floats: Hashes of its float32 constants.
        halves: How many of its constants are in half precision.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._known: dict[str, str] = {}
        self.floats: set[str] = set()
        self.halves = 0
        graph = model.proto.graph
        for tensor in graph.initializer:
            self._known[tensor.name] = self._constant(tensor)
        for node in graph.node:
            self._add(node)

    def of(self, name: str) -> str:
        """A tensor's expression; an input of the graph is its name."""
        return self._known.get(name, name)

    def _add(self, node: NodeProto) -> None:
        standard = is_standard(node)
        if standard and node.op_type == "Constant":
            tensor = held(node)
            if tensor is not None:
                self._known[node.output[0]] = self._constant(tensor)
                return
        if standard and node.op_type == "Cast" and attribute(node, "to") in _TYPES:
            self._known[node.output[0]] = self.of(node.input[0])
            return
        settings = sorted(one.SerializeToString(deterministic=True) for one in node.attribute)
        read = [f"{name}={self.of(name)}" for name in used_names([node]) if name not in node.input]
        words = [node.domain, node.op_type, *map(self.of, node.input), *read]
        digest = _hashed(*(word.encode() for word in words), *settings)
        self._known.update(
            (name, f"{digest} {place}") for place, name in enumerate(node.output) if name
        )

    def _constant(self, tensor: TensorProto) -> str:
        """A constant's hash, the same in both types."""
        values = self._model.array(tensor)
        if tensor.data_type == TensorProto.FLOAT:
            self.floats.add(_hashed(values.tobytes()))
            with np.errstate(over="ignore"):
                values = values.astype(np.float16)
        elif tensor.data_type == TensorProto.FLOAT16:
            self.halves += 1
        content = str(values.tolist()) if values.dtype.hasobject else None
        data = values.tobytes() if content is None else content.encode()
        return _hashed(str(values.dtype).encode(), str(values.shape).encode(), data)


def _hashed(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def with_rounding(model: Model) -> ModelProto:
    """The file with every node in float32, and a Cast to half precision behind what it gives.

    So a processor computes that adds up in float32 and stores in half precision. On a CPU,
    onnxruntime casts around its kernels of float32 itself, but not between two of them.
    """
    result = copied(model.proto)
    graph, names, types = result.graph, FreshNames(model.proto.graph), Types(model.proto)
    del graph.node[:]
    for node in model.proto.graph.node:
        halves = [
            name
            for name in dict.fromkeys((*node.input, *node.output))
            if name and types.of(name) == TensorProto.FLOAT16
        ]
        if not halves or node.op_type in ("Cast", "Constant"):
            graph.node.append(node)
            continue
        full = {name: names(f"{name}_full") for name in halves}
        own = copied(node, skipped={"input", "output"})
        own.input.extend(full.get(name, name) for name in node.input)
        own.output.extend(full.get(name, name) for name in node.output)
        graph.node.extend(
            helper.make_node("Cast", [name], [full[name]], to=TensorProto.FLOAT)
            for name in halves
            if name in node.input
        )
        graph.node.append(own)
        graph.node.extend(
            helper.make_node("Cast", [full[name]], [name], to=TensorProto.FLOAT16)
            for name in halves
            if name in node.output
        )
    return result


def _runs(written: Path, floats: Path, feeds: Mapping[str, np.ndarray], provider: str) -> Check:
    model = read_model(written)
    exact = Session(floats, provider).run(feeds)
    try:
        rounded = Session(runnable(model, with_rounding(model)), provider).run(feeds)
        plain = Session(written, provider, optimized=False).run(feeds)
        optimised = Session(written, provider)
        runs = [optimised.run(feeds) for _ in range(_RUNS)]
    except InputError as error:
        raise ValidationError(f"the result does not run in half precision: {error}") from error
    furthest = 0.0
    for name, value in exact.items():
        if any(not identical(runs[0][name], run[name]) for run in runs[1:]):
            raise ValidationError(f"runs of the result on the same input differ in {name}.")
        # Where lengths follow from numbers, they are judged with the answers.
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            continue
        found = [one[name] for one in (rounded, plain, runs[0]) if one[name].shape == value.shape]
        if any(not np.isfinite(one[np.isfinite(value)]).all() for one in found):
            raise ValidationError(
                f"output {name} is not finite in half precision, and is in float32."
            )
        norm = norm_of(value) or 1.0
        gaps = [gap_between(one, value) / norm for one in found]
        if len(gaps) == _KINDS and max(gaps) > _MORE_ROUNDINGS * (gaps[0] + _RESOLUTION):
            raise ValidationError(
                f"output {name} changes by {max(gaps):.2g} as onnxruntime runs it in half "
                f"precision; rounding what every node gives changes it by {gaps[0]:.2g}."
            )
        furthest = max(furthest, *gaps)
    return Check(
        "half precision runs",
        f"finite, {_RUNS} times the same, and within {furthest:.2g} of the result in float32, "
        "with what every node gives rounded",
    )
