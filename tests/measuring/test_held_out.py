"""Answers counted on samples that were set aside, against numpy."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import model_proto
from onnx import ModelProto
from opened import Opened, open_model

from onnx_relusv.core.blocks import Runnable
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.measuring.bounds import Discordance
from onnx_relusv.measuring.held_out import HeldOut, answers_output
from onnx_relusv.runtime.outputs import AnswerOutput

COUNT = 131
RNG = np.random.default_rng(0)
X = RNG.standard_normal((COUNT, 3)).astype(np.float32)
LABELS = RNG.integers(0, 3, COUNT)


def scores(expression: str, batch: str = "N") -> ModelProto:
    """A model whose second output has class scores; its first has one number a sample."""
    text = f"(float[{batch},3] x) => (float[{batch},1] n, float[{batch},3] y)"
    return model_proto(text + " { n = ReduceMax<axes=[1]>(x) " + expression + " }", opset=17)


def opened(folder: Path, *, labelled: bool, batch: str = "N") -> Opened:
    onnx.save(scores("y = Identity(x)", batch), folder / "m.onnx")
    np.savez(folder / "s.npz", x=X, **({"labels": LABELS} if labelled else {}))
    return open_model(folder / "m.onnx", folder / "s.npz", MeasureOptions(provider="cpu"))


def counted(model: Opened, smaller: ModelProto) -> Discordance:
    assert model.inputs.samples is not None
    return HeldOut(model.case, model.workspace, model.inputs.samples, "y").discordance(
        Runnable(smaller.SerializeToString(), {})
    )


@pytest.mark.parametrize("batch", ["N", "4"])
def test_where_answers_differ(batch: str, tmp_path: Path) -> None:
    before, after = X.argmax(axis=1), np.abs(X).argmax(axis=1)
    other = scores("y = Abs(x)", batch)
    found = counted(opened(tmp_path, labelled=False, batch=batch), other)
    assert found == Discordance(COUNT, int(np.sum(before != after)), None)
    found = counted(opened(tmp_path, labelled=True, batch=batch), other)
    lost = int(np.sum((before == LABELS) & (after != LABELS)))
    gained = int(np.sum((before != LABELS) & (after == LABELS)))
    assert found == Discordance(COUNT, lost, gained)
    assert min(lost, gained) > 0


def test_a_model_agrees_with_itself(tmp_path: Path) -> None:
    model = opened(tmp_path, labelled=True)
    assert counted(model, model.case.model.proto) == Discordance(COUNT, 0, 0)


def test_what_is_not_a_number_is_never_right(tmp_path: Path) -> None:
    # Logarithms of negative scores; numpy's argmax would take the first of them for the answer.
    broken = scores("y = Log(x)")
    some = (X < 0).any(axis=1)
    before, after = X.argmax(axis=1), np.where(some, -1, X.argmax(axis=1))
    assert 0 < some.sum() < COUNT
    found = counted(opened(tmp_path, labelled=True), broken)
    assert found == Discordance(COUNT, int(np.sum((before == LABELS) & some)), 0)
    found = counted(opened(tmp_path, labelled=False), broken)
    assert found == Discordance(COUNT, int(np.sum(before != after)), None)


def test_the_output_with_class_scores(tmp_path: Path) -> None:
    model = opened(tmp_path, labelled=False)
    assert model.inputs.samples is not None
    assert answers_output(
        model.workspace.session(model.case.model), model.inputs.samples
    ) == AnswerOutput("y", True, classes=3)
    onnx.save(
        model_proto("(float[N,3] x) => (float[N,1] n) { n = ReduceMax<axes=[1]>(x) }"),
        tmp_path / "n.onnx",
    )
    number = open_model(tmp_path / "n.onnx", tmp_path / "s.npz", MeasureOptions(provider="cpu"))
    assert number.inputs.samples is not None
    assert (
        answers_output(number.workspace.session(number.case.model), number.inputs.samples) is None
    )
