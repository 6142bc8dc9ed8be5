"""The smallest file within a drop: what is written obeys, and nobody peeked to find it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from classified import COUNT, TEXT, answers, classifier, inputs, samples, weights
from graphs import model_proto, run
from opened import Opened, divided, open_model
from scipy.stats import binomtest

from onnx_relusv import Budgets, MeasureOptions, PlanOptions, apply, compress, plan
from onnx_relusv.checking.certificate import certified
from onnx_relusv.checking.limit import DropLimit, drop_limit
from onnx_relusv.checking.search import MOST_TRIES, Descent, SizeTrial, search
from onnx_relusv.core.errors import BudgetError, InputError, UsageError
from onnx_relusv.core.results import Compression
from onnx_relusv.fitting.plan import fit_plan
from onnx_relusv.graph.checks import PROVENANCE_KEY
from onnx_relusv.graph.reference import runnable
from onnx_relusv.measuring.blocks import Ground, measure_blocks
from onnx_relusv.measuring.case import block_moments
from onnx_relusv.measuring.held_out import HeldOut
from onnx_relusv.planning.offer import Offer, make_offer
from onnx_relusv.planning.plan_file import plan_text
from onnx_relusv.rewrites.apply import rewritten
from onnx_relusv.work.executors import Advance, Silent

SEED = 3
MEASURING = MeasureOptions(provider="cpu", seed=SEED)


def opened(model: Path, data: Path) -> Opened:
    return divided(open_model(model, data, MEASURING), certifying=True)


def certify_positions(model: Path, data: Path) -> np.ndarray:
    """Where the samples for certifying lie, found by their values."""
    parts = opened(model, data).inputs.split
    assert parts is not None
    assert parts.certify is not None
    rows = [batch.feeds["x"][: batch.count, 0] for batch in parts.certify.batches(64)]
    return np.flatnonzero(np.isin(np.load(data)["x"][:, 0], np.concatenate(rows)))


def written(model: Path, data: Path, output: Path, **budgets: float) -> Compression:
    # Nothing looks at the time of kernels here.
    options = PlanOptions(budgets=Budgets(**budgets), round_to=1)
    # The network is the same in all tests, and what is measured of it is measured once.
    measuring = replace(MEASURING, cache=output.parent.parent / "measured")
    return compress(model, output, samples=data, planning=options, measuring=measuring)


def expected_bound(lost: int, gained: int | None, count: int, confidence: float) -> float:
    """The bound in points, with the ends of scipy's two-sided intervals."""

    def ends(of: int, error: float) -> tuple[float, float]:
        found = binomtest(of, count).proportion_ci(1 - 2 * error, method="exact")
        return found.low, found.high

    error = 1 - confidence
    if gained is None:
        return 100 * ends(lost, error)[1]
    return 100 * (ends(lost, error / 2)[1] - ends(gained, error / 2)[0])


@pytest.mark.parametrize("labelled", [True, False])
def test_the_written_file_obeys(labelled: bool, tmp_path: Path) -> None:
    model, output = classifier(tmp_path), tmp_path / "small.onnx"
    data = samples(tmp_path, model, labelled=labelled)
    done = written(model, data, output, max_drop=8.0, confidence=0.9)
    found = done.bound
    assert found is not None
    # The file itself is counted again, by onnxruntime and numpy alone.
    x, where = inputs(), certify_positions(model, data)
    before, after = answers(model, x)[where], answers(output, x)[where]
    lost, gained = int(np.sum(before != after)), None
    if labelled:
        labels = np.load(data)["labels"][where]
        lost = int(np.sum((before == labels) & (after != labels)))
        gained = int(np.sum((before != labels) & (after == labels)))
    assert found.exact
    assert (found.lost, found.gained, found.certify_samples) == (lost, gained, len(where))
    assert found.labelled is labelled
    bound = expected_bound(lost, gained, len(where), 0.9)
    assert found.bound == pytest.approx(bound, rel=1e-9)
    assert found.drop <= found.bound <= found.max_drop == 8
    assert found.confidence == 0.9
    assert found.fit_samples + found.select_samples + found.certify_samples == COUNT
    assert done.after.bytes == output.stat().st_size < done.before.bytes
    assert (done.plan.budgets.max_drop, done.plan.budgets.size) == (8.0, None)
    metadata = {entry.key: entry.value for entry in onnx.load(output).metadata_props}
    assert json.loads(metadata[PROVENANCE_KEY])["budgets"]["max_drop"] == 8.0


@dataclass(frozen=True)
class Case:
    """A model that was measured once, for any number of searches."""

    model: Opened
    offer: Offer
    limit: DropLimit
    descent: Descent


