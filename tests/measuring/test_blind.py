"""Blocks without samples: assumed moments against those of the data a network was normalised on."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from examples import block, conv, gemm, moments
from graphs import model_proto, normal, run
from opened import divided, open_model

from onnx_relusv import ApplyOptions, Budgets, PlanOptions, apply, compress, inspect, plan
from onnx_relusv.core.blocks import Moments
from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.graph.channels.operator import ChannelStatistics
from onnx_relusv.measuring.case import block_moments
from onnx_relusv.measuring.without_samples import (
    SHRINKAGE,
    assumed_moments,
    planning_moments,
    samples_where_units_go,
)
from onnx_relusv.planning.plan_file import plan_text, read_plan
from onnx_relusv.work.executors import Silent

CPU = MeasureOptions(provider="cpu", seed=2)
NETWORK = (
    "(float[N,3,8,8] x) => (float[N,10] y) {"
    " a = Conv(x, k) n = BatchNormalization(a, gamma, beta, mean, variance)"
    " r = Relu(n) c = Conv(r, l) s = Relu(c) f = Flatten(s) y = Gemm(f, w) }"
)
SAMPLES = 400
MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that is normalised on the very samples beside it, which are far from unit ones."""
    folder = tmp_path_factory.mktemp("blind")
    weights = {
        "k": normal(12, 3, 3, 3, scale=0.3),
        "l": normal(16, 12, 3, 3, scale=0.2),
        "w": normal(256, 10, scale=0.1),
        "gamma": np.linspace(0.3, 2, 12, dtype=np.float32),
        "beta": normal(12, seed=1),
        "mean": np.zeros(12, np.float32),
        "variance": np.ones(12, np.float32),
    }
    images = 5 + 20 * normal(SAMPLES, 3, 8, 8, seed=9)
    before = run(model_proto(NETWORK, weights), {"x": images}, ["a"])["a"]
    weights["mean"] = before.mean(axis=(0, 2, 3))
    weights["variance"] = before.var(axis=(0, 2, 3))
    onnx.save(model_proto(NETWORK, weights), folder / "model.onnx")
    np.savez(folder / "samples.npz", x=images)
    return folder


def assumed(path: Path, options: MeasureOptions = CPU) -> dict[str, Moments | None]:
    with planning_moments(*divided(open_model(path, None, options)), Silent()) as found:
        return dict(found)


def test_behind_a_normalisation_channels_are_as_on_the_data_it_was_made_on(files: Path) -> None:
    found = assumed(files / "model.onnx")["s"]
    opened = open_model(files / "model.onnx", files / "samples.npz", CPU)
    with block_moments(*opened, Silent()) as seen:
        real = seen["s"]
    assert found is not None
    assert real is not None
    assert found.source == "batch_normalization"
    assert real.source == "samples"
    share, diagonal = real.shrinkage[0], np.diagonal(real.covariance[0])
    # Without the multiple of the identity that shrinking added; it left the trace.
    variance = (diagonal - share * diagonal.mean()) / (1 - share)
    # One channel is 0 on all samples, and its variance is a difference of what is equal.
    assert variance.min() > -1e-5 * diagonal.mean()
    deviation = np.sqrt(np.maximum(variance, 0))
    off = abs(np.sqrt(np.diagonal(found.covariance[0])) - deviation).max() / deviation.max()
    moved = abs(found.mean - real.mean).max() / deviation.max()
    # Sums of 27 independent numbers are nearly Gaussian: measured 0.015 both.
    assert off < 0.03
    assert moved < 0.03
    # Noise that the network was not normalised on tells neither.
    other = _of_unit_noise(files)
    assert abs(np.sqrt(np.diagonal(other.covariance[0])) - deviation).max() > 0.3 * deviation.max()
    assert abs(other.mean - real.mean).max() > 0.3 * deviation.max()


def _of_unit_noise(files: Path) -> Moments:
    """Moments of white noise with a variance of 1."""
    np.savez(files / "unit.npz", x=normal(SAMPLES, 3, 8, 8, seed=3))
    with block_moments(
        *open_model(files / "model.onnx", files / "unit.npz", CPU), Silent()
    ) as seen:
        found = seen["s"]
    assert found is not None
    return found


