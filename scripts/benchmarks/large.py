"""A model of 2.2 GB without samples: time, largest resident memory and bytes of two commands.

    scripts/bench large [WIDTH]

makes four MatMuls of WIDTH x WIDTH, 11,776 unless it is given, seeded, with external data, in a
folder that is gone afterwards.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from machine import machine_line
from onnx import TensorProto, helper

WIDTH, LAYERS, SIZE = 11_776, 4, 0.3
MINUTES, GIBIBYTES = 15, 6
_ROWS = 256
# Linux counts in kibibytes, macOS in bytes.
_UNIT = 1 if sys.platform == "darwin" else 1024


def main(arguments: list[str]) -> None:
    """Prints a line for each command, as soon as it is done, beside what is asked for."""
    width = int(arguments[0]) if arguments else WIDTH
    print(machine_line())
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model = made(folder, width)
        before = _bytes(folder)
        print(f"{LAYERS} MatMuls of {width} x {width}, {before / 1e9:.2f} GB", flush=True)
        print(f"asked at {WIDTH}: {MINUTES} minutes on 2 cores and {GIBIBYTES} GiB each")
        _timed(["inspect", str(model)])
        (folder / "small").mkdir()
        output = folder / "small" / "small.onnx"
        _timed(["compress", str(model), "--output", str(output), "--size", str(SIZE)])
        print(f"{_bytes(folder / 'small') / before:.4f} of the bytes, {SIZE} asked")


def made(folder: Path, width: int, seed: int = 0) -> Path:
    """Writes the model, a few rows of a weight at a time."""
    rng = np.random.default_rng(seed)
    nodes, weights, name = [], [], "x"
    with (folder / "weights.bin").open("wb") as stream:
        for layer in range(LAYERS):
            weight = TensorProto(
                name=f"w{layer}",
                dims=[width, width],
                data_type=TensorProto.FLOAT,
                data_location=TensorProto.EXTERNAL,
            )
            for key, value in (
                ("location", "weights.bin"),
                ("offset", stream.tell()),
                ("length", 4 * width**2),
            ):
                weight.external_data.add(key=key, value=str(value))
            weights.append(weight)
            for start in range(0, width, _ROWS):
                shape = min(_ROWS, width - start), width
                rows = rng.standard_normal(shape, dtype=np.float32)
                stream.write((rows * np.float32(np.sqrt(2 / width))).tobytes())
            last = layer == LAYERS - 1
            nodes.append(helper.make_node("MatMul", [name, f"w{layer}"], [f"m{layer}"]))
            name = "y" if last else f"r{layer}"
            nodes.append(helper.make_node("Identity" if last else "Relu", [f"m{layer}"], [name]))
    values = [
        helper.make_tensor_value_info(each, TensorProto.FLOAT, ["N", width]) for each in ("x", "y")
    ]
    graph = helper.make_graph(nodes, "large", values[:1], values[1:], weights)
    opsets = [helper.make_opsetid("", 17)]
    path = folder / "large.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def _timed(arguments: list[str]) -> None:
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "onnx_relusv", *arguments, "--provider", "cpu"],
        stdout=subprocess.DEVNULL,
    )
    # The process's own peak, not that of all children so far.
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    print(
        f"{arguments[0]:8} exit {process.returncode}, {(time.monotonic() - begun) / 60:.1f} min, "
        f"{(usage.ru_utime + usage.ru_stime) / 60:.1f} min of CPU, "
        f"{usage.ru_maxrss * _UNIT / 2**30:.2f} GiB at most",
        flush=True,
    )


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