@contextmanager
def searching(model: Path, data: Path, budgets: Budgets) -> Iterator[Case]:
    one = opened(model, data)
    limit = drop_limit(*one, budgets)
    assert limit is not None
    with block_moments(*one, Silent()) as moments:
        measured = measure_blocks(*one, moments, Silent())
        offer = make_offer(
            Ground(*one, moments, measured), PlanOptions(budgets=budgets, round_to=1), Silent()
        )
        yield Case(one, offer, limit, search(*one, offer, moments, budgets, limit, Silent()))


def told(case: Case) -> list[object]:
    """All that the search found, and all that may be certified, in its order."""
    return [
        (one.plan.choices, one.plan.curves, one.found, factors_of(one))
        for one in (*case.descent.tries, *(one for one, _ in case.descent))
    ]


def factors_of(one: SizeTrial) -> list[bytes]:
    if one.fitted is None:
        return []
    return [
        array.tobytes()
        for found in one.fitted.factors.values()
        for array in (found.matrices[0], found.matrices[-1], found.bias)
    ]


@pytest.mark.parametrize("labelled", [True, False])
def test_the_search_never_looks_at_the_samples_for_certifying(
    labelled: bool, tmp_path: Path
) -> None:
    model = classifier(tmp_path)
    data = samples(tmp_path, model, labelled=labelled)
    arrays, budgets = dict(np.load(data)), Budgets(max_drop=8.0)
    with searching(model, data, budgets) as case:
        clean = told(case)
        found = certified(*case.model, case.descent, case.limit, Silent())[1]
    certify = certify_positions(model, data)
    # The first sample is run when the model is opened, to see that it runs at all.
    assert 0 not in certify
    moved = {name: values.copy() for name, values in arrays.items()}
    # Far from all others, and answered by other classes.
    moved["x"][certify] = 50 * moved["x"][certify][:, ::-1]
    if labelled:
        moved["labels"][certify] = 3 - moved["labels"][certify]
    np.savez(tmp_path / "certify.npz", **moved)
    with searching(model, tmp_path / "certify.npz", budgets) as case:
        assert told(case) == clean
        # Who looks at them notices.
        assert certified(*case.model, case.descent, case.limit, Silent())[1] != found
    if labelled:  # as well, all others matter
        others = np.setdiff1d(np.arange(COUNT), certify)
        arrays["x"][others] = arrays["x"][others][:, ::-1]
        np.savez(tmp_path / "moved.npz", **arrays)
        with searching(model, tmp_path / "moved.npz", budgets) as case:
            assert told(case) != clean


def test_sizes_go_down_in_small_steps_from_above_where_the_search_ended(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    data = samples(tmp_path, model)
    with searching(model, data, Budgets(max_drop=8.0, size=0.9)) as case:
        descent, share, error = case.descent, case.limit.share, case.limit.error
        to_certify = case.model.inputs.certification.count
        promising = [
            one.plan.size
            for one in descent.tries
            if one.found.expected(to_certify).bound(error) <= share
        ]
        made: list[float] = []

        def tried(size: float) -> SizeTrial:
            made.append(size)
            assert descent.tried is not None
            return descent.tried(size)

        counted = replace(descent, tried=tried)
        # None is fitted before it is asked for.
        first, _ = next(iter(counted))
        assert first.plan.size > max(promising)
        assert made == [max(descent.further)]
        looked = [one for one, _ in counted]
        assert len(looked) <= len(descent) <= MOST_TRIES
    sizes = [one.plan.size for one in looked]
    assert sizes == sorted(set(sizes), reverse=True)
    assert sizes[0] <= 0.9
    # From above the smallest that promises to below it, with no large step in between.
    near = [size for size in sizes if min(promising) / 1.3 <= size <= 1.6 * min(promising)]
    assert near[0] > min(promising) > near[-1]
    assert max(np.array(near[:-1]) / near[1:]) < 1.4
    assert sum(size > min(promising) for size in descent.further) >= 2
    # What the bisection found to lose too much is not looked at again.
    assert all(one.fitted is not None for one in looked)


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Opened, list[SizeTrial], list[float]]:
    """Tries at six sizes, and the bound of each by itself, in points at a confidence of 0.9."""
    folder = tmp_path_factory.mktemp("sizes")
    model = classifier(folder)
    data = samples(folder, model)
    where, x = certify_positions(model, data), inputs()
    labels, before = np.load(data)["labels"][where], answers(model, x)[where]
    tries, bounds = [], []
    with (
        searching(model, data, Budgets(max_drop=99.0)) as case,
        block_moments(*case.model, Silent()) as moments,
    ):
        parts = case.model.inputs.split
        assert parts is not None
        assert parts.select is not None
        select = HeldOut(case.model.case, case.model.workspace, parts.select, "y")
        for size in (0.85, 0.7, 0.6, 0.5, 0.42, 0.35):
            one = case.offer.plan(Budgets(size=size))
            fitted = fit_plan(*case.model, one, moments, Silent())
            proto = rewritten(*case.model, fitted)
            tries.append(
                SizeTrial(one, select.discordance(runnable(case.model.case.model, proto)), fitted)
            )
            after = run(proto, {"x": x}, ["y"])["y"].argmax(axis=1)[where]
            lost = int(np.sum((before == labels) & (after != labels)))
            gained = int(np.sum((before != labels) & (after == labels)))
            bounds.append(expected_bound(lost, gained, len(where), 0.9))
        return case.model, tries, bounds


