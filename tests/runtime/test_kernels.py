"""The ascents against numpy: single steps, as long paths differ by their rounding."""

import numpy as np
import pytest

from onnx_relusv.records import Floats
from onnx_relusv.runtime.kernels import gap_kernel, width_kernel
from onnx_relusv.runtime.session import CPU, CUDA

# Sums of some tens of float32 products, a few steps deep.
FLOAT32 = 2e-6


def activated(y: Floats, slope: Floats) -> tuple[Floats, Floats]:
    """phi(y), and its derivative."""
    derivative = np.where(y > 0, 1, slope)
    return y * derivative, derivative


def unit_columns(values: Floats) -> Floats:
    return values / np.maximum(np.linalg.norm(values, axis=-2, keepdims=True), 1e-30)


def gap_feeds(seed: int, *, slopes: bool = True) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows, columns, starts, ranks = 9, 7, 5, 3
    sigma = np.linspace(2, 0.5, columns)
    left = np.linalg.qr(rng.standard_normal((rows, columns)))[0]
    kept = np.arange(columns)[None, :] < np.array([0, 2, 5])[:, None]
    slope = rng.uniform(-0.5, 1, (rows, 1)) if slopes else np.zeros((rows, 1))
    feeds = {
        "a": left * sigma,
        "mask": kept[:, :, None],
        "slope": slope,
        "scale": (sigma[[0, 2, 5]] ** 2).reshape(-1, 1, 1),
        "x": unit_columns(rng.standard_normal((ranks, columns, starts))),
    }
    return {name: value.astype(np.float32) for name, value in feeds.items()}


def gap_by_numpy(feeds: dict[str, np.ndarray], steps: int) -> Floats:
    """The largest gap that each start meets, in float64."""
    a, mask, slope, scale, x = (
        feeds[name].astype(np.float64) for name in ("a", "mask", "slope", "scale", "x")
    )
    best = np.zeros((len(x), 1, x.shape[2]))
    for _ in range(steps):
        whole, whole_slope = activated(a @ x, slope)
        part, part_slope = activated(a @ (mask * x), slope)
        gap = whole - part
        best = np.maximum(best, np.linalg.norm(gap, axis=1, keepdims=True))
        gradient = a.T @ (gap * whole_slope) - mask * (a.T @ (gap * part_slope))
        x = unit_columns(x + 4 * gradient / scale)
    return best


@pytest.mark.parametrize("slopes", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_steps_of_the_gap_s_ascent(steps: int, slopes: bool) -> None:
    for seed in range(3):
        feeds = gap_feeds(seed, slopes=slopes)
        found = gap_kernel(CPU, steps).run(feeds)["best"]
        assert found.shape == (3, 1, 5)
        assert np.allclose(found, gap_by_numpy(feeds, steps), rtol=0, atol=4 * FLOAT32)


def test_the_gap_s_gradient_is_its_slope() -> None:
    # The direction of a step is that of half the square's gradient, by differences.
    feeds = {name: value.astype(np.float64) for name, value in gap_feeds(0).items()}
    a, mask, slope, x = feeds["a"], feeds["mask"][1], feeds["slope"], feeds["x"][1, :, :1]

    def half_square(point: Floats) -> float:
        gap = activated(a @ point, slope)[0] - activated(a @ (mask * point), slope)[0]
        return float(np.sum(gap**2)) / 2

    step = 1e-6
    numeric = np.array(
        [
            (half_square(x + step * unit) - half_square(x - step * unit)) / (2 * step)
            for unit in np.eye(len(x))[:, :, None]
        ]
    )
    scale = feeds["scale"][1].item()
    moved = unit_columns(x + 4 * numeric[:, None] / scale)
    # The second step's gap shows where the first one led; differences are good to 1e-9 or so.
    second = np.sqrt(2 * half_square(moved))
    first = np.sqrt(2 * half_square(x))
    found = gap_kernel(CPU, 2).run(gap_feeds(0))["best"][1, 0, 0]
    assert found == pytest.approx(max(first, second), abs=4 * FLOAT32)


def width_feeds(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    feeds = {
        "a": rng.standard_normal((8, 6)) / 3,
        "slope": rng.uniform(0, 1, (8, 1)),
        "g": rng.standard_normal((8, 4)),
        "x": unit_columns(rng.standard_normal((6, 4))),
    }
    return {name: value.astype(np.float32) for name, value in feeds.items()}


def width_by_numpy(feeds: dict[str, np.ndarray], steps: int) -> Floats:
    a, slope, g, x = (feeds[name].astype(np.float64) for name in ("a", "slope", "g", "x"))
    best = np.zeros((1, x.shape[1]))
    for _ in range(steps):
        out, derivative = activated(a @ x, slope)
        best = np.maximum(best, np.sum(g * out, axis=0, keepdims=True))
        x = unit_columns(x + unit_columns(a.T @ (g * derivative)))
    return best


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_steps_of_the_width_s_ascent(steps: int) -> None:
    for seed in range(3):
        feeds = width_feeds(seed)
        found = width_kernel(CPU, steps).run(feeds)["best"]
        assert np.allclose(found, width_by_numpy(feeds, steps), rtol=0, atol=4 * FLOAT32)


def test_the_ball_s_centre_counts() -> None:
    # Where every direction leads below zero, the supremum over the ball is zero.
    one = np.ones((1, 1), np.float32)
    feeds = {"a": one, "slope": one, "g": -one, "x": one}
    assert width_kernel(CPU, 1).run(feeds)["best"].tolist() == [[0.0]]


def test_kernels_are_built_once() -> None:
    assert gap_kernel(CPU, 3) is gap_kernel(CPU, 3)
    assert gap_kernel(CPU, 3) is not gap_kernel(CPU, 4)


@pytest.mark.gpu
def test_cuda_and_the_cpu_climb_alike() -> None:
    for steps in (1, 3):
        for kernel, feeds in ((gap_kernel, gap_feeds(0)), (width_kernel, width_feeds(0))):
            answers = [kernel(provider, steps).run(feeds)["best"] for provider in (CPU, CUDA)]
            # Float32 products summed in another order; TF32 would be off by 1e-3.
            assert np.allclose(*answers, rtol=0, atol=1e-5)