def test_seeds_repeat_and_differ(files: Path) -> None:
    first, again, other = (
        assumed(files / "model.onnx", replace(CPU, seed=seed))["r"] for seed in (2, 2, 3)
    )
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.source == "synthetic"
    np.testing.assert_array_equal(first.covariance, again.covariance)
    assert (first.covariance != other.covariance).any()


def test_half_of_what_is_between_columns_is_taken_away() -> None:
    geometry = gemm(6, 4)
    synthetic = moments(geometry, np.random.default_rng(0))
    plain = assumed_moments(block(geometry), synthetic, None)
    assert plain is not None
    C = synthetic.covariance[0]
    exact = (1 - SHRINKAGE) * C + SHRINKAGE * np.trace(C) / 6 * np.eye(6)
    np.testing.assert_allclose(plain.covariance[0], exact, rtol=1e-12)
    np.testing.assert_array_equal(plain.mean, synthetic.mean)


@pytest.mark.parametrize("kind", ["conv", "flattened"])
def test_variances_are_the_files_and_correlations_synthetic(kind: str) -> None:
    known = ChannelStatistics(np.array([1.0, -2.0]), np.array([4.0, 0.0]), kind == "flattened")
    geometry = conv(2, 5, (3, 3)) if kind == "conv" else gemm(18, 5)
    where = block(geometry, (6, 6) if kind == "conv" else ())
    synthetic = moments(geometry, np.random.default_rng(0))
    found = assumed_moments(where, synthetic, known)
    assert found is not None
    assert found.source == "batch_normalization"
    np.testing.assert_array_equal(found.mean[0], np.repeat([1.0, -2.0], 9))
    C, D = found.covariance[0], synthetic.covariance[0]
    np.testing.assert_allclose(np.diag(C)[:9], 4, rtol=1e-12)
    correlation = D[0, 1] / np.sqrt(D[0, 0] * D[1, 1])
    assert C[0, 1] == pytest.approx((1 - SHRINKAGE) * correlation * 4, rel=1e-12)
    # A channel without variance leaves the matrix definite, and nearly nothing in it.
    assert 0 < np.diag(C)[9:].max() < 1e-8
    assert np.linalg.eigvalsh(C).min() > 0


def test_statistics_that_do_not_fit_are_not_used() -> None:
    geometry = gemm(18, 5)
    synthetic = moments(geometry, np.random.default_rng(0))
    for known in (
        ChannelStatistics(np.zeros(4), np.ones(4), True),  # 18 is no multiple of it
        ChannelStatistics(np.zeros(2), np.ones(2), False),  # axis 1, but not a Flatten's
    ):
        found = assumed_moments(block(geometry), synthetic, known)
        assert found is not None
        assert found.source == "synthetic"
    # Axis 1 of three axes holds the positions of a MatMul, not its features.
    between = assumed_moments(
        block(geometry, (18,)), synthetic, ChannelStatistics(np.zeros(18), np.ones(18))
    )
    assert between is not None
    assert between.source == "synthetic"


def test_numbers_that_are_not_finite_assume_nothing() -> None:
    synthetic = moments(gemm(6, 4), np.random.default_rng(0))
    mean = synthetic.mean.copy()
    mean[0, 2] = np.nan
    assert assumed_moments(block(gemm(6, 4)), replace(synthetic, mean=mean), None) is None


def test_plan_report_and_warning_say_that_the_choice_was_blind(files: Path, tmp_path: Path) -> None:
    model = files / "model.onnx"
    planning = PlanOptions(budgets=Budgets(size=0.7))
    done = compress(
        model, tmp_path / "small.onnx", planning=planning, measuring=CPU, report=tmp_path / "report"
    )
    # Blocks that became slower are another matter.
    (warning,) = (one for one in done.warnings if one.startswith("No samples"))
    assert warning.startswith("No samples: blocks were measured on BatchNormalization statistics")
    assert warning.endswith("what it costs in accuracy is not known.")
    sources = {row.block.key: row.statistics for row in done.rows}
    assert sources == {"r": "synthetic", "s": "batch_normalization", "y": "synthetic"}
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert [row["statistics"] for row in report["blocks"]] == list(sources.values())
    assert warning in report["warnings"]
    page = (tmp_path / "report" / "report.html").read_text()
    assert "what it costs in accuracy is not known" in page
    assert "batch normalization" in page
    decided = plan(model, planning=planning, measuring=CPU)
    assert {choice.key: choice.statistics for choice in decided.choices} == sources
    (tmp_path / "plan.json").write_text(plan_text(decided))
    assert read_plan(tmp_path / "plan.json") == decided


