"""A metric end to end: what is written, what is said of it, and nobody peeked to find it."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from classified import classifier, inputs, samples
from graphs import run
from metrics import ACCURACY, ENOUGH, FIT, regressor, targets
from scipy.stats import t

from onnx_relusv import Budgets, MeasureOptions, Metric, PlanOptions, compare, compress
from onnx_relusv.drop_limit import drop_limit
from onnx_relusv.errors import BudgetError, InputError, UsageError
from onnx_relusv.graph.surgery import PROVENANCE_KEY
from onnx_relusv.opened import Opened, open_model
from onnx_relusv.planning import divided
from onnx_relusv.results import Compression
from onnx_relusv.samples import Samples

SEED = 3
MEASURING = MeasureOptions(provider="cpu", seed=SEED)


def opened(model: Path, data: Path, metric: Metric | None = FIT) -> Opened:
    return divided(open_model(model, data, MEASURING, metric), certifying=True)


def positions(part: Samples | None, data: Path) -> np.ndarray:
    """Where a part's samples lie, found by their values."""
    assert part is not None
    rows = [batch.feeds["x"][: batch.count, 0] for batch in part.batches(64)]
    return np.flatnonzero(np.isin(np.load(data)["x"][:, 0], np.concatenate(rows)))


def written(model: Path, data: Path, output: Path, metric: Metric, **budgets: float) -> Compression:
    options = PlanOptions(budgets=Budgets(**budgets), metric=metric)
    return compress(model, output, samples=data, planning=options, measuring=MEASURING)


def test_a_regressor_within_a_drop(tmp_path: Path) -> None:
    """The issue's case: no class scores, targets that are numbers, and a metric for both."""
    model, output = regressor(tmp_path), tmp_path / "small.onnx"
    data = targets(tmp_path, model)
    x, labels = inputs(ENOUGH), np.load(data)["labels"]
    most = 0.5 * float(np.var(labels))
    done = written(model, data, output, FIT, max_drop=most, confidence=0.9)
    found = done.estimate
    assert found is not None
    assert done.certificate is None
    parts = opened(model, data).split
    assert parts is not None
    where = positions(parts.certify, data)
    # The file itself is judged again, by onnxruntime and numpy alone.
    before, after = (
        -float(np.mean((run(file, {"x": x}, ["y"])["y"] - labels)[where] ** 2, dtype=np.float64))
        for file in (model, output)
    )
    assert done.metric == found.change
    assert (found.change.samples, found.change.part) == (len(where), "certifying")
    assert found.change.before == pytest.approx(before, rel=1e-5)
    assert found.change.after == pytest.approx(after, rel=1e-4)
    bound = found.change.loss + t.isf(0.1, found.groups - 1) * found.standard_error
    assert found.bound == pytest.approx(bound)
    assert 0 < found.change.loss < found.bound <= found.max_drop == most
    assert found.fit_samples + found.select_samples + found.change.samples == ENOUGH
    assert done.after.bytes == output.stat().st_size < done.before.bytes
    # Something was risked: what is asked for leads to a file that uses some of it.
    assert found.bound > 0.02 * most
    passed = [one.bound for one in found.trials if one.bound is not None and one.bound <= most]
    assert found.bound == passed[-1]
    metadata = {entry.key: entry.value for entry in onnx.load(output).metadata_props}
    story = json.loads(metadata[PROVENANCE_KEY])
    assert (story["metric"], story["budgets"]["max_drop"]) == ("fit", most)


def test_accuracy_as_a_metric_is_the_accuracy_that_is_counted(tmp_path: Path) -> None:
    """Its loss on the samples set aside is the difference of the counts, in shares."""
    model, output = classifier(tmp_path), tmp_path / "small.onnx"
    data = samples(tmp_path, model, count=ENOUGH)
    done = written(model, data, output, ACCURACY, max_drop=0.08)
    found, limit = done.estimate, 0.08
    assert found is not None
    parts = opened(model, data, ACCURACY).split
    assert parts is not None
    where, labels = positions(parts.certify, data), np.load(data)["labels"]
    before, after = (
        run(file, {"x": inputs(ENOUGH)}, ["y"])["y"].argmax(axis=1)[where] == labels[where]
        for file in (model, output)
    )
    assert found.change.before == pytest.approx(before.mean())
    assert found.change.after == pytest.approx(after.mean())
    lost, gained = int(np.sum(before & ~after)), int(np.sum(~before & after))
    assert found.change.loss == pytest.approx((lost - gained) / len(where))
    assert found.bound <= limit
    # Eight units of a share are never lost; taken for points, the limit would hold nothing back.
    assert found.max_drop == limit


