"""The divergence of class scores and its slope, against scipy and differences in float64."""

import numpy as np
import pytest
import scipy.special

from onnx_relusv.runtime.kernels.refinement import score_error_kernel, score_slope_kernel
from onnx_relusv.runtime.session import CPU

# Float32 sums of hundreds of numbers around 1.
ROUNDING = 1e-5


def feeds(
    count: int, *, scale: float = 1.0, columns: int = 6, rows: int = 4
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(count)

    def drawn(*shape: int, size: float = 1.0) -> np.ndarray:
        return (size * rng.standard_normal(shape)).astype(np.float32)

    return {
        "z": drawn(1, count, columns),
        "target": drawn(1, count, rows, size=scale),
        "map": drawn(1, rows, columns, size=scale),
        "bias": drawn(1, 1, rows, size=scale),
    }


def answers(values: dict[str, np.ndarray]) -> np.ndarray:
    return values["z"] @ values["map"].transpose(0, 2, 1) + values["bias"]


def divergence(values: dict[str, np.ndarray]) -> float:
    """The sum over rows of sum p log(p / q), in float64."""
    z, target, own, bias = (values[n].astype(float) for n in ("z", "target", "map", "bias"))
    p = scipy.special.log_softmax(target, axis=2)
    q = scipy.special.log_softmax(z @ own.transpose(0, 2, 1) + bias, axis=2)
    return float((np.exp(p) * (p - q)).sum())


def slope(values: dict[str, np.ndarray], name: str, step: float = 1e-5) -> np.ndarray:
    """Central differences in every entry."""
    found = np.zeros(values[name].shape)
    for place in np.ndindex(*found.shape):
        moved = {}
        for sign in (1, -1):
            changed = values[name].astype(float)
            changed[place] += sign * step
            moved[sign] = divergence({**values, name: changed})
        found[place] = (moved[1] - moved[-1]) / (2 * step)
    return found


def test_the_loss_is_the_divergence() -> None:
    for count in (1, 3, 200):
        values = feeds(count)
        found = score_error_kernel(CPU, factored=False).run(values)["loss"]
        assert found.shape == ()
        assert float(found) == pytest.approx(divergence(values), rel=ROUNDING)
        # It is not symmetric: from the target's shares to its own, and not the other way round.
        own = answers(values).astype(np.float32)
        turned = {**values, "target": own, "map": np.zeros_like(values["map"])}
        turned["bias"] = values["target"][:, :1]
        if count == 1:
            assert divergence(turned) != pytest.approx(float(found), rel=1e-2)


def test_slopes_are_derivatives() -> None:
    for count in (1, 20):
        values = feeds(count)
        found = score_slope_kernel(CPU, factored=False).run(values)
        for name in ("map", "bias"):
            expected = slope(values, name)
            assert found[f"{name}_slope"].shape == values[name].shape
            # The differences' own error is of the order of the step squared.
            np.testing.assert_allclose(found[f"{name}_slope"], expected, rtol=1e-4, atol=1e-4)
            assert np.abs(expected).max() > 0.1


def test_the_right_answer_has_neither_loss_nor_slope() -> None:
    values = feeds(30)
    own = answers({name: each.astype(float) for name, each in values.items()})
    # What all scores of a row have in common does not count.
    common = np.random.default_rng(0).standard_normal((1, 30, 1))
    values["target"] = (own + 5 * common).astype(np.float32)
    found = score_error_kernel(CPU, factored=False).run(values) | score_slope_kernel(
        CPU, factored=False
    ).run(values)
    assert abs(float(found["loss"])) < 1e-5  # 30 sums of float32 logarithms
    assert max(np.abs(found[f"{name}_slope"]).max() for name in ("map", "bias")) < 1e-5


def test_large_scores_stay_finite() -> None:
    """A plain exponential of these overflows."""
    values = feeds(20, scale=200.0)
    assert np.abs(values["target"]).max() > 150
    found = score_error_kernel(CPU, factored=False).run(values) | score_slope_kernel(
        CPU, factored=False
    ).run(values)
    assert all(np.isfinite(each).all() for each in found.values())
    assert float(found["loss"]) == pytest.approx(divergence(values), rel=ROUNDING)


def test_a_product_of_two_factors_is_read_as_their_map() -> None:
    """Its loss is that of the map, and its slopes are those of the map by the chain rule."""
    values = feeds(20)
    rng = np.random.default_rng(3)
    rows, columns = values["map"].shape[1:]
    last, inner = (
        rng.standard_normal((1, *shape), dtype=np.float32) for shape in ((rows, 2), (2, columns))
    )
    whole = {**values, "map": last @ inner}
    factored = {**values, "map": last, "inner": inner}
    expected = score_error_kernel(CPU, factored=False).run(whole)["loss"]
    found = score_error_kernel(CPU, factored=True).run(factored)["loss"]
    assert float(found) == pytest.approx(float(expected), rel=ROUNDING)
    slopes = score_slope_kernel(CPU, factored=False).run(whole)
    of_factors = score_slope_kernel(CPU, factored=True).run(factored)
    map_slope = slopes["map_slope"]
    for name, expected in (
        ("map_slope", map_slope @ inner.transpose(0, 2, 1)),
        ("inner_slope", last.transpose(0, 2, 1) @ map_slope),
        ("bias_slope", slopes["bias_slope"]),
    ):
        np.testing.assert_allclose(of_factors[name], expected, rtol=1e-4, atol=1e-4)
        assert np.abs(expected).max() > 0.1