def test_samples_are_no_blind_choice_and_an_inspection_stays_plain(
    files: Path, tmp_path: Path
) -> None:
    model, samples = files / "model.onnx", files / "samples.npz"
    planning = PlanOptions(budgets=Budgets(size=0.7), allocation="level")
    done = compress(
        model, tmp_path / "small.onnx", samples=samples, planning=planning, measuring=CPU
    )
    assert not any(one.startswith("No samples") for one in done.warnings)
    assert {row.statistics for row in done.rows} == {"samples"}
    seen = inspect(model, measuring=CPU)
    assert {row.statistics for row in seen.rows} == {"none"}
    assert not any(row.spectrum.in_data_metric for row in seen.rows)


def test_whole_numbers_mean_something_so_nothing_is_assumed(tmp_path: Path) -> None:
    text = (
        "(int64[N,4] x) => (float[N,8] y) {"
        " e = Gather(t, x) f = Flatten(e) h = Gemm(f, v) r = Relu(h) y = Gemm(r, w) }"
    )
    weights = {"t": normal(6, 8), "v": normal(32, 40), "w": normal(40, 8)}
    onnx.save(model_proto(text, weights), tmp_path / "tokens.onnx")
    assert set(assumed(tmp_path / "tokens.onnx").values()) == {None}
    planning = PlanOptions(budgets=Budgets(size=0.8))
    done = compress(
        tmp_path / "tokens.onnx", tmp_path / "small.onnx", planning=planning, measuring=CPU
    )
    assert {row.statistics for row in done.rows} == {"none"}
    (warning,) = (one for one in done.warnings if one.startswith("No samples"))
    assert "measured on the unit ball" in warning


HARMONIC = PlanOptions(budgets=Budgets(size=0.6), method="harmonic")


def test_units_are_removed_by_what_synthetic_inputs_show(files: Path, tmp_path: Path) -> None:
    model = files / "model.onnx"
    report = tmp_path / "report"
    done = compress(model, tmp_path / "small.onnx", planning=HARMONIC, measuring=CPU, report=report)
    assert done.after.bytes <= 0.6 * done.before.bytes
    assert {row.statistics for row in done.rows} == {"synthetic"}
    (warning,) = (one for one in done.warnings if one.startswith("No samples"))
    assert warning.startswith("No samples: blocks were measured on synthetic inputs;")
    # Nobody gave samples, so none are named: neither in the report nor in the file.
    assert done.provenance.samples is None
    assert done.provenance.sample_count == 0
    assert done.plan.allocation == "damage"
    data = json.loads((report / "report.json").read_text())
    assert data["provenance"]["samples_sha256"] is None
    page = (report / "report.html").read_text()
    assert "change of the outputs on synthetic inputs" in page
    assert "samples for choosing" not in page
    (entry,) = (
        json.loads(one.value)
        for one in onnx.load(tmp_path / "small.onnx").metadata_props
        if one.key.startswith("onnx_relusv")
    )
    assert entry["samples_sha256"] is None


def test_synthetic_bfloat16_inputs(tmp_path: Path) -> None:
    """Files of samples do not know the type; the model does."""
    text = (
        "(bfloat16[N,24] x) => (float[N,4] y) {"
        " z = Cast<to=1>(x) h = Gemm(z, w, b) r = Relu(h) k = MatMul(r, v) q = Relu(k)"
        " y = MatMul(q, u) }"
    )
    weights = {"w": normal(24, 32), "b": normal(32), "v": normal(32, 16), "u": normal(16, 4)}
    onnx.save(model_proto(text, weights), tmp_path / "model.onnx")
    planning = PlanOptions(budgets=Budgets(size=0.8), method="harmonic")
    done = compress(
        tmp_path / "model.onnx", tmp_path / "small.onnx", planning=planning, measuring=CPU
    )
    assert {row.statistics for row in done.rows} == {"synthetic"}
    assert done.after.bytes <= 0.8 * done.before.bytes


