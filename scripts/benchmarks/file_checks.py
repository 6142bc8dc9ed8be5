"""Is a compressed file sound? Judged beside its original by onnx and onnxruntime alone.

Nothing here comes from the package: what it says of its own files is not asked. Run as a program,
`file_checks.py ORIGINAL RESULT SHARE`, it prints JSON: the problems, how far the outputs moved, and
whether any input was found on which the original runs.
"""

import itertools
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import onnx
import onnxruntime

# The one entry that the package says it adds.
_OWN_ENTRY = "onnx_relusv"
# Lengths that are tried for axes without one: windows, mel bands, images, audio.
_LENGTHS = (1, 2, 8, 32, 64, 224, 80, 128, 256, 320, 512, 640, 1024, 96, 40, 48, 60, 16000)
# In the end all lengths up to this one are tried.
_LONGEST = 1200
_MOST_HINTS = 12
_SEARCH_SECONDS = 90.0
# Graph optimisation fuses and reorders sums of float32; 1e-3 of an output's size is far above what
# that does to a sound network and far below what a wrong weight does. Networks that amplify
# rounding more get 20 times what the original itself shows.
_ROUNDING, _OWN_TIMES = 1e-3, 20.0

Feed = dict[str, np.ndarray]
Values = list[Any]


@dataclass
class Findings:
    """What was found.

    Attributes:
        problems: Sentences; empty for a sound file.
        ran: Whether the original ran on any of the inputs that were tried.
        change: Largest relative change (L2) of a float output from the original to the result.
    """

    problems: list[str] = field(default_factory=list)
    ran: bool = False
    change: float | None = None


def check(original: Path, result: Path, share: float) -> Findings:
    """All checks of one file.

    Args:
        original: The model that was compressed.
        result: The file that was written.
        share: Of the original's bytes, how many it may have.
    """
    found = Findings()
    before, after = (onnx.load(path, load_external_data=False) for path in (original, result))
    sizes = [_bytes(path, model) for path, model in ((original, before), (result, after))]
    if sizes[1] > share * sizes[0]:
        found.problems.append(f"{sizes[1]} bytes are over {share:g} of {sizes[0]}")
    found.problems += _checker(original, result)
    found.problems += _signature(before, after)
    found.problems += _operands(onnx.load(result))
    found.problems += _runs(original, result, before, found)
    return found


