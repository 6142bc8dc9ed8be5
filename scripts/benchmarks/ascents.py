"""The ascent for s_0: the package's graph against the very same steps in numpy and in torch."""

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
from timing import medians, readable

from onnx_relusv.runtime.kernels.ascents import Ascent, gap_kernel
from onnx_relusv.runtime.session import CPU, CUDA

ITERATIONS = 50
STARTS = 64
SIDES = (2048, 4096)
ROUNDS = 7
_STEP = 4.0
_LARGEST_DIFFERENCE = 1e-3
Lengths = np.ndarray


def problem(side: int) -> tuple[np.ndarray, np.ndarray]:
    """A Gaussian matrix with a largest singular value of nearly 1, and unit columns to start at."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((side, side), dtype=np.float32) / np.float32(2 * side**0.5)
    x = rng.standard_normal((side, STARTS), dtype=np.float32)
    return matrix, x / np.linalg.norm(x, axis=0)


def by_package(matrix: np.ndarray, x: np.ndarray, provider: str) -> Callable[[], Lengths]:
    """The package's graph on a provider."""
    session = gap_kernel(provider, Ascent(iterations=ITERATIONS, plain=True))
    feeds = {
        "a": matrix,
        "scale": np.ones((1, STARTS), np.float32),
        "x": x,
    }
    return lambda: np.asarray(session.run(feeds, ["history", "last"])["history"][-1, 0])


def by_numpy(matrix: np.ndarray, x: np.ndarray) -> Callable[[], Lengths]:
    """The same steps, written for a Relu without bias and without needless copies."""

    def ascend() -> Lengths:
        at, best = x, np.zeros(STARTS, np.float32)
        for _ in range(ITERATIONS):
            active = matrix @ at
            np.maximum(active, 0, out=active)
            best = np.maximum(best, np.linalg.norm(active, axis=0))
            moved = matrix.T @ active
            moved *= _STEP
            moved += at
            moved /= np.linalg.norm(moved, axis=0)
            at = moved
        return best

    return ascend


def by_torch(matrix: np.ndarray, x: np.ndarray) -> Callable[[], Lengths]:
    """The same steps in torch, on the CPU."""
    import torch

    weight, start = torch.from_numpy(matrix), torch.from_numpy(x)

    @torch.inference_mode()
    def ascend() -> Lengths:
        at, best = start, torch.zeros(STARTS)
        for _ in range(ITERATIONS):
            active = (weight @ at).relu_()
            best = torch.maximum(best, torch.linalg.vector_norm(active, dim=0))
            moved = (weight.T @ active).mul_(_STEP).add_(at)
            at = moved.div_(torch.linalg.vector_norm(moved, dim=0))
        return best.numpy()

    return ascend


def against_twins(side: int) -> tuple[str, str]:
    """What was measured against numpy, and against torch."""
    matrix, x = problem(side)
    ways: dict[str, Any] = {
        "ours": by_package(matrix, x, CPU),
        "numpy": by_numpy(matrix, x),
    }
    if importlib.util.find_spec("torch"):
        ways["torch"] = by_torch(matrix, x)
    check_agreement(ways)
    seconds = medians(ways, ROUNDS)
    found = [
        f"{seconds['ours'] / seconds[name]:.2f} "
        f"({readable(seconds['ours'])} against {readable(seconds[name])})"
        if name in seconds
        else f"{name} is not installed"
        for name in ("numpy", "torch")
    ]
    return found[0], found[1]


def providers_timed(side: int) -> tuple[dict[str, float], int]:
    """The seconds on the CPU and on the GPU, by provider, and the operations of an ascent."""
    matrix, x = problem(side)
    ways = {"cuda": by_package(matrix, x, CUDA), "cpu": by_package(matrix, x, CPU)}
    check_agreement(ways)
    # Two products of side x side with side x starts an iteration, two operations a multiplication.
    return medians(ways, ROUNDS), ITERATIONS * 2 * 2 * side**2 * STARTS


def on_gpu(side: int) -> str:
    """What was measured on the GPU against the CPU."""
    seconds, operations = providers_timed(side)
    return (
        f"{seconds['cpu'] / seconds['cuda']:.1f} times faster ({readable(seconds['cuda'])} against "
        f"{readable(seconds['cpu'])}); {operations / seconds['cuda'] / 1e12:.2f} TFLOP/s"
    )


def check_agreement(ways: dict[str, Callable[[], Lengths]]) -> None:
    """Refuses to compare times of things that do not find the same."""
    found = {name: way() for name, way in ways.items()}
    first = next(iter(found.values()))
    for name, lengths in found.items():
        difference = float(np.max(np.abs(lengths / first - 1)))
        # Paths of float32 steps drift apart; what they reach does not, unless a step is different.
        if not difference < _LARGEST_DIFFERENCE:
            raise AssertionError(f"{name} differs by {difference:.1e} from {next(iter(found))}")
