"""How large inputs are taken to be: by constants, by a declared range, by statistics, by habit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import model_proto, normal, run
from opened import Opened, open_model

from onnx_relusv import Budgets, PlanOptions, compress
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.graph.nodes import view
from onnx_relusv.measuring.without_samples import (
    CONVENTIONS,
    Normalisations,
    input_normalisations,
    samples_where_units_go,
)
from onnx_relusv.samples.synthetic import smooth, write_synthetic

CPU = MeasureOptions(provider="cpu", seed=2)
BODY = (
    "c = Conv(d, k) n = BatchNormalization(c, gamma, beta, mean, variance) r = Relu(n)"
    " e = Conv(r, l) s = Relu(e) f = Flatten(s) y = Gemm(f, w)"
)
WEIGHTS = {
    "k": normal(12, 3, 3, 3, scale=0.3),
    "l": normal(16, 12, 3, 3, scale=0.2),
    "w": normal(256, 10, scale=0.1),
    "gamma": np.linspace(0.5, 2, 12, dtype=np.float32),
    "beta": normal(12, seed=1),
    "mean": np.zeros(12, np.float32),
    "variance": np.ones(12, np.float32),
}


def network(folder: Path, mean: float, deviation: float, front: str = "d = Identity(x)") -> Opened:
    """A network that is normalised on smooth images of some mean and deviation."""
    text = f"(float[N,3,8,8] x) => (float[N,10] y) {{ {front} {BODY} }}"
    used = {"two": np.asarray(np.float32(2))} if "two" in front else {}
    weights = WEIGHTS | used
    noise = np.random.default_rng(7).standard_normal((300, 3, 8, 8))
    images = (mean + deviation * smooth(noise, (2, 3))).astype(np.float32)
    before = run(model_proto(text, weights), {"x": images}, ["c"])["c"]
    weights["mean"] = before.mean(axis=(0, 2, 3))
    weights["variance"] = before.var(axis=(0, 2, 3))
    onnx.save(model_proto(text, weights), folder / "model.onnx")
    return open_model(folder / "model.onnx", None, CPU)


def found(
    opened: Opened, folder: Path, input_range: tuple[float, float] | None = None
) -> tuple[float, float]:
    """Mean and deviation that are taken of x."""

    def write(path: Path, normalised: Normalisations) -> None:
        example = {"x": np.zeros((1, 3, 8, 8), np.float32)}
        write_synthetic(path, example, normalised, 0, 64, varied=True, input_range=input_range)

    seen = view(opened.case.model)
    normalised, told = input_normalisations(
        opened.case, opened.workspace, seen, input_range, folder, write
    )
    assert told
    taken = normalised["x"]
    return float(-taken.shift / taken.scale), float(1 / taken.scale)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_statistics_tell_the_convention(convention: tuple[float, float], tmp_path: Path) -> None:
    mean, deviation = found(network(tmp_path, *convention), tmp_path)
    assert mean == pytest.approx(convention[0])
    assert deviation == pytest.approx(convention[1])


def test_something_near_a_convention_is_taken_for_it(tmp_path: Path) -> None:
    # The pixels of Fashion-MNIST.
    assert found(network(tmp_path, 73, 90), tmp_path) == pytest.approx((127.5, 64))


def test_constants_at_the_front_and_a_declared_range_come_first(tmp_path: Path) -> None:
    opened = network(tmp_path, 127.5, 64, "d = Mul(x, two)")
    assert found(opened, tmp_path, (0.0, 255.0)) == pytest.approx((0, 0.5))
    opened = network(tmp_path, 127.5, 64)
    assert found(opened, tmp_path, (-1.0, 1.0)) == pytest.approx((0, 0.5))


def test_without_any_of_it_inputs_are_normalised(tmp_path: Path) -> None:
    text = "(float[N,30] x) => (float[N,4] y) { h = Gemm(x, v) r = Relu(h) y = Gemm(r, w) }"
    weights = {"v": normal(30, 12), "w": normal(12, 4)}
    onnx.save(model_proto(text, weights), tmp_path / "plain.onnx")
    opened = open_model(tmp_path / "plain.onnx", None, CPU)
    with samples_where_units_go(*opened, None, go=True) as ready:
        assert ready.samples is not None
        assert not ready.scale_known
        values = np.concatenate([one.feeds["x"][: one.count] for one in ready.samples.batches(500)])
        path = ready.samples.source.path
    # The mean square of contrasts that are log-uniform from a to b: (b^2 - a^2) / 2 log(b / a).
    assert np.mean(values**2) == pytest.approx((1.5**2 - 0.3**2) / 2 / np.log(5), rel=0.05)
    assert path is not None
    assert not path.exists()
    with samples_where_units_go(*opened, (0, 255), go=True) as ready:
        assert ready.scale_known
        assert ready.samples is not None
        values = np.concatenate([one.feeds["x"][: one.count] for one in ready.samples.batches(500)])
    assert (values.min(), values.max()) == (0, 255)


def test_a_user_is_told_that_nothing_tells(tmp_path: Path) -> None:
    text = "(float[N,30] x) => (float[N,4] y) { h = Gemm(x, v) r = Relu(h) y = Gemm(r, w) }"
    onnx.save(model_proto(text, {"v": normal(30, 12), "w": normal(12, 4)}), tmp_path / "plain.onnx")
    planning = PlanOptions(budgets=Budgets(size=0.9), method="harmonic")
    warned = []
    for declared in (None, (0.0, 255.0)):
        done = compress(
            tmp_path / "plain.onnx",
            tmp_path / "small.onnx",
            planning=replace(planning, input_range=declared),
            measuring=CPU,
            force=True,
        )
        warned.append(any("--input-range" in one for one in done.warnings))
    assert warned == [True, False]
