"""The ascents against numpy: a few steps, as long paths differ by their rounding."""

from dataclasses import replace
from itertools import product

import numpy as np
import onnx
import pytest
from ascent_steps import gap, gap_case, gap_gradient, steps_by_numpy, width_case

from onnx_relusv.core.blocks import Floats
from onnx_relusv.runtime.kernels.ascents import Ascent, gap_kernel, width_kernel
from onnx_relusv.runtime.session import CPU, CUDA

# Sums of some tens of float32 products, four steps deep.
FLOAT32 = 1e-5

FLAGS = list(product((False, True), repeat=3))
# A plain ascent has no ceiling, and stays on the sphere.
PLAIN = [(False, False, nonnegative, True) for nonnegative in (False, True)]
VARIETIES = [(*flags, False) for flags in FLAGS] + PLAIN


def named(variety: tuple[bool, ...]) -> str:
    names = ("clipped", "inside", "nonnegative", "plain")
    return "-".join(name for name, yes in zip(names, variety, strict=True) if yes) or "no flags"


def ascents(stand_in: str) -> list[object]:
    return [
        pytest.param(Ascent(4, stand_in, *variety), id=f"{stand_in}-{named(variety)}")  # type: ignore[arg-type]
        for variety in VARIETIES
    ]


GAPS = [parameter for stand_in in ("none", "mask", "map") for parameter in ascents(stand_in)]
WIDTHS = ascents("none")


def assert_alike(found: dict[str, np.ndarray], expected: tuple[Floats, Floats, Floats]) -> None:
    for name, values in zip(("history", "at", "last"), expected, strict=True):
        assert found[name].dtype == np.float32
        assert found[name].shape == values.shape
        assert np.allclose(found[name], values, rtol=0, atol=FLOAT32), name


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("ascent", GAPS)
def test_steps_of_the_gap_s_ascent(ascent: Ascent, steps: int) -> None:
    case = gap_case(replace(ascent, iterations=steps), seed=steps)
    assert_alike(case.run(gap_kernel), steps_by_numpy(case, widths=False))


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("ascent", WIDTHS)
def test_steps_of_the_width_s_ascent(ascent: Ascent, steps: int) -> None:
    case = width_case(replace(ascent, iterations=steps), seed=steps)
    assert_alike(case.run(width_kernel), steps_by_numpy(case, widths=True))


@pytest.mark.parametrize("ascent", GAPS)
def test_a_step_goes_along_the_slope(ascent: Ascent) -> None:
    # By differences of half the square, which does not know the gradient's formula.
    case = gap_case(replace(ascent, iterations=1))
    x, width = case.value("x"), 1e-6

    def half_squares(points: Floats) -> Floats:
        return np.sum(gap(case, points) ** 2, axis=0) / 2

    gradient = np.array(
        [
            (half_squares(x + width * unit) - half_squares(x - width * unit)) / (2 * width)
            for unit in np.eye(len(x))[:, :, None]
        ]
    )
    expected = case.projected(x + 4 * gradient / case.value("scale"))
    assert np.allclose(case.run(gap_kernel)["last"], expected, rtol=0, atol=FLOAT32)


@pytest.mark.parametrize("ascent", GAPS)
def test_a_step_the_wrong_way_is_caught(ascent: Ascent) -> None:
    case = gap_case(replace(ascent, iterations=1))
    x = case.value("x")
    wrong = case.projected(x - 4 * gap_gradient(case, x) / case.value("scale"))
    assert np.abs(case.run(gap_kernel)["last"] - wrong).max() > 0.1


@pytest.mark.parametrize("ascent", GAPS)
def test_the_best_value_never_falls_and_is_met_where_it_says(ascent: Ascent) -> None:
    case = gap_case(replace(ascent, iterations=30))
    found = case.run(gap_kernel)
    assert (np.diff(found["history"], axis=0) >= 0).all()
    met = np.linalg.norm(gap(case, found["at"].astype(np.float64)), axis=0)
    assert np.allclose(met, found["history"][-1, 0], rtol=0, atol=FLOAT32)
    if ascent.convex:
        # It ends where it is best.
        last = np.linalg.norm(gap(case, found["last"].astype(np.float64)), axis=0)
        assert (last >= met - FLOAT32).all()


def test_values_below_zero_count_in_a_width() -> None:
    # With a bias, a supremum over the ball may be negative: -max(x + 2, 0) is at least -1.
    one = np.ones((1, 1), np.float32)
    feeds = {"a": one, "slope": 0 * one, "offset": 2 * one, "g": -one, "x": one}
    found = width_kernel(CPU, Ascent(20, inside=True)).run(feeds)
    assert found["history"][0].item() == -3
    assert found["history"][-1].item() == -1
    assert found["at"].item() == -1


def test_kernels_are_built_once() -> None:
    for kernel in (gap_kernel, width_kernel):
        assert kernel(CPU, Ascent(3)) is kernel(CPU, Ascent(3))
        assert kernel(CPU, Ascent(3)) is not kernel(CPU, Ascent(4))
        assert kernel(CPU, Ascent(3)) is not kernel(CPU, Ascent(3, inside=True))


@pytest.mark.parametrize("kernel", [gap_kernel, width_kernel])
def test_the_operator_set_is_17(kernel: object) -> None:
    opened = kernel(CPU, Ascent(3))  # type: ignore[operator]
    model = onnx.load_from_string(opened._source.model)
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 17)]
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.gpu
@pytest.mark.parametrize("ascent", GAPS)
def test_cuda_and_the_cpu_climb_alike(ascent: Ascent) -> None:
    for steps in (1, 3):
        cases = [(gap_kernel, gap_case(replace(ascent, iterations=steps)))]
        if ascent.stand_in == "none":
            cases.append((width_kernel, width_case(replace(ascent, iterations=steps))))
        for kernel, case in cases:
            answers = [case.run(kernel, provider)["history"] for provider in (CPU, CUDA)]
            # Float32 products summed in another order; TF32 would be off by 1e-3.
            assert np.allclose(*answers, rtol=0, atol=1e-5)
