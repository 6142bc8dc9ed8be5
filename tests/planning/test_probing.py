"""Probing against models that are really rewritten, run whole by onnxruntime."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from graphs import model_proto, normal, run
from opened import Opened
from probed import answers, classifier, divergence_of_logits, opened, rewritten, selected

from onnx_relusv.core.blocks import Block, LinearMap
from onnx_relusv.core.plans import Factors
from onnx_relusv.planning import probe as probe_module
from onnx_relusv.planning.probe import Try, probe
from onnx_relusv.rewrites.low_rank.factors import as_stored
from onnx_relusv.rewrites.low_rank.forms import available_forms, double_layer

# Outputs are equal to about 1e-6, and a divergence goes with the square of a difference of 0.1
# to 1 between them.
EQUAL = 1e-4


def factors_of(model: Opened, block: Block, form: str, rank: int) -> Factors:
    return double_layer(form, block.geometry, model.case.folding(block), None, rank)  # type: ignore[arg-type]


def probed(
    model: Opened,
    examine: Callable[[Block, Try], object],
    others: dict[str, LinearMap] | None = None,
    advance: Callable[[int], None] = lambda steps: None,
    blocks: list[Block] | None = None,
) -> dict[str, object]:
    assert model.inputs.split is not None
    assert model.inputs.split.select is not None
    chosen = list(model.case.blocks) if blocks is None else blocks
    return probe(
        model.case,
        model.workspace,
        model.inputs.split.select,
        chosen,
        others or {},
        examine,
        advance,
    )


def tried(model: Opened, others: dict[str, LinearMap] | None = None) -> dict[str, dict[str, float]]:
    """The divergence of every form at rank 2, by block key."""

    def examine(block: Block, divergence: Try) -> dict[str, float]:
        return {
            form: divergence(as_stored(block, factors_of(model, block, form, 2)))
            for form in available_forms(block.geometry)
        }

    return probed(model, examine, others)  # type: ignore[return-value]


@pytest.mark.parametrize("batch", [None, 3])
def test_a_try_is_what_a_rewritten_model_does(batch: int | None, tmp_path: Path) -> None:
    """Eight held-out samples, in batches of three the last of which is padded, or in one."""
    model = classifier(tmp_path, batch=batch)
    feeds = {"x": selected(model)}
    assert len(feeds["x"]) == 8
    exact = answers(model.case.model.path, feeds, batch)["y"]
    found = tried(model)
    assert list(found) == [block.key for block in model.case.blocks] == ["c", "d", "j", "y"]
    for block in model.case.blocks:
        assert found[block.key].keys() == set(available_forms(block.geometry))
        for form, value in found[block.key].items():
            smaller = rewritten(model, {block.key: factors_of(model, block, form, 2)})
            expected = divergence_of_logits(exact, answers(smaller, feeds, batch)["y"])
            assert value == pytest.approx(expected, rel=EQUAL)
            assert value > 1e-3


def test_other_blocks_are_replaced_all_the_while(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    blocks = {block.key: block for block in model.case.blocks}
    kept = {key: factors_of(model, blocks[key], "pair", 3) for key in ("j", "y")}
    kept["c"] = factors_of(model, blocks["c"], "channel", 4)
    found = tried(model, {key: as_stored(blocks[key], each) for key, each in kept.items()})
    feeds = {"x": selected(model)}
    exact = answers(model.case.model.path, feeds)["y"]
    for key, block in blocks.items():
        for form, value in found[key].items():
            smaller = rewritten(model, {**kept, key: factors_of(model, block, form, 2)})
            expected = divergence_of_logits(exact, answers(smaller, feeds)["y"])
            assert value == pytest.approx(expected, rel=EQUAL)


def test_its_own_map_changes_nothing(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    found = probed(model, lambda block, divergence: divergence(model.case.folding(block)))
    # The square of float32 rounding.
    assert all(abs(value) < 1e-9 for value in found.values())  # type: ignore[arg-type]


def test_every_try_is_by_itself_and_told_of(tmp_path: Path) -> None:
    model, told = classifier(tmp_path), []

    def examine(block: Block, divergence: Try) -> list[float]:
        own, other = model.case.folding(block), as_stored(block, some(block))
        return [divergence(dense) for dense in (other, own, other)]

    def some(block: Block) -> Factors:
        return factors_of(model, block, available_forms(block.geometry)[0], 1)

    found = probed(model, examine, advance=told.append)
    assert sum(told) == 3 * len(model.case.blocks)
    for first, own, again in found.values():  # type: ignore[misc]
        assert first == again > own


def test_only_the_blocks_that_are_asked_for(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    seen: list[str] = []
    found = probed(model, lambda block, _: seen.append(block.key), blocks=[model.case.blocks[2]])
    assert seen == list(found) == ["j"]
    assert probed(model, lambda block, _: None, blocks=[]) == {}


def test_many_batches_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = classifier(tmp_path)
    one = tried(model)
    monkeypatch.setattr(probe_module, "batch_length", lambda blocks, memory: 3)
    for key, values in tried(model).items():
        for form, value in values.items():
            assert value == pytest.approx(one[key][form], rel=EQUAL)


TWO_OUTPUTS = (
    "(float[N,6] x) => (early, late) {"
    " h = Gemm(x, w) early = Relu(h) i = Gemm(early, v) r = Relu(i) s = Neg(r)"
    " o = Gemm(r, u) late = Reshape(o, shape) }"
)
ARRAYS = {
    "w": normal(6, 8),
    "v": normal(8, 7),
    "u": normal(7, 6),
    "shape": np.array([-1, 3, 2]),
}


def relative(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> float:
    shares = [
        np.sum((after[name].astype(float) - before[name]) ** 2) / np.sum(before[name] ** 2.0)
        for name in ("early", "late")
    ]
    return float(np.mean(shares))


@pytest.mark.parametrize("replaced", [False, True])
def test_an_output_that_is_made_before_a_block_counts_too(replaced: bool, tmp_path: Path) -> None:
    """`early` is class scores by its shape, so both are made sequences of one."""
    text = TWO_OUTPUTS.replace("early = Relu(h) i = Gemm(early, v)", "e = Relu(h) i = Gemm(e, v)")
    text = text.replace("s = Neg(r)", "early = Reshape(e, shape4)")
    proto = model_proto(text, ARRAYS | {"shape4": np.array([-1, 4, 2])})
    model = opened(proto, tmp_path, {"x": normal(30, 6)})
    blocks = {block.key: block for block in model.case.blocks}
    kept = {"e": factors_of(model, blocks["e"], "pair", 5)} if replaced else {}
    found = tried(model, {key: as_stored(blocks[key], each) for key, each in kept.items()})
    feeds = {"x": selected(model)}
    exact = run(model.case.model.path, feeds)
    for key, block in blocks.items():
        smaller = rewritten(model, {**kept, key: factors_of(model, block, "pair", 2)})
        expected = relative(exact, run(smaller, feeds))
        assert found[key]["pair"] == pytest.approx(expected, rel=EQUAL)


def test_scores_that_are_an_inner_tensor_too(tmp_path: Path) -> None:
    """The first output is read by later blocks, and no longer when these are tried."""
    model = opened(model_proto(TWO_OUTPUTS, ARRAYS), tmp_path, {"x": normal(30, 6)})
    feeds = {"x": selected(model)}
    exact = run(model.case.model.path, feeds)["early"]
    found = tried(model)
    smaller = rewritten(model, {"early": factors_of(model, model.case.blocks[0], "pair", 2)})
    expected = divergence_of_logits(exact, run(smaller, feeds)["early"])
    assert found["early"]["pair"] == pytest.approx(expected, rel=EQUAL)
    # What comes behind the scores does not change them.
    assert {key: each["pair"] for key, each in found.items() if key != "early"} == {
        "r": 0.0,
        "o": 0.0,
    }


def test_a_block_that_leads_to_no_output(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x) => (float[N,7] y) { a = Gemm(x, w) b = Relu(a) y = Gemm(b, v)"
        " d = Gemm(b, u) e = Relu(d) }",
        {"w": normal(6, 8), "v": normal(8, 7), "u": normal(8, 7, seed=1)},
    )
    model = opened(proto, tmp_path, {"x": normal(30, 6)})
    assert [block.key for block in model.case.blocks] == ["b", "y", "e"]
    found = tried(model)
    assert found["e"]["pair"] == 0
    assert found["b"]["pair"] > 1e-3


def test_a_block_behind_all_outputs(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x) => (float[N,7] y) { a = Gemm(x, w) y = Gemm(a, v) d = Gemm(y, u) }",
        {"w": normal(6, 8), "v": normal(8, 7), "u": normal(7, 9)},
    )
    model = opened(proto, tmp_path, {"x": normal(30, 6)})
    assert tried(model)["d"]["pair"] == 0
