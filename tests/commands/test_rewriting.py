"""From a plan to a checked file, and nothing at all where anything fails."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import evaluated, gap, model_proto, normal, run
from onnx import helper
from opened import Opened, divided, open_model

from onnx_relusv.commands.apply import write_fitted
from onnx_relusv.core.errors import BudgetError, InputError, ValidationError
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.core.plans import Budgets, Choice, Plan
from onnx_relusv.core.reduction import FittedPlan
from onnx_relusv.core.results import Verdict
from onnx_relusv.fitting.plan import fit_plan
from onnx_relusv.graph.checks import PROVENANCE_KEY
from onnx_relusv.graph.model import Model, read_model
from onnx_relusv.measuring.case import block_moments
from onnx_relusv.rewrites.low_rank.candidates import candidate_at
from onnx_relusv.rewrites.low_rank.factors import as_stored
from onnx_relusv.rewrites.low_rank.forms import double_layer
from onnx_relusv.work.executors import Silent
from onnx_relusv.work.files import Publication

TEXT = (
    "(float[N,4,8,8] x) => (float[N,10] y) {"
    " a = Conv<pads=[1,1,1,1]>(x, k, b) c = Relu(a) f = GlobalAveragePool(c) g = Flatten(f)"
    " h = Gemm(g, w, v) i = Relu(h) y = MatMul(i, u) }"
)
ARRAYS = {
    "k": normal(24, 4, 3, 3),
    "b": normal(24),
    "w": normal(24, 40),
    "v": normal(40),
    "u": normal(40, 10),
}
CHOICES = (
    Choice(key="c", action="double_layer", form="spatial", rank=4),
    Choice(key="i", action="double_layer", form="pair", rank=5),
    Choice(key="y"),
)


def opened(folder: Path, *, samples: bool = False, external: bool = False) -> Opened:
    """The model, with random samples or without any."""
    path = folder / "model.onnx"
    proto = model_proto(TEXT, ARRAYS)
    helper.set_model_props(proto, {"labels": "a,b"})
    onnx.save(proto, path, save_as_external_data=external, location="model.bin", size_threshold=500)
    if samples:
        np.savez(folder / "samples.npz", x=normal(60, 4, 8, 8))
    options = MeasureOptions(provider="cpu", seed=3)
    return divided(open_model(path, folder / "samples.npz" if samples else None, options))


def planned(model: Opened, choices: tuple[Choice, ...] = CHOICES, **budgets: float) -> Plan:
    """A plan of these choices."""
    return Plan(
        model_sha256=model.case.model.sha256,
        samples_sha256=None,
        budgets=Budgets(**budgets),
        method="double-layer",
        seed=3,
        allocation="level",
        level=0.9,
        size=0.5,
        macs=0.5,
        choices=choices,
        damage=None,
        curves=(),
    )


def written(
    model: Opened,
    plan: Plan,
    output: Path,
    before_publishing: Callable[[Model, Verdict, Publication], None] = lambda *_: None,
) -> FittedPlan:
    """Carries a plan out, in silence."""
    with block_moments(*model, Silent()) as moments:
        fitted = fit_plan(*model, plan, moments, Silent())
    write_fitted(*model, fitted, output, Silent(), before_publishing, force=True)
    return fitted


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


@pytest.mark.parametrize("external", [False, True])
def test_the_file_computes_what_its_factors_say(external: bool, tmp_path: Path) -> None:
    model = opened(tmp_path, external=external)
    output = tmp_path / "smaller.onnx"
    written(model, planned(model), output)
    feeds = {"x": normal(2, 4, 8, 8)}
    result = run(output, feeds, ["a", "g", "h", "y"])
    conv, dense, last = model.case.blocks
    for block, form, rank, source in (
        (conv, "spatial", 4, feeds["x"]),
        (dense, "pair", 5, result["g"]),
    ):
        factors = double_layer(form, block.geometry, model.case.folding(block), None, rank)
        expected = evaluated(block, as_stored(block, factors), source)
        # Float32 sums of at most 100 products, twice.
        assert gap(result[block.pre_activation], expected) < 5e-6
    kept = evaluated(last, model.case.folding(last), np.maximum(result["h"], 0))
    assert gap(result["y"], kept) < 5e-6
    smaller = read_model(output)
    assert smaller.bytes < model.case.model.bytes
    assert smaller.has_external_data == external


def test_the_file_says_where_it_comes_from(tmp_path: Path) -> None:
    model = opened(tmp_path, samples=True)
    written(model, planned(model, size=0.9), tmp_path / "smaller.onnx")
    metadata = {
        entry.key: entry.value for entry in onnx.load(tmp_path / "smaller.onnx").metadata_props
    }
    assert metadata["labels"] == "a,b"
    story = json.loads(metadata[PROVENANCE_KEY])
    assert model.inputs.samples is not None
    assert story["original_sha256"] == model.case.model.sha256
    assert story["samples_sha256"] == model.inputs.samples.sha256
    assert (story["method"], story["level"], story["seed"]) == ("double-layer", 0.9, 3)
    assert story["budgets"] == {"size": 0.9}
    assert story["version"]


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    model = opened(tmp_path, samples=True)
    for name in ("first.onnx", "second.onnx"):
        written(model, planned(model), tmp_path / name)
    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()


def test_what_is_told_before_the_file_has_its_name(tmp_path: Path) -> None:
    model = opened(tmp_path)
    output, told = tmp_path / "smaller.onnx", []

    def look(smaller: Model, verdict: Verdict, with_it: Publication) -> None:
        assert not output.exists()
        assert smaller.path.is_file()
        told.append((smaller.sha256, verdict))

    levels = written(model, planned(model), output, look).levels
    ((sha256, verdict),) = told
    assert read_model(output).sha256 == sha256
    assert len(verdict.checks) == 8
    assert levels.keys() == {"c", "i"}
    for block, choice in zip(model.case.blocks[:2], CHOICES[:2], strict=True):
        assert choice.form is not None
        assert choice.rank is not None
        linear = model.case.folding(block)
        stated = candidate_at(block, linear, None, choice.form, choice.rank).level
        # Rounding to float32 moves a level by about 1e-7.
        assert levels[block.key] == pytest.approx(stated, rel=1e-5)


def test_samples_shape_the_factors(tmp_path: Path) -> None:
    feeds, errors = {"x": normal(60, 4, 8, 8)}, []
    for samples in (False, True):
        model = opened(tmp_path, samples=samples)
        written(model, planned(model), tmp_path / "smaller.onnx")
        exact = run(model.case.model.path, feeds, ["h"])["h"]
        errors.append(gap(run(tmp_path / "smaller.onnx", feeds, ["h"])["h"], exact))
    # What flows in after a ReLU and a mean has a mean far from zero, which plain factors miss.
    assert errors[1] < 0.5 * errors[0]


class InterruptionError(Exception):
    pass


def interrupt(*_: object) -> None:
    raise InterruptionError


def all_kept(choices: tuple[Choice, ...]) -> tuple[Choice, ...]:
    return tuple(Choice(key=choice.key) for choice in choices)


def changed(index: int, **fields: object) -> tuple[Choice, ...]:
    """The choices with one of them changed."""
    choices = list(CHOICES)
    choices[index] = replace(choices[index], **fields)  # type: ignore[arg-type]
    return tuple(choices)


@pytest.mark.parametrize(
    ("choices", "budgets", "error", "message"),
    [
        (all_kept(CHOICES), {}, BudgetError, "no block can be made smaller; nothing was written"),
        (CHOICES, {"size": 0.1}, BudgetError, r"over the budget of 0\.1; nothing was written"),
        (changed(0, key="b"), {}, InputError, "the plan changes b, which is no block"),
        (changed(0, form="pair"), {}, InputError, "the plan gives c the form pair, which it lacks"),
        (changed(1, form="channel"), {}, InputError, "gives i the form channel, which it lacks"),
        (changed(1, rank=25), {}, InputError, "gives i rank 25; it has to be from 1 to 24"),
        (changed(1, rank=0), {}, InputError, "gives i rank 0; it has to be from 1 to 24"),
        (changed(1, rank=-3), {}, InputError, "gives i rank -3; it has to be from 1 to 24"),
        (
            (Choice(key="i", action="double_layer", form="pair", rank=24),),
            {},
            ValidationError,
            r"the result has \d+ bytes, the original \d+",
        ),
    ],
)
def test_a_plan_that_cannot_be_carried_out(
    choices: tuple[Choice, ...],
    budgets: dict[str, float],
    error: type[Exception],
    message: str,
    tmp_path: Path,
) -> None:
    model = opened(tmp_path)
    output = tmp_path / "smaller.onnx"
    output.write_bytes(b"somebody's own")
    before = names(tmp_path)
    with pytest.raises(error, match=message):
        written(model, planned(model, choices, **budgets), output)
    assert output.read_bytes() == b"somebody's own"
    assert names(tmp_path) == before


@pytest.mark.parametrize("external", [False, True])
def test_an_error_before_publishing_leaves_no_model_behind(external: bool, tmp_path: Path) -> None:
    model = opened(tmp_path, external=external)
    before = names(tmp_path)
    with pytest.raises(InterruptionError):
        written(model, planned(model), tmp_path / "smaller.onnx", interrupt)
    assert names(tmp_path) == before


def test_a_kept_size_budget_is_no_obstacle(tmp_path: Path) -> None:
    model = opened(tmp_path)
    written(model, planned(model, size=0.9), tmp_path / "smaller.onnx")
    assert read_model(tmp_path / "smaller.onnx").bytes <= 0.9 * model.case.model.bytes


@pytest.mark.parametrize("form", ["channel", "spatial"])
def test_every_form_of_a_convolution(form: str, tmp_path: Path) -> None:
    model = opened(tmp_path)
    choice = Choice(key="c", action="double_layer", form=form, rank=3)
    written(model, planned(model, (choice,)), tmp_path / "smaller.onnx")
    nodes = onnx.load(tmp_path / "smaller.onnx").graph.node
    kernels = [a.ints for node in nodes[:2] for a in node.attribute if a.name == "kernel_shape"]
    expected = {"channel": [[3, 3], [1, 1]], "spatial": [[3, 1], [1, 3]]}
    assert [list(kernel) for kernel in kernels] == expected[form]
