"""Which kept blocks are fitted anew, and that it mends what the changed ones broke."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import gap, model_proto, normal, run
from opened import Opened, open_model
from planned import plan
from probed import answers, classifier, divergence_of_logits, opened, selected
from residual_networks import decaying

from onnx_relusv.commands.apply import write_fitted
from onnx_relusv.core.options import MeasureOptions, PlanOptions
from onnx_relusv.core.plans import Budgets, Plan
from onnx_relusv.core.reduction import FittedPlan
from onnx_relusv.fitting.plan import fit_plan
from onnx_relusv.graph.reference import reference
from onnx_relusv.measuring.case import block_moments
from onnx_relusv.planning.decisions import refittable, reserved_bytes, with_refits
from onnx_relusv.rewrites.apply import dense_maps, rewritten
from onnx_relusv.runtime.session import CPU, Session
from onnx_relusv.work.executors import Silent

EVERYTHING = PlanOptions(budgets=Budgets(size=0.9))


def actions(found: Plan) -> dict[str, str]:
    return {choice.key: choice.action for choice in found.choices}


def test_the_blocks_behind_a_change_are_fitted_anew(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    found = with_refits(plan(model, d=("channel", 2)), model.case, model.inputs, EVERYTHING)
    assert actions(found) == {"c": "keep", "d": "double_layer", "j": "refit", "y": "refit"}
    choice = {choice.key: choice for choice in found.choices}["j"]
    assert (choice.form, choice.rank, choice.level) == ("dense", 8, 0.0)
    assert choice.why == "fitted to what changed blocks deliver; not smaller: too little"
    # The last block has nothing behind it, and all have something before the first.
    last = with_refits(plan(model, y=("pair", 2)), model.case, model.inputs, EVERYTHING)
    assert actions(last) == {"c": "keep", "d": "keep", "j": "keep", "y": "double_layer"}
    first = with_refits(plan(model, c=("spatial", 2)), model.case, model.inputs, EVERYTHING)
    assert set(actions(first).values()) == {"double_layer", "refit"}
    assert with_refits(plan(model), model.case, model.inputs, EVERYTHING) == plan(model)


def test_a_block_beside_a_change_is_left_alone(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x) => (float[N,5] y) { a = Gemm(x, w) b = Relu(a) c = Gemm(x, v) d = Relu(c)"
        " e = Add(b, d) y = Gemm(e, u) }",
        {"w": normal(6, 8), "v": normal(6, 8, seed=1), "u": normal(8, 5)},
    )
    model = opened(proto, tmp_path, {"x": normal(30, 6)})
    found = with_refits(plan(model, b=("pair", 2)), model.case, model.inputs, EVERYTHING)
    assert actions(found) == {"b": "double_layer", "d": "keep", "y": "refit"}


def test_globs_keep_blocks_as_they_are(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    planning = replace(EVERYTHING, exclude=("j",))
    assert [block.key for block in refittable(model.case, model.inputs, planning)] == [
        "c",
        "d",
        "y",
    ]
    found = with_refits(plan(model, d=("channel", 2)), model.case, model.inputs, planning)
    assert actions(found) == {"c": "keep", "d": "double_layer", "j": "keep", "y": "refit"}
    assert (
        0
        < reserved_bytes(model.case, model.inputs, planning)
        < reserved_bytes(model.case, model.inputs, EVERYTHING)
    )


@pytest.mark.parametrize("samples", ["none", "one"])
def test_without_samples_to_judge_by_nothing_is_refitted(samples: str, tmp_path: Path) -> None:
    model = classifier(tmp_path, count=1) if samples == "one" else classifier(tmp_path)
    if samples == "none":
        model = open_model(tmp_path / "model.onnx", None, MeasureOptions(provider="cpu"))
    asked = plan(model, d=("channel", 2))
    assert with_refits(asked, model.case, model.inputs, EVERYTHING) == asked
    assert (
        refittable(model.case, model.inputs, EVERYTHING),
        reserved_bytes(model.case, model.inputs, EVERYTHING),
    ) == ((), 0)


# No block has a bias, and the last two keep their form.
UNBIASED = (
    "(float[N,16,6,6] x) => (float[N,5] y) { a = Conv<pads=[1,1,1,1]>(x, k) b = Relu(a)"
    " c = Conv<pads=[1,1,1,1]>(b, l) d = Relu(c) g = GlobalAveragePool(d) h = Flatten(g)"
    " i = Gemm(h, w) j = Relu(i) y = MatMul(j, u) }"
)


@pytest.fixture(scope="module")
def unbiased(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    proto = model_proto(
        UNBIASED,
        {
            "k": decaying(12, 16, 3, 3, seed=0, scale=0.3),
            "l": decaying(12, 12, 3, 3, seed=1, scale=0.4),
            "w": normal(12, 16, scale=0.5),
            "u": normal(16, 5, scale=0.5),
        },
    )
    folder = tmp_path_factory.mktemp("unbiased")
    images = normal(300, 16, 6, 6, seed=9) + normal(1, 16, 6, 6, seed=8)
    return opened(proto, folder, {"x": images})


def fitted(model: Opened, wanted: Plan) -> FittedPlan:
    with block_moments(*model, Silent()) as moments:
        return fit_plan(*model, wanted, moments, Silent())


def damage(model: Opened, found: FittedPlan) -> float:
    x = {"x": selected(model)}
    before = answers(model.case.model.path, x)["y"]
    return divergence_of_logits(before, answers(rewritten(*model, found), x)["y"])


def test_refits_mend_and_the_file_equals_the_reference(unbiased: Opened, tmp_path: Path) -> None:
    asked = plan(unbiased, b=("channel", 4))
    wanted = with_refits(asked, unbiased.case, unbiased.inputs, EVERYTHING)
    found = fitted(unbiased, wanted)
    assert set(found.factors) == {"b", "d", "j", "y"}
    # Of what random weights lose on random images, a sixth is mended here.
    assert damage(unbiased, found) < 0.9 * damage(unbiased, fitted(unbiased, asked))
    # Blocks without a bias get one, since what is lost has a mean.
    result = rewritten(*unbiased, found)
    for name in ("c", "i"):
        (made,) = (node for node in result.graph.node if name in node.output)
        assert len(made.input) == 3
    assert [node.op_type for node in result.graph.node][-2:] == ["MatMul", "Add"]
    x = {"x": selected(unbiased)}
    source = reference(unbiased.case.model, unbiased.case.blocks, dense_maps(unbiased.case, found))
    exact = Session(source, CPU).run(x)["y"]
    # Float32 through five layers.
    assert gap(run(result, x)["y"], exact) < 1e-5
    # And all checks that a file has to pass hold, that of the reference among them.
    output = tmp_path / "small.onnx"
    write_fitted(*unbiased, found, output, Silent(), lambda model, verdict, with_it: None)
    np.testing.assert_array_equal(run(output, x)["y"], run(result, x)["y"])


def test_what_is_reserved_is_enough(unbiased: Opened) -> None:
    found = fitted(
        unbiased,
        with_refits(plan(unbiased, b=("channel", 4)), unbiased.case, unbiased.inputs, EVERYTHING),
    )
    without = {key: factors for key, factors in found.factors.items() if key == "b"}
    sizes = [
        rewritten(*unbiased, replace(found, factors=factors)).ByteSize()
        for factors in (found.factors, without)
    ]
    assert 0 < sizes[0] - sizes[1] <= reserved_bytes(unbiased.case, unbiased.inputs, EVERYTHING)


def test_a_block_that_gets_what_it_got_stays_nearly_as_it_was(unbiased: Opened) -> None:
    """A dense regression on the original's own inputs has nothing to mend."""
    wanted = plan(unbiased, b=("channel", 12))
    found = fitted(unbiased, with_refits(wanted, unbiased.case, unbiased.inputs, EVERYTHING))
    original = {block.key: unbiased.case.folding(block) for block in unbiased.case.blocks}
    for key, dense in dense_maps(unbiased.case, found).items():
        # Full rank in the first block: what it delivers is right to rounding, and so is the start.
        assert gap(dense.weight, original[key].weight) < 1e-2
    assert damage(unbiased, found) < 1e-6
    onnx.checker.check_model(rewritten(*unbiased, found), full_check=True)
