"""What a written file costs: held against numbers that onnxruntime and numpy give by themselves."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from classified import answers, classifier
from classified import inputs as classified_inputs
from classified import samples as classified_samples
from command_line import run, words
from graphs import model_proto
from graphs import run as run_model
from sample_arrays import archive

from onnx_relusv import Budgets, MeasureOptions, PlanOptions, compress
from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.results import Compression
from onnx_relusv.graph.model import read_model
from onnx_relusv.report.files import report_data
from onnx_relusv.samples.samples import open_samples
from onnx_relusv.samples.split import split

CPU = MeasureOptions(provider="cpu")
LEVEL = PlanOptions(budgets=Budgets(size=0.6), allocation="level")
RNG = np.random.default_rng(0)


def made(
    model: Path, folder: Path, samples: Path | None = None, test: Path | None = None
) -> Compression:
    return compress(
        model, folder / "small.onnx", samples=samples, test=test, planning=LEVEL, measuring=CPU
    )


def relative(model: Path, other: Path, x: np.ndarray) -> float:
    before, after = (run_model(one, {"x": x}, ["y"])["y"].astype(float) for one in (model, other))
    return float(np.linalg.norm(after - before) / np.linalg.norm(before))


def test_the_samples_for_choosing_are_judged_on(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    path = classified_samples(tmp_path, model)
    done = made(model, tmp_path, path)
    found, small = done.assessment, tmp_path / "small.onnx"
    x, labels = classified_inputs(400), np.load(path)["labels"]
    held = set(range(400)) - set(fit_positions(path, model))
    chosen = np.array(sorted(held))
    assert found.part == "choosing"
    assert found.evaluation.samples == len(chosen) == 80
    before, after = (answers(one, x[chosen]) for one in (model, small))
    assert found.evaluation.agreement == np.mean(before == after)
    assert found.evaluation.accuracy_before == np.mean(before == labels[chosen])
    assert found.evaluation.accuracy_after == np.mean(after == labels[chosen])
    assert found.change == pytest.approx(relative(model, small, x[chosen]), rel=1e-4)
    assert done.samples is not None
    assert (done.samples.given, done.samples.fit, done.samples.select) == (400, 320, 80)
    assert found.latency.before > 0
    assert found.conclusion in json.dumps(report_data(done))


def fit_positions(path: Path, model: Path) -> list[int]:
    """Which samples are fitted to, by what the split gives."""
    part = split(open_samples(path, read_model(model).inputs), 0).fit
    return [int(one) for one in part.positions]


def test_a_test_file_is_judged_on_as_a_whole(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    path = classified_samples(tmp_path, model, count=300, labelled=False)
    x = classified_inputs(400)[300:]
    test = tmp_path / "test.npz"
    np.savez(test, x=x, labels=answers(model, x))
    found = made(model, tmp_path, path, test).assessment
    assert (found.part, found.evaluation.samples) == ("test", 100)
    # They are the original's own answers.
    assert found.evaluation.accuracy_before == 1
    assert found.evaluation.agreement == found.evaluation.accuracy_after
    assert "nothing was fitted to or chosen on" in found.conclusion


def test_the_samples_are_no_test_of_themselves(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    path = classified_samples(tmp_path, model)
    with pytest.raises(UsageError, match="these are the samples that are fitted to"):
        made(model, tmp_path, path, path)
    assert not (tmp_path / "small.onnx").exists()


def test_a_test_file_says_what_a_run_without_samples_costs(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    done = made(model, tmp_path, test=classified_samples(tmp_path, model))
    assert done.assessment.part == "test"
    assert done.samples is not None
    assert (done.samples.fit, done.samples.test) == (0, 400)
    assert done.assessment.evaluation.accuracy_before is not None


def test_one_sample_is_judged_on_and_called_what_it_is(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    done = made(model, tmp_path, archive(tmp_path, x=classified_inputs(1)))
    assert done.assessment.part == "fitting"
    assert any("There is one sample" in one for one in done.warnings)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [("foreign", "7 of 400 labels are no class of the model"), ("one", "All 400 labels are 2")],
)
def test_labels_that_tell_nothing(wrong: str, said: str, tmp_path: Path) -> None:
    model = classifier(tmp_path)
    labels = np.full(400, 2) if wrong == "one" else np.repeat(np.arange(4), 100)
    if wrong == "foreign":
        labels[:7] = 4
    done = made(model, tmp_path, archive(tmp_path, x=classified_inputs(400), labels=labels))
    assert any(said in one for one in done.warnings)
    assert (done.assessment.evaluation.accuracy_before is None) == (wrong == "foreign")
    assert done.assessment.evaluation.agreement is not None


def test_a_ruined_model_is_told_loudly(tmp_path: Path) -> None:
    # Singular values that hardly fall: half of the bytes are half of what it does.
    model = classifier(tmp_path, decay=0.99)
    path = classified_samples(tmp_path, model)
    result = run(
        *("compress", model, "--output", tmp_path / "small.onnx", "--size", 0.4),
        *("--samples", path, "--json", tmp_path / "figures.json", "--report", tmp_path / "report"),
    )
    assert result.exit_code == 0, result.output
    assert "WARNING: Only" in words(result)
    data = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert data == json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    alarm = data["assessment"]["alarms"][0]
    assert data["warnings"][0] == alarm
    assert data["assessment"]["evaluation"]["agreement"] < 0.95
    assert 'class="warnings alarms"' in (tmp_path / "report" / "report.html").read_text("utf-8")
    assert words(result).endswith(data["assessment"]["conclusion"])


def test_figures_alone_on_standard_output(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    result = run(
        "compress", model, "--output", tmp_path / "small.onnx", "--size", 0.6, "--json", "-"
    )
    assert result.exit_code == 0
    data = json.loads(result.stdout)
    assert data["schema"] == "onnx-relusv/compression"
    assert data["assessment"]["part"] == "synthetic"
    assert "checks passed" in result.stderr
    assert not Path("-").exists()
    inspected = run("inspect", model, "--json", "-")
    assert json.loads(inspected.stdout)["schema"] == "onnx-relusv/inspection"


GATE = (
    "(float[N,16] x, float[] most) => (float[N,8] y) {"
    " a = MatMul(x, w) b = Relu(a) z = MatMul(b, v) open = Greater(most, limit)"
    " y = Where(open, z, one) }"
)


def gated(folder: Path, limit: float) -> Path:
    """A model whose output is 1 until an input is over a limit."""
    weights = {
        "w": RNG.standard_normal((16, 96)).astype(np.float32),
        "v": RNG.standard_normal((96, 8)).astype(np.float32),
        "limit": np.array(limit, np.float32),
        "one": np.array(1, np.float32),
    }
    path = folder / "gated.onnx"
    onnx.save(model_proto(GATE, weights), path)
    return path


def test_a_threshold_among_the_inputs_does_not_hide_what_is_lost(tmp_path: Path) -> None:
    found = made(gated(tmp_path, 50), tmp_path).assessment
    # On some kinds nothing is seen, which is no figure; on others all of it.
    changes = [feed.change for feed in found.feeds]
    assert None in changes
    assert found.change is not None
    assert found.change > 0.05
    assert found.withheld == {}


def test_constant_outputs_give_no_figure(tmp_path: Path) -> None:
    done = made(gated(tmp_path, 1e9), tmp_path)
    found = done.assessment
    assert found.change is None
    assert list(found.withheld) == ["y"]
    assert any(one.startswith("Random inputs tell nothing here") for one in done.warnings)
    assert "what it costs is not known" in found.conclusion


def test_samples_that_a_threshold_hides_are_said_to_tell_nothing(tmp_path: Path) -> None:
    # The first axis of both inputs is the samples'.
    text = GATE.replace("float[] most", "float[N,1] most")
    model = gated(tmp_path, 50)
    proto = model_proto(text, {})
    whole = onnx.load(model)
    whole.graph.input[1].CopyFrom(proto.graph.input[1])
    onnx.save(whole, model)
    x = RNG.standard_normal((200, 16)).astype(np.float32)
    quiet = archive(tmp_path, x=x, most=RNG.uniform(0, 9, (200, 1)).astype(np.float32))
    done = made(model, tmp_path, quiet)
    assert list(done.assessment.withheld) == ["y"]
    assert any("the original gives the same y" in one for one in done.warnings)
