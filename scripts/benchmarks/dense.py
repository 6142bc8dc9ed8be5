"""Gemms alone: time, memory and loss of `compress --size 0.25`, beside plain passes.

    scripts/bench dense [WIDTH ...]

makes a network of Gemms with a Relu between them, one for each two neighbouring widths (2048 2048
2048 2048 unless they are given), seeded: He-scaled Gaussian weights, half of whose square is that
of a product of rank WIDTH / 16, and samples of such a kind. What is lost is the divergence on
samples that the command does not see.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from machine import machine_line
from onnx import TensorProto, helper, numpy_helper
from scipy.special import log_softmax

WIDTHS, SIZE, SAMPLES, TEST = (2048,) * 4, 0.25, 2000, 1000
# Half of the square of weights and samples lies in a product of a sixteenth of the full rank.
_SHARE, _RANK = 0.5, 16
# Linux counts in kibibytes, macOS in bytes.
_UNIT = 1 if sys.platform == "darwin" else 1024


def main(arguments: list[str]) -> None:
    """Prints the time of a pass, and time, memory and loss of a compression."""
    widths = tuple(int(word) for word in arguments) or WIDTHS
    print(machine_line())
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model, samples, test = made(folder, widths)
        output = folder / "small.onnx"
        seconds = min(_pass(model, samples) for _ in range(3))
        print(
            f"{' '.join(map(str, widths))}, {SAMPLES} samples, a pass {seconds:.2f} s", flush=True
        )
        found = compressed(model, output, samples, SIZE)
        print(
            f"exit {found.code}, {found.wall:.0f} s, {found.processor:.0f} s of CPU, "
            f"{found.wall / seconds:.0f} passes, {found.peak / 1e9:.2f} GB"
        )
        share = output.stat().st_size / model.stat().st_size
        print(f"{share:.4f} of the bytes, divergence {divergence(model, output, test):.4g} nats")


@dataclass(frozen=True)
class Spent:
    """What a command took.

    Attributes:
        code: Its exit code.
        wall: Seconds.
        processor: Seconds of all cores together.
        peak: Bytes of its largest resident memory.
    """

    code: int
    wall: float
    processor: float
    peak: int


def compressed(model: Path, output: Path, samples: Path, size: float) -> Spent:
    """Runs `compress` in a process of its own."""
    begun = time.monotonic()
    command = ["compress", str(model), "--output", str(output), "--samples", str(samples)]
    process = subprocess.Popen(
        [sys.executable, "-m", "onnx_relusv", *command, "--size", str(size)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # The process's own peak, not that of all children so far.
    _, status, usage = os.wait4(process.pid, 0)
    return Spent(
        os.waitstatus_to_exitcode(status),
        time.monotonic() - begun,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss * _UNIT,
    )


def made(
    folder: Path, widths: tuple[int, ...], count: int = SAMPLES, seed: int = 0
) -> tuple[Path, Path, Path]:
    """Writes model, samples, of that count, and test inputs."""
    rng = np.random.default_rng(seed)
    nodes, weights, name = [], [], "x"
    for layer, (columns, rows) in enumerate(pairwise(widths)):
        weight = np.sqrt(2 / columns) * _structured(rng, rows, columns)
        bias = 0.1 * rng.standard_normal(rows)
        weights += [
            numpy_helper.from_array(weight.astype(np.float32), f"w{layer}"),
            numpy_helper.from_array(bias.astype(np.float32), f"b{layer}"),
        ]
        last = layer == len(widths) - 2
        after = "y" if last else f"g{layer}"
        nodes.append(helper.make_node("Gemm", [name, f"w{layer}", f"b{layer}"], [after], transB=1))
        if not last:
            name = f"r{layer}"
            nodes.append(helper.make_node("Relu", [after], [name]))
    values = [
        helper.make_tensor_value_info(each, TensorProto.FLOAT, ["N", width])
        for each, width in (("x", widths[0]), ("y", widths[-1]))
    ]
    graph = helper.make_graph(nodes, "dense", values[:1], values[1:], weights)
    opsets = [helper.make_opsetid("", 17)]
    model = folder / "dense.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), model)
    inputs = _structured(rng, count + TEST, widths[0]).astype(np.float32)
    samples, test = folder / "samples.npz", folder / "test.npz"
    np.savez(samples, x=inputs[:count])
    np.savez(test, x=inputs[count:])
    return model, samples, test


def divergence(model: Path, other: Path, test: Path) -> float:
    """Mean Kullback-Leibler divergence of the answers' softmax from the original's, in nats."""
    with np.load(test) as arrays:
        inputs = arrays["x"]
    before, after = (
        log_softmax(_session(path).run(None, {"x": inputs})[0].astype(np.float64), axis=1)
        for path in (model, other)
    )
    return float((np.exp(before) * (before - after)).sum(axis=1).mean())


def _structured(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """(rows, columns) float64 of variance 1."""
    rank = columns // _RANK
    low = rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, columns))
    return np.sqrt(1 - _SHARE) * rng.standard_normal((rows, columns)) + low * np.sqrt(_SHARE / rank)


def _pass(model: Path, samples: Path) -> float:
    with np.load(samples) as arrays:
        inputs = arrays["x"]
    session = _session(model)
    begun = time.perf_counter()
    for start in range(0, len(inputs), 250):
        session.run(None, {"x": inputs[start : start + 250]})
    return time.perf_counter() - begun


def _session(model: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
