"""The time of `inspect` against numpy's singular values of the same matrices, in one run."""

from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from machine import machine_line

from onnx_relusv import inspect
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.graph.nodes import Folding
from onnx_relusv.measuring.case import open_model

MODEL = Path("models/fashion_vgg.onnx")
ROUNDS = 9


def main() -> None:
    """Prints medians and their ratio."""
    options = MeasureOptions(provider="cpu")
    case, *_ = open_model(MODEL, None, options)
    folding = Folding(case.model)
    matrices = [folding(block).weight[0].astype(np.float32) for block in case.blocks]
    seconds: tuple[list[float], list[float]] = ([], [])
    for round_number in range(ROUNDS + 1):
        start = perf_counter()
        inspect(MODEL, measuring=options)
        middle = perf_counter()
        for matrix in matrices:
            np.linalg.svd(matrix, compute_uv=False)
        end = perf_counter()
        # The first round warms caches, thread pools and the kernels' sessions up.
        if round_number:
            seconds[0].append(middle - start)
            seconds[1].append(end - middle)
    ours, theirs = median(seconds[0]), median(seconds[1])
    print(machine_line())
    print(f"{MODEL.name}, {len(matrices)} blocks, median of {ROUNDS} interleaved rounds")
    print(f"inspect, everything          {ours * 1e3:8.1f} ms")
    print(f"numpy.linalg.svd, float32    {theirs * 1e3:8.1f} ms")
    print(f"ratio                        {ours / theirs:8.2f}")
