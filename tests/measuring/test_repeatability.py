"""Models that answer one input differently in every run are refused before any work."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import model_proto, normal, run
from onnx import ModelProto, helper, parser
from opened import open_model

from onnx_relusv.commands.compress import compress, plan
from onnx_relusv.commands.inspect import inspect
from onnx_relusv.core.errors import InputError
from onnx_relusv.core.options import MeasureOptions, PlanOptions
from onnx_relusv.core.plans import Budgets
from onnx_relusv.graph.segments import random_node
from onnx_relusv.measuring.sample_warnings import check_rewritable

HEAD = "(float[N,6] x) => (float[N,6] y)"
ENDS = "h = MatMul(x, w) r = Relu(h)"
BOUNDS = {"w": normal(6, 6), "half": np.float32(0.5), "none": np.float32(0), "yes": np.array(True)}
RANDOM = {
    "noise": f"{ENDS} n = RandomNormalLike(r) y = Add(r, n)",
    "noise_of_a_seed": f"{ENDS} n = RandomUniformLike<seed=3.0>(r) y = Add(r, n)",
    "of_a_shape": f"{ENDS} n = RandomNormal<shape=[6]>() y = Add(r, n)",
    "a_draw": f"{ENDS} p = Sigmoid(r) n = Bernoulli(p) y = Mul(r, n)",
    "a_choice": f"{ENDS} n = Multinomial<sample_size=6>(r) c = Cast<to=1>(n) y = Add(c, r)",
    "training": f"{ENDS} y = Dropout(r, half, yes)",
    "training_by_default": f"{ENDS} y = Dropout(r, , yes)",
    "in_a_branch": (
        f"{ENDS} y = If(yes) <then_branch = t () => (float[N,6] a)"
        " { n = RandomNormalLike(r) a = Add(r, n) },"
        " else_branch = e () => (float[N,6] b) { b = Identity(r) }>"
    ),
    "training_in_a_branch": (
        f"{ENDS} y = If(yes) <then_branch = t () => (float[N,6] a)"
        " { on = Constant<value = bool {1}>() a = Dropout(r, half, on) },"
        " else_branch = e () => (float[N,6] b) { b = Identity(r) }>"
    ),
}
REPEATABLE = {
    "nothing": f"{ENDS} y = Neg(r)",
    "leads_nowhere": f"{ENDS} n = RandomNormalLike(r) m = Add(r, n) y = Neg(r)",
    "only_its_shape": (
        f"{ENDS} n = RandomNormalLike(r) s = Shape(n) m = ConstantOfShape(s) y = Add(r, m)"
    ),
    "inference": f"{ENDS} y = Dropout(r)",
    "drops_nothing": f"{ENDS} y = Dropout(r, none, yes)",
}


def proto_of(body: str) -> ModelProto:
    arrays = {name: np.asarray(values) for name, values in BOUNDS.items() if name in body}
    return model_proto(f"{HEAD} {{ {body} }}", arrays)


def written(body: str, folder: Path) -> Path:
    onnx.save(proto_of(body), folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize("name", RANDOM)
def test_nodes_that_draw(name: str, tmp_path: Path) -> None:
    assert random_node(proto_of(RANDOM[name])) is not None
    path = written(RANDOM[name], tmp_path)
    opened = open_model(path, None, MeasureOptions(provider="cpu"))
    with pytest.raises(InputError, match="draws random numbers") as caught:
        check_rewritable(opened.case, opened.workspace)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("name", REPEATABLE)
def test_nodes_that_do_not(name: str, tmp_path: Path) -> None:
    assert random_node(proto_of(REPEATABLE[name])) is None
    feeds = {"x": normal(3, 6)}
    first, again = (run(proto_of(REPEATABLE[name]), feeds)["y"] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    found = open_model(written(REPEATABLE[name], tmp_path), None, MeasureOptions())
    check_rewritable(found.case, found.workspace)


def test_functions_are_looked_into() -> None:
    text = (
        '<ir_version: 8, opset_import: ["" : 17, "mine" : 1]>'
        " g (float[N,6] x) => (float[N,6] y) { y = mine.outer(x) }"
        ' <domain: "mine", opset_import: ["" : 17, "mine" : 1]>'
        " outer (a) => (b) { b = mine.inner(a) }"
        ' <domain: "mine", opset_import: ["" : 17]>'
        " inner (a) => (b) { n = RandomNormalLike(a) b = Add(a, n) }"
    )
    proto = parser.parse_model(text)
    assert random_node(proto) == "outer y"
    proto.functions[1].node[1].CopyFrom(helper.make_node("Neg", ["a"], ["b"]))
    assert random_node(proto) is None


def test_operators_of_other_domains_draw_too() -> None:
    proto = model_proto(f"{HEAD} {{ n = mine.RandomWalk(x) y = Add(x, n) }}", domains={"mine": 1})
    assert random_node(proto) == "RandomWalk n"


def test_commands_say_it_before_they_work(tmp_path: Path) -> None:
    path = written(RANDOM["noise"], tmp_path)
    planning = PlanOptions(budgets=Budgets(size=0.7))
    with pytest.raises(InputError, match="RandomNormalLike n draws"):
        plan(path, planning=planning)
    with pytest.raises(InputError, match="RandomNormalLike n draws"):
        compress(path, tmp_path / "out.onnx", planning=planning)
    assert not (tmp_path / "out.onnx").exists()
    assert [row.block.key for row in inspect(path).rows] == ["r"]


def test_two_runs_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As if nodes told nothing: the runs do.
    monkeypatch.setattr("onnx_relusv.measuring.sample_warnings.random_node", lambda _: None)
    opened = open_model(written(RANDOM["noise"], tmp_path), None, MeasureOptions(provider="cpu"))
    with pytest.raises(InputError, match="two runs of the model on the same input"):
        check_rewritable(opened.case, opened.workspace)