@pytest.mark.parametrize("points", [2.5, 5.0, 10.0, 15.0, 25.0, 60.0])
def test_looks_end_with_the_first_that_fails(
    points: float, sizes: tuple[Opened, list[SizeTrial], list[float]]
) -> None:
    model, tries, bounds = sizes
    passes = [bound <= points for bound in bounds]
    first_failure = passes.index(False) if False in passes else len(passes)
    limit = DropLimit(points, 0.9, "y")
    if not first_failure:
        with pytest.raises(BudgetError, match=rf"smallest bound is {bounds[0]:.3g} points"):
            certified(*model, Descent(tuple(tries)), limit, Silent())
        return
    fitted, certificate = certified(*model, Descent(tuple(tries)), limit, Silent())
    assert fitted is tries[first_failure - 1].fitted
    assert certificate.bound == pytest.approx(bounds[first_failure - 1])
    looks = [trial.bound for trial in certificate.trials]
    assert looks[: first_failure + 1] == pytest.approx(bounds[: first_failure + 1])
    assert looks[first_failure + 1 :] == [None] * len(looks[first_failure + 1 :])


def test_the_cases_above_are_cases(sizes: tuple[Opened, list[SizeTrial], list[float]]) -> None:
    _, tries, bounds = sizes
    assert len(set(bounds)) > 3
    # The estimate would let files through that the bound does not.
    assert any(
        one.found.drop <= 0.10 < bound / 100 for one, bound in zip(tries, bounds, strict=True)
    )


class Stages(Silent):
    """Remembers the names of the stages."""

    def __init__(self) -> None:
        self.names: list[str] = []

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        self.names.append(name)
        yield lambda steps: None


@pytest.mark.parametrize(("labelled", "needed", "count"), [(True, 368, 919), (False, 299, 747)])
def test_too_few_samples_are_said_before_any_measuring(
    labelled: bool, needed: int, count: int, tmp_path: Path
) -> None:
    model, output, stages = classifier(tmp_path), tmp_path / "small.onnx", Stages()
    few = samples(tmp_path, model, count=count - 1, labelled=labelled, name="few")
    options = PlanOptions(budgets=Budgets(max_drop=1.0), round_to=1)
    with pytest.raises(BudgetError, match=rf"It takes {count}, of which {needed} are set aside"):
        compress(model, output, samples=few, planning=options, progress=stages)
    assert stages.names == []
    assert not output.exists()
    enough = samples(tmp_path, model, count=count, labelled=labelled, name="enough")
    limit = drop_limit(*opened(model, enough), Budgets(max_drop=1.0))
    assert limit == DropLimit(1.0, 0.95, "y")