def test_without_a_drop_the_report_has_the_metric(tmp_path: Path) -> None:
    model, output = regressor(tmp_path), tmp_path / "small.onnx"
    data = targets(tmp_path, model, count=100)
    done = written(model, data, output, FIT, size=0.5)
    assert done.estimate is None
    assert done.metric is not None
    assert (done.metric.part, done.metric.samples) == ("choosing", 20)
    parts = divided(open_model(model, data, MEASURING, FIT)).split
    assert parts is not None
    where, labels = positions(parts.select, data), np.load(data)["labels"]
    before, after = (
        -float(np.mean((run(file, {"x": inputs(100)}, ["y"])["y"] - labels)[where] ** 2))
        for file in (model, output)
    )
    assert done.metric.before == pytest.approx(before, rel=1e-4)
    assert done.metric.after == pytest.approx(after, rel=1e-4)
    assert done.metric.loss > 0


def test_a_metric_changes_nothing_but_what_it_says(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    data = samples(tmp_path, model)
    options = PlanOptions(budgets=Budgets(size=0.5))
    plain = compress(
        model, tmp_path / "a.onnx", samples=data, planning=options, measuring=MEASURING
    )
    judged = written(model, data, tmp_path / "b.onnx", ACCURACY, size=0.5)
    assert (plain.metric, plain.estimate, plain.certificate) == (None, None, None)
    assert judged.metric is not None
    assert [row.choice for row in plain.rows] == [row.choice for row in judged.rows]
    # The weights are equal; the file with a metric also says its name.
    for one, two in zip(
        *(onnx.load(tmp_path / name).graph.initializer for name in ("a.onnx", "b.onnx")),
        strict=True,
    ):
        assert one.SerializeToString() == two.SerializeToString()


def test_too_few_samples_for_groups_are_said_at_once(tmp_path: Path) -> None:
    model, output = regressor(tmp_path), tmp_path / "small.onnx"
    match = r"749 samples are too few .* It takes 750, of which 300 are set aside.* 30 groups of 10"
    with pytest.raises(BudgetError, match=match):
        written(model, targets(tmp_path, model, count=749), output, FIT, max_drop=1.0)
    assert not output.exists()
    enough = opened(model, targets(tmp_path, model, count=750))
    limit = drop_limit(enough, Budgets(max_drop=1.0))
    assert limit is not None
    assert (limit.points, limit.confidence, limit.metric) == (1.0, 0.95, FIT)


def test_a_drop_that_no_file_keeps(tmp_path: Path) -> None:
    model, output = regressor(tmp_path), tmp_path / "small.onnx"
    data = targets(tmp_path, model)
    match = r"no file is estimated to lose at most 1e-12 units of fit .*smallest bound is .* of fit"
    with pytest.raises(BudgetError, match=match):
        written(model, data, output, FIT, max_drop=1e-12, size=0.5)
    assert not output.exists()


def test_without_a_metric_the_error_names_it(tmp_path: Path) -> None:
    model = regressor(tmp_path)
    np.savez(tmp_path / "x.npz", x=inputs(ENOUGH))
    options = PlanOptions(budgets=Budgets(max_drop=8.0))
    with pytest.raises(InputError, match=r"no output has class scores.*Give a --metric"):
        compress(model, tmp_path / "s.onnx", samples=tmp_path / "x.npz", planning=options)
    with pytest.raises(UsageError, match="--max-drop needs --samples"):
        compress(
            model,
            tmp_path / "s.onnx",
            planning=PlanOptions(budgets=Budgets(max_drop=8.0), metric=FIT),
        )


def test_the_search_never_looks_at_the_samples_set_aside(tmp_path: Path) -> None:
    """A metric that fails wherever it is told of one of them: it fails in the last stage alone."""
    model = regressor(tmp_path)
    data = targets(tmp_path, model)
    parts = opened(model, data).split
    assert parts is not None
    assert parts.certify is not None
    assert parts.certify.labels is not None
    aside, calls = set(parts.certify.labels.ravel().tolist()), []

    def jealous(outputs: list[np.ndarray], labels: np.ndarray | None) -> float:
        assert labels is not None
        calls.append(bool(aside & set(labels.ravel().tolist())))
        return -float(np.mean((outputs[0] - labels) ** 2))

    written(model, data, tmp_path / "s.onnx", Metric("jealous", jealous), max_drop=40.0)
    first = calls.index(True)
    assert first > 31
    assert not any(calls[:first])
    assert all(calls[first:])


def test_a_comparison_shows_the_metric(tmp_path: Path) -> None:
    model, output = regressor(tmp_path), tmp_path / "small.onnx"
    data = targets(tmp_path, model, count=150)
    written(model, data, output, FIT, size=0.5)
    found = compare(model, output, data, metric=FIT).evaluation
    labels = np.load(data)["labels"]
    before, after = (
        -float(np.mean((run(file, {"x": inputs(150)}, ["y"])["y"] - labels) ** 2))
        for file in (model, output)
    )
    assert found.metric is not None
    assert (found.metric.name, found.metric.part, found.metric.samples) == ("fit", "all", 150)
    assert found.metric.before == pytest.approx(before, rel=1e-4)
    assert found.metric.after == pytest.approx(after, rel=1e-4)
    # These labels are none that answers could be counted by.
    assert found.drop is None
    with pytest.raises(InputError, match="one whole number a sample"):
        compare(model, output, data)
