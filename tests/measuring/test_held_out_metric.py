"""A metric on samples set aside, against answers that are counted and against numpy."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from classified import ACCURACY, share_right
from graphs import model_proto
from onnx import ModelProto
from opened import Opened, open_model

from onnx_relusv.checking.limit import DropLimit, judge
from onnx_relusv.core.blocks import Runnable
from onnx_relusv.core.errors import InputError
from onnx_relusv.core.metric import Metric
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.measuring.bounds import GROUPS, MetricLoss
from onnx_relusv.measuring.held_out import HeldOut, HeldOutMetric

COUNT = 331
RNG = np.random.default_rng(0)
X = RNG.standard_normal((COUNT, 3)).astype(np.float32)
LABELS = RNG.integers(0, 3, COUNT)


def scores(expression: str, batch: str = "N") -> ModelProto:
    return model_proto(f"(float[{batch},3] x) => (float[{batch},3] y) {{ {expression} }}", opset=17)


def opened(folder: Path, metric: Metric | None, *, batch: str = "N", seed: int = 0) -> Opened:
    onnx.save(scores("y = Identity(x)", batch), folder / "m.onnx")
    np.savez(folder / "s.npz", x=X, labels=LABELS)
    options = MeasureOptions(provider="cpu", seed=seed)
    return open_model(folder / "m.onnx", folder / "s.npz", options, metric)


def loss(model: Opened, smaller: ModelProto, metric: Metric = ACCURACY) -> MetricLoss:
    assert model.inputs.samples is not None
    runnable = Runnable(smaller.SerializeToString(), {})
    return HeldOutMetric(model.case, model.workspace, model.inputs.samples, metric).loss(runnable)


@pytest.mark.parametrize("batch", ["N", "4"])
def test_accuracy_as_a_metric_loses_what_is_counted(batch: str, tmp_path: Path) -> None:
    model, smaller = opened(tmp_path, ACCURACY, batch=batch), scores("y = Abs(x)", batch)
    assert model.inputs.samples is not None
    found = loss(model, smaller)
    counted = HeldOut(model.case, model.workspace, model.inputs.samples, "y")
    exact = counted.discordance(Runnable(smaller.SerializeToString(), {}))
    assert found.drop == pytest.approx(exact.drop, abs=1e-12)
    assert found.before == pytest.approx(np.mean(X.argmax(axis=1) == LABELS))
    assert found.after == pytest.approx(np.mean(np.abs(X).argmax(axis=1) == LABELS))
    assert (found.samples, found.groups) == (COUNT, GROUPS)
    # The drop is a mean over samples; groups that are drawn give its usual error. From 30 groups
    # that varies by 1 / sqrt(2 * 29), 13 %, of which 0.3 is a little over twice.
    lost = (X.argmax(axis=1) == LABELS) * 1.0 - (np.abs(X).argmax(axis=1) == LABELS)
    usual = lost.std(ddof=1) / np.sqrt(COUNT)
    assert found.standard_error == pytest.approx(usual, rel=0.3)
    # An exact bound for whatever is true is wider than an estimate for what is likely.
    assert found.drop < found.bound(0.05) < exact.bound(0.05)


def test_a_model_loses_nothing_against_itself(tmp_path: Path) -> None:
    model = opened(tmp_path, ACCURACY)
    found = loss(model, model.case.model.proto)
    assert (found.drop, found.standard_error, found.bound(0.05)) == (0, 0, 0)


def test_the_seed_draws_the_groups(tmp_path: Path) -> None:
    one, again, other = (
        loss(opened(tmp_path, ACCURACY, seed=seed), scores("y = Abs(x)")) for seed in (0, 0, 1)
    )
    assert one == again
    assert one.drop == other.drop
    assert one.standard_error != other.standard_error


def test_both_models_and_the_labels_are_left_out_together(tmp_path: Path) -> None:
    """The first group is seen to lack the same samples in every call, labels among them."""
    calls: list[tuple[np.ndarray, np.ndarray]] = []

    def remembered(outputs: list[np.ndarray], labels: np.ndarray | None) -> float:
        assert labels is not None
        calls.append((outputs[0].copy(), labels.copy()))
        return share_right(outputs, labels)

    model = opened(tmp_path, None)
    loss(model, scores("y = Neg(x)"), Metric("remembered", remembered))
    assert len(calls) == 2 * (1 + GROUPS)
    before, after = calls[: 1 + GROUPS], calls[1 + GROUPS :]
    assert [len(labels) for _, labels in before][:2] == [COUNT, COUNT - 12]
    assert sum(COUNT - len(labels) for _, labels in before[1:]) == COUNT
    for (first, labels), (second, same) in zip(before, after, strict=True):
        assert np.array_equal(labels, same)
        assert np.array_equal(first, -second)


def test_a_metric_that_fails_on_the_smaller_model_says_so(tmp_path: Path) -> None:
    model = opened(tmp_path, None)
    mean = Metric("mean", lambda outputs, labels: float(outputs[0].mean()))
    with pytest.raises(InputError, match="--metric mean: it returned nan"):
        loss(model, scores("y = Log(x)"), mean)


def test_the_judge_is_what_was_asked_for(tmp_path: Path) -> None:
    smaller = Runnable(scores("y = Abs(x)").SerializeToString(), {})
    for metric, scale in ((None, 100), (ACCURACY, 1)):
        model = opened(tmp_path, metric)
        assert model.inputs.samples is not None
        limit = DropLimit(5.0, 0.95, "y" if metric is None else metric)
        found = judge(model.case, model.workspace, model.inputs.samples, limit)(smaller)
        assert isinstance(found, MetricLoss) == (metric is not None)
        assert limit.scale == scale
        # Five points are a share of 0.05; five units of a metric are five.
        assert limit.share == 5 / scale
