"""A part of the samples drawn by the seed: how many, which, and that runs with it repeat."""

from pathlib import Path

import numpy as np
import pytest
from classified import classifier
from classified import samples as classified_samples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_arrays import archive, everything, spec

from onnx_relusv import ApplyOptions, Budgets, MeasureOptions, PlanOptions, apply, compress, plan
from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.planning.plan_file import plan_text, read_plan
from onnx_relusv.samples.samples import Samples, open_samples
from onnx_relusv.samples.split import drawn

NUMBER = [spec("x", np.float32, None)]


def numbered(folder: Path, count: int, **beside: np.ndarray) -> Samples:
    """Samples that hold their own positions."""
    values = np.arange(count, dtype=np.float32)
    return open_samples(archive(folder, x=values, **beside), NUMBER)


def test_so_many_are_drawn_and_labels_follow(tmp_path: Path) -> None:
    samples = numbered(tmp_path, 100, labels=np.arange(100) * 3)
    part = drawn(samples, 30, 0)
    assert (part.count, part.total) == (30, 100)
    positions = everything(part, 7)["x"].astype(int)
    assert len(set(positions)) == 30
    assert part.labels is not None
    assert part.labels.tolist() == (3 * positions).tolist()
    # At random: not the first ones.
    assert positions.max() > 60
    assert part.labels.tolist() == drawn(samples, 30, 0).labels.tolist()
    assert part.labels.tolist() != drawn(samples, 30, 1).labels.tolist()


@pytest.mark.parametrize("most", [None, 10, 11])
def test_all_are_taken_where_there_are_no_more(most: int | None, tmp_path: Path) -> None:
    samples = numbered(tmp_path, 10)
    assert drawn(samples, most, 0) is samples


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(groups=st.lists(st.integers(0, 6), min_size=2, max_size=40), data=st.data())
def test_groups_stay_whole(groups: list[int], data: st.DataObject, tmp_path: Path) -> None:
    samples = numbered(tmp_path, len(groups), groups=np.array(groups))
    sizes = np.bincount(groups)
    least = int(sizes[sizes > 0].min())
    most = data.draw(st.integers(least, len(groups)))
    part = drawn(samples, most, data.draw(st.integers(0, 5)))
    assert 1 <= part.count <= most
    assert part.groups is not None
    for group in np.unique(part.groups):
        assert np.sum(part.groups == group) == sizes[group]
    # No group that is left out would have had room.
    left = set(groups) - set(part.groups.tolist())
    assert all(sizes[group] > most - part.count for group in left)


def test_a_number_below_every_group_is_refused(tmp_path: Path) -> None:
    samples = numbered(tmp_path, 6, groups=np.array([0, 0, 0, 1, 1, 1]))
    with pytest.raises(InputError, match=r"smallest group has 3 samples.*Use 3 or more"):
        drawn(samples, 2, 0)


def test_none_cannot_be_drawn() -> None:
    with pytest.raises(UsageError, match="--max-samples 0: use a number from 1 on"):
        MeasureOptions(max_samples=0)


def test_a_plan_knows_how_many_were_drawn(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    samples = classified_samples(tmp_path, model)
    measuring = MeasureOptions(provider="cpu", seed=3, max_samples=150)
    planning = PlanOptions(budgets=Budgets(size=0.7), allocation="level")
    paths = [tmp_path / name for name in ("one.onnx", "two.onnx", "three.onnx")]
    done = compress(model, paths[0], samples=samples, planning=planning, measuring=measuring)
    assert done.provenance.sample_count == 150
    assert done.provenance.settings["max-samples"] == 150
    decided = plan(model, samples=samples, planning=planning, measuring=measuring)
    file = tmp_path / "plan.json"
    file.write_text(plan_text(decided), encoding="utf-8")
    assert read_plan(file).max_samples == 150
    again = apply(model, file, paths[1], samples=samples, measuring=ApplyOptions(provider="cpu"))
    assert paths[1].read_bytes() == paths[0].read_bytes()
    assert not any("part of these samples" in one for one in again.warnings)
    # Another part is said, and is another file: the draw is no decoration.
    other = apply(
        model,
        file,
        paths[2],
        samples=samples,
        measuring=ApplyOptions(provider="cpu", max_samples=200),
    )
    assert any("another part of these samples" in one for one in other.warnings)
    assert paths[2].read_bytes() != paths[0].read_bytes()


def test_a_number_that_draws_nothing_changes_nothing(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    samples = classified_samples(tmp_path, model, count=60)
    planning = PlanOptions(budgets=Budgets(size=0.7), allocation="level")
    found = [
        plan(
            model,
            samples=samples,
            planning=planning,
            measuring=MeasureOptions(provider="cpu", max_samples=most),
        )
        for most in (None, 60, 1000)
    ]
    assert plan_text(found[0]) == plan_text(found[1]) == plan_text(found[2])
