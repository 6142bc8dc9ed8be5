"""The time of `trace` against plain forward passes of the same images."""

from pathlib import Path

import numpy as np
from timing import medians, readable

from onnx_relusv import trace
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.runtime.session import CPU, Session

MODEL = Path("models/fashion_vgg.onnx")
SAMPLES = Path("models/fashion_test.npz")
# What `trace` takes for a model of this size.
BATCH = 64
ROUNDS = 3


def trace_against_forward() -> str:
    """How many times as long as the forward passes alone."""
    images = np.load(SAMPLES)["image"].astype(np.float32)
    session = Session(MODEL, CPU)

    def forward() -> None:
        for start in range(0, len(images), BATCH):
            session.run({"image": images[start : start + BATCH]})

    measuring = MeasureOptions(provider="cpu")
    seconds = medians(
        {"trace": lambda: trace(MODEL, samples=SAMPLES, measuring=measuring), "forward": forward},
        ROUNDS,
    )
    return (
        f"{seconds['trace'] / seconds['forward']:.1f} times "
        f"({readable(seconds['trace'])} against {readable(seconds['forward'])})"
    )