def _bytes(path: Path, model: onnx.ModelProto) -> int:
    """Bytes of a file and of the files that hold its external data."""
    locations = {
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return sum(file.stat().st_size for file in (path, *(path.parent / one for one in locations)))


def _checker(original: Path, result: Path) -> list[str]:
    try:
        onnx.checker.check_model(str(result), full_check=True)
    except Exception as error:  # onnx.checker has several kinds of its own
        try:
            onnx.checker.check_model(str(original), full_check=True)
        except Exception:
            return []
        return [f"onnx.checker: {str(error).splitlines()[0]}"]
    return []


def _signature(before: onnx.ModelProto, after: onnx.ModelProto) -> list[str]:
    problems = []
    for what in ("input", "output"):
        old, new = (
            [value.SerializeToString(deterministic=True) for value in getattr(model.graph, what)]
            for model in (before, after)
        )
        if old != new:
            problems.append(f"its {what}s are not those of the original")
    opsets = [
        {(one.domain, one.version) for one in model.opset_import} for model in (before, after)
    ]
    if opsets[0] != opsets[1]:
        problems.append(f"operator sets {opsets[1]} in place of {opsets[0]}")
    entries = [{one.key: one.value for one in model.metadata_props} for model in (before, after)]
    entries[1].pop(_OWN_ENTRY, None)
    entries[0].pop(_OWN_ENTRY, None)
    if entries[0] != entries[1]:
        problems.append("its metadata is not that of the original")
    for name in ("ir_version", "producer_name", "producer_version", "domain", "model_version"):
        if getattr(before, name) != getattr(after, name):
            problems.append(f"{name} changed")
    if [one.name for one in before.functions] != [one.name for one in after.functions]:
        problems.append("its functions changed")
    return problems


def _operands(model: onnx.ModelProto) -> list[str]:
    """Operands of a channel's length that are not: onnxruntime would read past their ends."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    problems = []
    for node in model.graph.node:
        given = [shapes.get(name) for name in node.input]
        if node.op_type == "Conv" and len(given) > 2 and given[1] and given[2]:
            if given[2] != (given[1][0],):
                problems.append(f"bias of {node.output[0]}: {given[2]} for {given[1][0]} channels")
        elif node.op_type == "BatchNormalization":
            lengths = {shape for shape in given[1:5] if shape is not None}
            if len(lengths) > 1:
                problems.append(f"{node.output[0]}: vectors of {sorted(lengths)}")
        elif node.op_type == "Gemm" and len(given) > 2 and given[1] and given[2]:
            by_rows = any(one.name == "transB" and one.i for one in node.attribute)
            width = given[1][0] if by_rows else given[1][1]
            if given[2] and given[2][-1] not in (1, width):
                problems.append(f"bias of {node.output[0]}: {given[2]} for {width} columns")
    return problems


def _session(path: Path, optimised: bool) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = (
        levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    )
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _runs(original: Path, result: Path, model: onnx.ModelProto, found: Findings) -> list[str]:
    """Opens at both levels, repeats itself, and agrees with itself as well as the original does."""
    before = [_session(original, level) for level in (False, True)]
    try:
        after = [_session(result, level) for level in (False, True)]
    except Exception as error:  # onnxruntime's errors have no common base
        return [f"onnxruntime does not open it: {str(error).splitlines()[0]}"]
    problems: list[str] = []
    names = [value.name for value in before[0].get_outputs()]
    for feed in _feeds(before[0], model):
        found.ran = True
        old = [session.run(None, feed) for session in before]
        try:
            runs = [after[1].run(None, feed) for _ in range(3)]
            plain = after[0].run(None, feed)
        except Exception as error:
            return [*problems, f"it does not run: {str(error).splitlines()[0]}"]
        for number, name in enumerate(names):
            if any(not _equal(run[number], runs[0][number]) for run in runs[1:]):
                problems.append(f"{name}: three runs on one input are not equal")
            own, new = (_distance(one[number], two[number]) for one, two in (old, (plain, runs[0])))
            if new is not None and new > _ROUNDING + _OWN_TIMES * (own or 0.0):
                problems.append(
                    f"{name}: {new:.2g} between the optimisation levels, {own or 0:.2g} before"
                )
            moved = _distance(old[1][number], runs[0][number])
            if moved is not None:
                found.change = max(found.change or 0.0, moved)
            if _finite(old[1][number]) and not _finite(runs[0][number]):
                problems.append(f"{name}: not finite where the original is")
    return list(dict.fromkeys(problems))


def _equal(one: Any, two: Any) -> bool:
    if isinstance(one, np.ndarray):
        same_type = isinstance(two, np.ndarray) and one.dtype == two.dtype
        return same_type and np.array_equal(one, two, equal_nan=one.dtype.kind == "f")
    if isinstance(one, list):
        return len(one) == len(two) and all(map(_equal, one, two))
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(_equal(one[key], two[key]) for key in one)
    return bool(one == two or one != one)


def _distance(one: Any, two: Any) -> float | None:
    """Relative L2 distance of two float arrays of one shape, over entries finite in both.

    None where there is nothing to compare. Values at the resolution of float32 beside 1, such as
    those of a Sigmoid far from any answer, count as equal.
    """
    if not isinstance(one, np.ndarray) or one.dtype.kind != "f" or one.shape != np.shape(two):
        return None
    both = np.isfinite(one) & np.isfinite(two)
    left, right = one[both].astype(np.float64), two[both].astype(np.float64)
    size = float(np.linalg.norm(left))
    distance = float(np.linalg.norm(left - right))
    if distance <= 1e-6 * np.sqrt(max(left.size, 1)):
        return 0.0
    return distance / max(size, distance) if size else 1.0


def _finite(values: Any) -> bool:
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
        return True
    return bool(np.isfinite(values).all())


def _feeds(session: onnxruntime.InferenceSession, model: onnx.ModelProto) -> Iterator[Feed]:
    """Inputs of up to two kinds on which the original runs, found by trying."""
    begun = perf_counter()
    inputs = session.get_inputs()
    for lengths in _lengths(inputs, _hints(model)):
        if perf_counter() - begun > _SEARCH_SECONDS:
            return
        for kind in ("ones", "random"):
            feed = _feed(inputs, lengths, kind)
            if feed is None:
                return
            if not _is_run(session, feed):
                continue
            yield feed
            other = _feed(inputs, lengths, "bytes")
            # Larger whole numbers may be no indices.
            if kind == "random" and other is not None and _is_run(session, other):
                yield other
            return


def _is_run(session: onnxruntime.InferenceSession, feed: Feed) -> bool:
    try:
        session.run(None, feed)
    except Exception:  # onnxruntime's errors have no common base
        return False
    return True


def _hints(model: onnx.ModelProto) -> list[int]:
    """Widths that the first weights of the graph take, in the order of its nodes."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    found: list[int] = []
    for node in model.graph.node:
        for name in node.input:
            shape = shapes.get(name, ())
            if len(shape) >= 2 and node.op_type in ("MatMul", "Gemm", "LSTM", "GRU", "RNN", "Conv"):
                found += [shape[-2], shape[-1], shape[1]]
        if len(found) >= 3 * _MOST_HINTS:
            break
    return [length for length in dict.fromkeys(found) if length > 1][:_MOST_HINTS]


def _lengths(inputs: Sequence[Any], hints: Sequence[int]) -> Iterator[dict[object, int]]:
    """Lengths of all axes that have none: one for the first axes, then one for all others."""
    free: list[object] = []
    for value in inputs:
        for axis, length in enumerate(value.shape):
            if not isinstance(length, int) or length <= 0:
                key: object = length if isinstance(length, str) else (value.name, axis)
                if key not in free:
                    free.append(key)
    batch = [key for key in free if _is_first(key, inputs)]
    others = [key for key in free if key not in batch]
    tried = list(dict.fromkeys((*_LENGTHS[:6], *hints, *_LENGTHS)))
    for size in (1, 4, 64):
        first = dict.fromkeys(batch, size)
        if not others:
            yield first
            continue
        for length in tried:
            yield {**first, **dict.fromkeys(others, length)}
    for pair in itertools.product(tried, repeat=min(len(others), 3)):
        yield {**dict.fromkeys(batch, 1), **dict(itertools.zip_longest(others, pair, fillvalue=1))}
    for length in range(1, _LONGEST):
        yield {**dict.fromkeys(batch, 64), **dict.fromkeys(others, length)}


def _is_first(key: object, inputs: Sequence[Any]) -> bool:
    return any(
        value.shape and (key == value.shape[0] or key == (value.name, 0)) for value in inputs
    )


def _feed(inputs: Sequence[Any], lengths: dict[object, int], kind: str) -> Feed | None:
    rng, feed = np.random.default_rng(0), {}
    for value in inputs:
        shape = tuple(
            length
            if isinstance(length, int) and length > 0
            else lengths.get(length if isinstance(length, str) else (value.name, axis), 1)
            for axis, length in enumerate(value.shape)
        )
        if "tensor(" not in value.type or "seq" in value.type:
            return None
        name = value.type.removeprefix("tensor(").removesuffix(")")
        if name == "string":
            feed[value.name] = np.full(shape, "a", object)
        elif "int" in name:
            high = 2 if kind != "bytes" else 100
            feed[value.name] = np.full(shape, 1, name)
            if kind != "ones" and shape:
                feed[value.name] = rng.integers(0, high, shape).astype(name)
        elif name == "bool":
            feed[value.name] = np.ones(shape, bool)
        else:
            dtype = {"float": np.float32, "double": np.float64, "float16": np.float16}.get(name)
            if dtype is None:
                return None
            values = rng.standard_normal(shape)
            feed[value.name] = (values if kind != "bytes" else 128 + 60 * values).astype(dtype)
    return feed


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(asdict(check(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])))))