def test_groups_are_not_certified(tmp_path: Path) -> None:
    model, output = classifier(tmp_path), tmp_path / "small.onnx"
    with np.load(samples(tmp_path, model)) as arrays:
        given = dict(arrays)
    count = len(next(iter(given.values())))
    np.savez(tmp_path / "grouped.npz", **given, groups=np.arange(count) // 2)
    options = PlanOptions(budgets=Budgets(max_drop=8.0), round_to=1)
    with pytest.raises(InputError, match="do not depend on each other, and these have groups"):
        compress(model, output, samples=tmp_path / "grouped.npz", planning=options)
    assert not output.exists()


def test_it_is_the_last_that_passed_from_the_largest_down_in_every_run(tmp_path: Path) -> None:
    """Two runs are alike, and show their stages."""
    model, stages = classifier(tmp_path), Stages()
    options = PlanOptions(budgets=Budgets(max_drop=8.0), round_to=1)
    data, outputs = samples(tmp_path, model), [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    done, again = (
        compress(
            model, output, samples=data, planning=options, measuring=MEASURING, progress=progress
        )
        for output, progress in zip(outputs, (stages, Silent()), strict=True)
    )
    assert done.bound == again.bound
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    once = ("Moments", "Spectra", "Damage of the blocks", "Damage of the groups", "Order", "Search")
    once += ("Certification", "Validation")
    for name in once:
        assert sum(stage.startswith(name) for stage in stages.names) == 1, name
    assert 1 < stages.names.count("Fit") <= MOST_TRIES
    assert done.bound is not None
    trials = done.bound.trials
    assert 1 < len(trials) <= MOST_TRIES
    assert [trial.size for trial in trials] == sorted((t.size for t in trials), reverse=True)
    looked = [trial for trial in trials if trial.bound is not None]
    assert all(trial.select_drop <= 8 for trial in looked)
    passed = [trial for trial in looked if trial.bound <= 8]
    # One failure at most, the last look of all.
    assert passed == looked[: len(passed)]
    assert len(looked) - len(passed) <= 1
    assert done.bound.bound == passed[-1].bound
    # What was planned is an upper bound of what was written.
    assert done.after.bytes <= passed[-1].size * done.before.bytes


def test_nothing_is_written_where_nothing_is_certified(tmp_path: Path) -> None:
    # Nothing in these weights can be left out.
    model, folder = classifier(tmp_path, decay=0.95), tmp_path / "out"
    data = samples(tmp_path, model)
    folder.mkdir()
    (folder / "small.onnx").write_bytes(b"somebody's own")
    with pytest.raises(
        BudgetError, match=r"smallest bound is \d.* of the bytes.*[Nn]othing"
    ) as caught:
        compress(
            model,
            folder / "small.onnx",
            samples=data,
            planning=PlanOptions(budgets=Budgets(max_drop=3.0), round_to=1),
            report=folder / "report",
            force=True,
        )
    assert caught.value.exit_code == 4
    assert [path.name for path in folder.iterdir()] == ["small.onnx"]
    assert (folder / "small.onnx").read_bytes() == b"somebody's own"


def test_where_no_try_is_near_the_bound_is_that_of_the_search(tmp_path: Path) -> None:
    model = classifier(tmp_path, decay=0.95)
    data = samples(tmp_path, model)
    with pytest.raises(BudgetError, match="samples for choosing, where no try stayed within it"):
        written(model, data, tmp_path / "small.onnx", max_drop=5.0, size=0.5)


def test_all_budgets_hold_together(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    data = samples(tmp_path, model)
    limited = {"size": 0.5, "macs": 0.5, "tolerance": 0.2}
    for name, share in limited.items():
        done = written(model, data, tmp_path / f"{name}.onnx", max_drop=40.0, **{name: share})
        found = done.bound
        assert found is not None
        assert found.bound <= 40
        if name == "size":
            assert done.after.bytes <= share * done.before.bytes
            assert max(trial.size for trial in found.trials) <= share
        elif name == "macs":
            assert done.after.macs <= share * done.before.macs
        else:
            assert max(row.choice.level for row in done.rows if row.choice) <= share
    with pytest.raises(BudgetError, match="cannot be reached"):
        written(model, data, tmp_path / "none.onnx", max_drop=40.0, size=0.01)


def test_samples_and_class_scores_are_needed(tmp_path: Path) -> None:
    model, output = classifier(tmp_path), tmp_path / "small.onnx"
    options = PlanOptions(budgets=Budgets(max_drop=8.0))
    with pytest.raises(UsageError, match="--max-drop needs --samples"):
        compress(model, output, planning=options)
    number = weights(0.8)
    number["u"], number["g"] = number["u"][:, :1], number["g"][:1]
    onnx.save(model_proto(TEXT.replace("N,4", "N,1"), number), tmp_path / "number.onnx")
    data = samples(tmp_path, model, labelled=False)
    with pytest.raises(InputError, match="no output has class scores"):
        compress(tmp_path / "number.onnx", output, samples=data, planning=options)
    np.savez(tmp_path / "five.npz", x=inputs(), labels=np.arange(COUNT) % 5)
    with pytest.raises(InputError, match="labels go from 0 to 4"):
        compress(model, output, samples=tmp_path / "five.npz", planning=options)
    assert not output.exists()


def test_a_drop_belongs_to_compress(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    data = samples(tmp_path, model)
    options = PlanOptions(budgets=Budgets(max_drop=8.0))
    with pytest.raises(UsageError, match="use it with compress"):
        plan(model, samples=data, planning=options)
    made = plan(model, samples=data, planning=PlanOptions(budgets=Budgets(size=0.6)))
    text, asked = plan_text(made), plan_text(made).replace('"max_drop": null', '"max_drop": 8.0')
    assert asked != text
    (tmp_path / "plan.json").write_text(asked)
    with pytest.raises(InputError, match="only compress can certify"):
        apply(model, tmp_path / "plan.json", tmp_path / "small.onnx", samples=data)
    assert not (tmp_path / "small.onnx").exists()