def test_a_plan_without_samples_is_carried_out_as_compress_does(
    files: Path, tmp_path: Path
) -> None:
    model = files / "model.onnx"
    compress(model, tmp_path / "one.onnx", planning=HARMONIC, measuring=CPU)
    decided = plan(model, planning=HARMONIC, measuring=CPU)
    assert decided.samples_sha256 is None
    (tmp_path / "plan.json").write_text(plan_text(decided))
    done = apply(
        model, tmp_path / "plan.json", tmp_path / "two.onnx", measuring=ApplyOptions(provider="cpu")
    )
    # The same inputs are drawn from the plan's seed.
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    assert [one.partition(":")[0] for one in done.warnings if "amples" in one] == ["No samples"]
    with_samples = plan(model, samples=files / "samples.npz", planning=HARMONIC, measuring=CPU)
    done = apply(
        model, with_samples, tmp_path / "three.onnx", measuring=ApplyOptions(provider="cpu")
    )
    assert any("none were given: synthetic ones are fitted to" in one for one in done.warnings)


def test_fitting_to_synthetic_inputs_is_better_than_cutting(tmp_path: Path) -> None:
    model = MODELS / "lenet_300_100_sgd.onnx"
    planning = PlanOptions(budgets=Budgets(size=0.07), method="harmonic")
    done = compress(model, tmp_path / "small.onnx", planning=planning, measuring=CPU)
    kept = {one.choice.key: list(one.choice.kept) for one in done.groups}
    with np.load(MODELS / "fashion_calibration.npz") as archive:
        images = archive["image"][:1000].astype(np.float32)
    exact, small, cut = (
        run(proto, {"image": images}, ["logits"])["logits"].argmax(axis=1)
        for proto in (
            onnx.load(model),
            onnx.load(tmp_path / "small.onnx"),
            _cut(onnx.load(model), {"fc2_weight": kept["fc1"], "fc3_weight": kept["fc2"]}),
        )
    )
    # Measured: 18 % of the answers change, and 32 % with the same units cut and nothing fitted.
    assert np.mean(small != exact) < 0.75 * np.mean(cut != exact)


def test_what_counts_answers_takes_real_samples(files: Path, tmp_path: Path) -> None:
    planning = PlanOptions(budgets=Budgets(max_drop=1), method="harmonic")
    with pytest.raises(UsageError, match="--max-drop needs --samples"):
        compress(files / "model.onnx", tmp_path / "s.onnx", planning=planning, measuring=CPU)
    assert not (tmp_path / "s.onnx").exists()


def test_nothing_is_drawn_where_it_means_nothing(files: Path, tmp_path: Path) -> None:
    text = (
        "(int64[N,4] x) => (float[N,8] y) {"
        " e = Gather(t, x) f = Flatten(e) h = Gemm(f, v) r = Relu(h) y = Gemm(r, w) }"
    )
    weights = {"t": normal(6, 8), "v": normal(32, 40), "w": normal(40, 8)}
    onnx.save(model_proto(text, weights), tmp_path / "tokens.onnx")
    endless = (
        "(float[N,9] x) => (float[N,4] y) { l = Log(x) h = Gemm(l, v) r = Relu(h) y = Gemm(r, w) }"
    )
    weights = {"v": normal(9, 12), "w": normal(12, 4)}
    onnx.save(model_proto(endless, weights), tmp_path / "endless.onnx")
    for name in ("tokens", "endless"):
        opened = open_model(tmp_path / f"{name}.onnx", None, CPU)
        with samples_where_units_go(*opened, None, go=True) as same:
            assert same is opened.inputs
    done = compress(
        tmp_path / "tokens.onnx", tmp_path / "small.onnx", planning=HARMONIC, measuring=CPU
    )
    assert {row.statistics for row in done.rows} == {"none"}
    assert done.plan.allocation == "level"
    # Real samples are used as they are, and without units to remove there is nothing to fit.
    given = open_model(files / "model.onnx", files / "samples.npz", CPU)
    with samples_where_units_go(*given, None, go=True) as same:
        assert same is given.inputs
    bare = open_model(files / "model.onnx", None, CPU)
    with samples_where_units_go(*bare, None, go=False) as same:
        assert same is bare.inputs


def _cut(proto: onnx.ModelProto, kept: dict[str, list[int]]) -> onnx.ModelProto:
    """With the consumers' weights of the removed units at zero."""
    for one in proto.graph.initializer:
        if one.name in kept:
            weight = np.zeros(one.dims, np.float32)
            units = kept[one.name]
            weight[:, units] = onnx.numpy_helper.to_array(one)[:, units]
            one.CopyFrom(onnx.numpy_helper.from_array(weight, one.name))
    return proto
