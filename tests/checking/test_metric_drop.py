"""A metric end to end: what is written, what is said of it, and nobody peeked to find it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from classified import (
    ACCURACY,
    ENOUGH,
    FIT,
    classifier,
    inputs,
    minus_error,
    regressor,
    samples,
    targets,
)
from graphs import run
from opened import Opened, divided, open_model
from scipy.stats import t

from onnx_relusv import Budgets, MeasureOptions, Metric, PlanOptions, compare, compress
from onnx_relusv.checking.limit import drop_limit
from onnx_relusv.core.errors import BudgetError, InputError, UsageError
from onnx_relusv.core.results import Compression
from onnx_relusv.graph.checks import PROVENANCE_KEY
from onnx_relusv.samples.samples import Samples

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
    """With one block that may change, so that a fit takes little time."""
    options = PlanOptions(budgets=Budgets(**budgets), metric=metric, include=("f",))
    return compress(model, output, samples=data, planning=options, measuring=MEASURING)


@dataclass(frozen=True)
class Within:
    """A regressor made smaller within a drop, and what its metric was told."""

    model: Path
    data: Path
    output: Path
    most: float
    done: Compression
    told: list[np.ndarray]

    @property
    def aside(self) -> np.ndarray:
        """Where the samples lie that were set aside."""
        parts = opened(self.model, self.data).inputs.split
        assert parts is not None
        return positions(parts.certify, self.data)


@pytest.fixture(scope="module")
def within(tmp_path_factory: pytest.TempPathFactory) -> Within:
    folder = tmp_path_factory.mktemp("within")
    model, output = regressor(folder), folder / "small.onnx"
    data = targets(folder, model)
    told: list[np.ndarray] = []

    def remembered(outputs: list[np.ndarray], labels: np.ndarray | None) -> float:
        assert labels is not None
        told.append(labels.ravel().copy())
        return minus_error(outputs, labels)

    most = 0.5 * float(np.var(np.load(data)["labels"]))
    metric = Metric("fit", remembered)
    done = written(model, data, output, metric, max_drop=most, confidence=0.9)
    return Within(model, data, output, most, done, told)


def test_a_regressor_within_a_drop(within: Within) -> None:
    """No class scores, targets that are numbers, and a metric for both."""
    done, found, labels = within.done, within.done.bound, np.load(within.data)["labels"]
    assert found is not None
    assert found.metric is not None
    assert not found.exact
    # The file itself is judged again, by onnxruntime and numpy alone.
    where, x = within.aside, inputs(ENOUGH)
    before, after = (
        -float(np.mean((run(file, {"x": x}, ["y"])["y"] - labels)[where] ** 2, dtype=np.float64))
        for file in (within.model, within.output)
    )
    assert done.metric == found.metric
    assert (found.metric.samples, found.metric.part) == (len(where), "certifying")
    assert found.metric.before == pytest.approx(before, rel=1e-5)
    assert found.metric.after == pytest.approx(after, rel=1e-4)
    bound = found.metric.loss + t.isf(0.1, found.groups - 1) * found.standard_error
    assert found.bound == pytest.approx(bound)
    assert 0 < found.metric.loss < found.bound <= found.max_drop == within.most
    assert found.fit_samples + found.select_samples + found.metric.samples == ENOUGH
    assert done.after.bytes == within.output.stat().st_size < done.before.bytes
    bounds = [one.bound for one in found.trials if one.bound is not None]
    assert found.bound == [bound for bound in bounds if bound <= within.most][-1]
    metadata = {entry.key: entry.value for entry in onnx.load(within.output).metadata_props}
    story = json.loads(metadata[PROVENANCE_KEY])
    assert (story["metric"], story["budgets"]["max_drop"]) == ("fit", within.most)


def test_the_search_never_looks_at_the_samples_set_aside(within: Within) -> None:
    """Before certification begins the metric is told of none, and never of one and of others."""
    aside = np.load(within.data)["labels"].ravel()[within.aside]
    looked = [bool(np.isin(labels, aside).any()) for labels in within.told]
    first = looked.index(True)
    # The original and one try, on all samples for choosing and without each group.
    assert first >= 2 * 31
    for labels in within.told[first:]:
        assert np.isin(labels, aside).all() or not np.isin(labels, aside).any()


def test_accuracy_as_a_metric_is_the_accuracy_that_is_counted(tmp_path: Path) -> None:
    """Its loss on the samples set aside is the difference of the counts, in shares."""
    model, output = classifier(tmp_path), tmp_path / "small.onnx"
    data = samples(tmp_path, model, count=ENOUGH)
    done = written(model, data, output, ACCURACY, max_drop=0.08)
    found, limit = done.bound, 0.08
    assert found is not None
    assert found.metric is not None
    parts = opened(model, data, ACCURACY).inputs.split
    assert parts is not None
    where, labels = positions(parts.certify, data), np.load(data)["labels"]
    before, after = (
        run(file, {"x": inputs(ENOUGH)}, ["y"])["y"].argmax(axis=1)[where] == labels[where]
        for file in (model, output)
    )
    assert found.metric.before == pytest.approx(before.mean())
    assert found.metric.after == pytest.approx(after.mean())
    lost, gained = int(np.sum(before & ~after)), int(np.sum(~before & after))
    assert found.metric.loss == pytest.approx((lost - gained) / len(where))
    assert found.bound <= limit
    # Eight units of a share are never lost; taken for points, the limit would hold nothing back.
    assert found.max_drop == limit


def test_without_a_drop_the_report_has_the_metric(tmp_path: Path) -> None:
    model, output = regressor(tmp_path), tmp_path / "small.onnx"
    data = targets(tmp_path, model, count=100)
    done = written(model, data, output, FIT, size=0.5)
    assert done.bound is None
    assert done.metric is not None
    assert (done.metric.part, done.metric.samples) == ("choosing", 20)
    parts = divided(open_model(model, data, MEASURING, FIT)).inputs.split
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
    options = PlanOptions(budgets=Budgets(size=0.5), include=("f",))
    plain = compress(
        model, tmp_path / "a.onnx", samples=data, planning=options, measuring=MEASURING
    )
    judged = written(model, data, tmp_path / "b.onnx", ACCURACY, size=0.5)
    assert (plain.metric, plain.bound) == (None, None)
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
    match = r"748 samples are too few .* It takes 749, of which 300 are set aside.* 30 groups of 10"
    with pytest.raises(BudgetError, match=match):
        written(model, targets(tmp_path, model, count=748), output, FIT, max_drop=1.0)
    assert not output.exists()
    enough = opened(model, targets(tmp_path, model, count=749))
    limit = drop_limit(*enough, Budgets(max_drop=1.0))
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
