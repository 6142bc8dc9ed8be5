"""How long `compress` takes, in plain passes of onnxruntime over its samples."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from block_spectra import matrices
from machine import machine_line
from timing import medians, readable

MODEL = Path("models/fashion_vgg.onnx")
SAMPLES = Path("models/fashion_calibration.npz")
SIZE = 0.25
LIMIT = 60
_BATCH = 250
_ROUNDS = 3


def main() -> None:
    """Prints the medians of a pass, of the plain SVDs and of a compression, and their ratio."""
    with np.load(SAMPLES) as arrays:
        images = arrays["image"].astype(np.float32)
    weights = [matrix.astype(np.float32) for matrix in matrices(MODEL)]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "small.onnx"
        seconds = medians(
            {
                "pass": lambda: _pass(images),
                "SVDs": lambda: [np.linalg.svd(weight, full_matrices=False) for weight in weights],
                "compress": lambda: _compress(output),
            },
            _ROUNDS,
        )
    passes = (seconds["compress"] - seconds["SVDs"]) / seconds["pass"]
    print(machine_line())
    print(f"{MODEL.name} at {SIZE}, {len(images)} images, median of {_ROUNDS} interleaved rounds")
    for name, each in seconds.items():
        print(f"{name:10} {readable(each):>8}")
    print(f"compress without the SVDs: {passes:.1f} passes, wanted {LIMIT} at most")


def _pass(images: np.ndarray) -> None:
    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    (name,) = (value.name for value in session.get_inputs())
    for start in range(0, len(images), _BATCH):
        session.run(None, {name: images[start : start + _BATCH]})


def _compress(output: Path) -> None:
    command = [sys.executable, "-m", "onnx_relusv", "compress", str(MODEL)]
    command += ["--output", str(output), "--samples", str(SAMPLES), "--size", str(SIZE), "--force"]
    subprocess.run(command, check=True, capture_output=True)
