"""Sweeps of small models: what is measured is true, repeats, and leaves nothing behind."""

import hashlib
import shlex
from pathlib import Path
from typing import Any

import classified
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from graphs import model_proto, normal

from onnx_relusv.checking.evaluate import evaluate
from onnx_relusv.checking.validate import validate
from onnx_relusv.cli.commands import cli
from onnx_relusv.commands.sweep import sweep
from onnx_relusv.core.errors import BudgetError, InputError, UsageError, ValidationError
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.core.sweeps import SWEEP_METHODS, Sweep, SweepOptions
from onnx_relusv.planning.latency.pack import measured_pack

SIZES = (0.35, 0.7, 0.5)
REGRESSION = "(float[N,20] x) => (float[N,1] y) { a = Gemm(x, w, b) c = Relu(a) y = Gemm(c, u, g) }"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def other_inputs(folder: Path, model: Path, *, labelled: bool = True) -> Path:
    """Saves other inputs than the samples are."""
    path, x = folder / "test.npz", classified.inputs(1000)[classified.COUNT :]
    labels = classified.answers(model, x)
    labels[::10] = (labels[::10] + 1) % 4
    if labelled:
        np.savez(path, x=x, labels=labels)
    else:
        np.savez(path, x=x)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the classifier, its samples and its test inputs."""
    folder = tmp_path_factory.mktemp("sweep")
    model = classified.classifier(folder)
    classified.samples(folder, model)
    other_inputs(folder, model)
    return folder


@pytest.fixture(scope="module")
def swept(place: Path) -> Sweep:
    return sweep(
        place / "classifier.onnx",
        samples=place / "s.npz",
        test=place / "test.npz",
        sweeping=SweepOptions(sizes=(*SIZES, 0.001), methods=tuple(SWEEP_METHODS)),
        report=place / "report",
        keep=True,
        command="tested",
    )


def small(place: Path, **others: Any) -> Sweep:
    """One quick point."""
    names = ("sizes", "methods", "include", "exclude")
    chosen = {name: others.pop(name) for name in names if name in others}
    sweeping = SweepOptions(**{"sizes": (0.5,), "methods": ("blind",)} | chosen)
    given: dict[str, Any] = {"samples": place / "s.npz", "test": place / "test.npz"}
    return sweep(place / "classifier.onnx", sweeping=sweeping, **(given | others))


def test_every_method_has_a_point_at_every_size_from_the_largest_down(swept: Sweep) -> None:
    assert [(one.method, one.size) for one in swept.points] == [
        (method, size) for method in SWEEP_METHODS for size in (0.7, 0.5, 0.35)
    ]
    assert [(one.method, one.size, one.failed) for one in swept.missed] == [
        (method, 0.001, False) for method in SWEEP_METHODS
    ]
    assert all("cannot be reached" in one.reason for one in swept.missed)
    without = {name for name, way in SWEEP_METHODS.items() if way.allocation == "level"}
    assert without == {"level", "blind"}
    assert {one.method for one in swept.points if one.damage is None} == without


def test_the_kept_files_are_what_the_points_say(swept: Sweep, place: Path) -> None:
    original = swept.model.path.stat().st_size
    kept = sorted((place / "report" / "models").iterdir())
    assert kept == sorted(one.after.path for one in swept.points)
    for one in swept.points:
        assert one.after.bytes == one.after.path.stat().st_size <= one.size * original
        assert one.shares.size == one.after.bytes / original
        macs = sum(
            int(np.prod(tensor.dims))
            for tensor in onnx.load(one.after.path).graph.initializer
            if len(tensor.dims) == 2
        )
        assert one.shares.macs == macs / (20 * 64 + 64 * 64 + 64 * 4)


def test_drops_are_counted_on_the_test_inputs(swept: Sweep, place: Path) -> None:
    with np.load(place / "test.npz") as arrays:
        x, labels = arrays["x"], arrays["labels"]
    right = classified.answers(place / "classifier.onnx", x) == labels
    for one in swept.points:
        assert one.drop is not None
        # Kernels of integers round otherwise than the operators that stand for them.
        optimized = one.method == "int8"
        still = classified.answers(one.after.path, x, optimized=optimized) == labels
        assert one.drop.lost == np.sum(right & ~still)
        assert one.drop.gained == np.sum(still & ~right)
        assert one.drop.points == pytest.approx(100 * (right.mean() - still.mean()))
        assert one.drop.points == pytest.approx(one.evaluation.drop)
        assert one.drop.lower <= one.drop.points <= one.drop.upper
        assert [latency.batch for latency in one.evaluation.latencies] == [1, 32]
    assert (swept.judged_by, swept.judges.count, swept.judges.labelled) == ("accuracy", 600, True)
    assert (swept.judges.fit_samples, swept.judges.select_samples) == (320, 80)


def test_what_was_seen_loses_less_than_what_is_blind(swept: Sweep) -> None:
    # The samples vary far more in some directions than in others, of which blind knows nothing.
    pairs = zip(swept.curve("damage"), swept.curve("blind"), strict=True)
    assert all(seen.error < blind.error for seen, blind in pairs)


@pytest.mark.parametrize("method", SWEEP_METHODS)
def test_the_command_makes_the_same_file_byte_by_byte(
    method: str, swept: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = swept.curve(method)[-1]
    program, *arguments = shlex.split(one.command)
    assert (program, arguments[0]) == ("onnx-relusv", "compress")
    assert ("--samples" in arguments) == (method != "blind")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    (written,) = tmp_path.iterdir()
    assert written.name == one.after.path.name
    assert sha256(written) == sha256(one.after.path) == one.after.sha256


def test_without_test_inputs_a_part_is_set_aside_and_a_sweep_repeats_a_point(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = small(place, test=None, methods=("blind", "damage"), sizes=(0.6, 0.35))
    judges = found.judges
    assert judges.set_aside
    assert (judges.count, judges.fit_samples, judges.select_samples) == (160, 192, 48)
    # Factors that saw no samples are those of compress, whatever is judged on.
    assert all(one.command.split()[1] == "compress" for one in found.curve("blind"))
    one = found.curve("damage")[-1]
    program, *arguments = shlex.split(one.command)
    assert (program, arguments[0]) == ("onnx-relusv", "sweep")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    (written,) = tmp_path.glob("*/models/*")
    assert sha256(written) == one.after.sha256


def test_external_data_is_kept_beside_its_model_and_repeats(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, report = tmp_path / "large.onnx", tmp_path / "report"
    proto = onnx.load(place / "classifier.onnx")
    onnx.save(proto, model, save_as_external_data=True, location="large.data", size_threshold=0)
    sweeping = SweepOptions(sizes=(0.5,), methods=("blind",))
    given = {"samples": place / "s.npz", "sweeping": sweeping, "report": report}
    (one,) = sweep(model, keep=True, **given).points  # type: ignore[arg-type]
    assert one.after.bytes == sum(path.stat().st_size for path in (report / "models").iterdir())
    assert classified.answers(one.after.path, classified.inputs(3)).shape == (3,)
    (tmp_path / "again").mkdir()
    monkeypatch.chdir(tmp_path / "again")
    assert CliRunner().invoke(cli, shlex.split(one.command)[1:]).exit_code == 0
    kept, again = (
        {path.name: sha256(path) for path in folder.iterdir()}
        for folder in (report / "models", tmp_path / "again")
    )
    assert len(kept) == 2
    assert kept == again
    # Its data is known for its own, so that force replaces both.
    sweep(model, keep=True, force=True, **given)  # type: ignore[arg-type]
    assert {path.name for path in (report / "models").iterdir()} == set(kept)


def test_the_seed_and_globs_are_in_the_command_and_in_force(place: Path) -> None:
    measuring = MeasureOptions(seed=3, memory=512, provider="cpu")
    found = small(place, exclude=("c",), include=("*",), measuring=measuring)
    options = [
        "--seed",
        "3",
        "--provider",
        "cpu",
        "--memory",
        "512",
        "--include",
        "*",
        "--exclude",
        "c",
        # As measured here, for wherever the command runs.
        "--pack",
        str(measured_pack("CPUExecutionProvider") or 1),
    ]
    assert shlex.split(found.points[0].command)[-len(options) :] == options
    other = small(place)
    assert found.points[0].after.sha256 != other.points[0].after.sha256
    with pytest.raises(BudgetError, match=r"no point is left.*blind at 0\.5"):
        small(place, exclude=("*",))


def test_without_labels_answers_that_change_are_counted(place: Path, tmp_path: Path) -> None:
    model = place / "classifier.onnx"
    test = other_inputs(tmp_path, model, labelled=False)
    found = small(place, test=test, report=tmp_path / "report", keep=True)
    (one,), x = found.points, np.load(test)["x"]
    changed = classified.answers(model, x) != classified.answers(one.after.path, x)
    assert found.judged_by == "agreement"
    # blind alone fits to nothing.
    assert (found.judges.fit_samples, found.judges.select_samples) == (0, 0)
    assert one.drop is not None
    assert (one.drop.lost, one.drop.gained) == (changed.sum(), None)
    assert one.loss == one.drop.points == pytest.approx(100 * changed.mean())
    assert one.evaluation.drop is None


def test_without_class_scores_the_output_error_is_judged(tmp_path: Path) -> None:
    model, weights = tmp_path / "m.onnx", {"w": normal(20, 64), "b": normal(64)}
    onnx.save(model_proto(REGRESSION, weights | {"u": normal(64, 1), "g": normal(1)}), model)
    samples = tmp_path / "s.npz"
    np.savez(samples, x=classified.inputs(), labels=np.full(classified.COUNT, 99))
    found = sweep(model, samples=samples, sweeping=SweepOptions(sizes=(0.5,), methods=("level",)))
    (one,) = found.points
    assert (found.judged_by, one.drop) == ("error", None)
    assert one.loss == one.error == one.evaluation.outputs[0].relative > 0


def test_a_file_that_fails_is_reported_and_not_kept(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strict(original: Any, path: Path, *others: Any, **options: Any) -> Any:
        if "0.5" in path.name:
            raise ValidationError("the output is off")
        return validate(original, path, *others, **options)

    monkeypatch.setattr("onnx_relusv.commands.apply.validate", strict)
    report = tmp_path / "report"
    found = small(place, sizes=(0.6, 0.5), report=report, keep=True)
    assert [one.size for one in found.points] == [0.6]
    (missed,) = found.missed
    assert (missed.size, missed.failed, missed.reason) == (0.5, True, "the output is off")
    assert [path.name for path in (report / "models").iterdir()] == ["classifier-blind-0.6.onnx"]
    with pytest.raises(ValidationError, match=r"no point.*blind at 0\.5: the output is off"):
        small(place, sizes=(0.5, 0.001), report=tmp_path / "none")
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


@pytest.mark.parametrize("existing", [False, True])
def test_an_interrupted_sweep_leaves_nothing_behind(
    existing: bool, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "report"
    if existing:
        small(place, report=report, keep=True)
    before = {path: sha256(path) for path in tmp_path.rglob("*") if path.is_file()}
    calls = []

    def interrupted(*given: Any, **options: Any) -> Any:
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(*given, **options)

    monkeypatch.setattr("onnx_relusv.commands.sweep_points.evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        small(place, sizes=(0.7, 0.6), report=report, keep=True, force=True)
    assert {path: sha256(path) for path in tmp_path.rglob("*") if path.is_file()} == before
    assert len(list(tmp_path.iterdir())) == existing


def test_an_earlier_sweep_is_replaced_only_by_force(place: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    small(place, report=report, keep=True)
    with pytest.raises(UsageError, match="--force"):
        small(place, report=report)
    (report / "report.json").unlink()
    (report / "report.html").unlink()
    with pytest.raises(UsageError, match="models: exists already"):
        small(place, report=report, keep=True)
    small(place, report=report, keep=True, force=True, sizes=(0.6,))
    assert [path.name for path in (report / "models").iterdir()] == ["classifier-blind-0.6.onnx"]
    assert sorted(path.name for path in report.iterdir()) == [
        "models",
        "report.html",
        "report.json",
    ]


def test_nothing_of_others_is_replaced(place: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    precious = models / "precious.txt"
    precious.write_text("precious", encoding="utf-8")
    with pytest.raises(UsageError, match="holds more than models"):
        small(place, report=tmp_path, keep=True, force=True)
    precious.unlink()
    model = models / "classifier.onnx"
    model.write_bytes((place / "classifier.onnx").read_bytes())
    with pytest.raises(UsageError, match="an input is in there"):
        sweep(model, samples=place / "s.npz", report=tmp_path, keep=True, force=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["models", "classifier.onnx"]
    with pytest.raises(UsageError, match="give one"):
        small(place, keep=True)


def test_samples_that_are_fitted_to_do_not_judge(place: Path) -> None:
    with pytest.raises(UsageError, match="samples that are fitted to"):
        small(place, test=place / "s.npz")


@pytest.mark.parametrize("problem", ["labels", "shape", "missing"])
def test_test_inputs_that_do_not_fit_are_refused_before_any_work(
    problem: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*given: Any, **options: Any) -> Any:
        raise AssertionError("something was measured")

    monkeypatch.setattr("onnx_relusv.commands.stages.planning_moments", measured)
    test = tmp_path / "test.npz"
    x = normal(3, 19 if problem == "shape" else 20)
    if problem != "missing":
        np.savez(test, x=x, labels=np.array([0, 1, 4 if problem == "labels" else 2]))
    with pytest.raises(InputError):
        small(place, test=test)


def test_single_samples_are_too_few(place: Path, tmp_path: Path) -> None:
    samples = tmp_path / "one.npz"
    np.savez(samples, x=classified.inputs(1))
    with pytest.raises(InputError, match="too few"):
        small(place, samples=samples, test=None)
    with pytest.raises(UsageError, match="--samples, two at least"):
        small(place, samples=samples, methods=("damage",))
    (one,) = small(place, samples=samples, methods=("level",)).points
    assert one.method == "level"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"sizes": ()}, "--sizes: give one"),
        ({"sizes": (0.5, 0.0)}, "--sizes 0:"),
        ({"sizes": (1.5,)}, "--sizes 1.5:"),
        ({"sizes": (float("nan"),)}, "--sizes nan:"),
        ({"sizes": (0.5, 0.5)}, "twice"),
        ({"methods": ()}, "--methods: give one"),
        (
            {"methods": ("blind", "magic")},
            "--methods magic: use some of auto, int8, fp16, harmonic, damage, level, blind",
        ),
        ({"methods": ("blind", "blind")}, "twice"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any], said: str, place: Path) -> None:
    with pytest.raises(UsageError, match=said):
        small(place, **wrong)
