"""Several blocks tried at once, against models that are really changed and run whole."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from graphs import model_proto, normal, run
from opened import Opened
from probed import answers, classifier, divergence_of_logits, opened, selected
from residual_networks import residual_network

from onnx_relusv.core.blocks import LinearMap
from onnx_relusv.core.plans import Factors
from onnx_relusv.graph.reference import reference
from onnx_relusv.planning import probe
from onnx_relusv.planning.probe import ProbeSite, TryTogether, probe_together
from onnx_relusv.rewrites.low_rank.factors import as_stored
from onnx_relusv.rewrites.low_rank.forms import double_layer
from onnx_relusv.runtime.session import CPU, Session

# Outputs are equal to about 1e-6, and a divergence goes with the square of a difference of 0.1
# to 1 between them.
EQUAL = 1e-4
FORM_OF = {"conv": "channel", "gemm": "pair", "matmul": "pair"}


def openings(model: Opened, *keys: str) -> list[ProbeSite]:
    """One opening for every text of keys."""
    blocks = {block.key: block for block in model.case.blocks}
    return [ProbeSite(each, tuple(blocks[key] for key in each.split())) for each in keys]


def maps(model: Opened, keys: str, rank: int = 2) -> dict[str, LinearMap]:
    blocks = {block.key: block for block in model.case.blocks}
    found: dict[str, Factors] = {
        key: double_layer(
            FORM_OF[blocks[key].geometry.kind],
            blocks[key].geometry,
            model.case.folding(blocks[key]),
            None,
            rank,
        )
        for key in keys.split()
    }
    return {key: as_stored(blocks[key], factors) for key, factors in found.items()}


def probed(
    model: Opened,
    *keys: str,
    others: Mapping[str, LinearMap] | None = None,
    known: Mapping[str, float] | None = None,
    told: list[int] | None = None,
) -> dict[str, float]:
    assert model.inputs.split is not None
    assert model.inputs.split.select is not None

    def examine(opening: ProbeSite, divergence: TryTogether) -> float:
        assert [block.key for block in opening.blocks] == opening.key.split()
        return divergence(maps(model, opening.key))

    advance = (told if told is not None else []).append
    wanted = openings(model, *keys)
    return probe_together(
        model.case,
        model.workspace,
        model.inputs.split.select,
        wanted,
        others or {},
        examine,
        advance,
        known=known,
    )


def expected(model: Opened, dense: Mapping[str, LinearMap]) -> float:
    """The divergence of the whole network with maps replaced."""
    x = {"x": selected(model)}
    exact = answers(model.case.model.path, x)["y"]
    changed = Session(
        reference(model.case.model, model.case.blocks, dense), CPU, optimized=False
    ).run(x)
    return divergence_of_logits(exact, changed["y"])


@pytest.mark.parametrize("length", [None, 3])
def test_tries_of_several_blocks(
    length: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neighbours, blocks far apart, overlapping openings, and one block alone."""
    model = classifier(tmp_path)
    if length is not None:
        monkeypatch.setattr(probe, "batch_length", lambda blocks, memory: length)
    keys, told = ("d", "c d", "c y", "d j", "c d j y"), list[int]()
    found = probed(model, *keys, told=told)
    assert set(found) == set(keys)
    assert told == [1] * len(keys)
    for key in keys:
        assert found[key] == pytest.approx(expected(model, maps(model, key)), rel=EQUAL)
    # More changes do more here, so that none of them can have been left out.
    assert found["c d j y"] > found["c d"] > found["d"] > 1e-3


def test_others_stay_replaced(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    others = maps(model, "c j", rank=3)
    found = probed(model, "c d", "d y", others=others)
    for key in found:
        dense = {**others, **maps(model, key)}
        assert found[key] == pytest.approx(expected(model, dense), rel=EQUAL)


def test_blocks_of_both_branches(tmp_path: Path) -> None:
    """The second block's source is ready before the cut, behind which both of them run."""
    model = residual_network(tmp_path, "shortcut last")
    found = probed(model, "m s", "s h", "b d s")
    for key in found:
        assert found[key] == pytest.approx(expected(model, maps(model, key)), rel=EQUAL)


def test_what_is_known_is_not_tried_again(tmp_path: Path) -> None:
    model, told = classifier(tmp_path), list[int]()
    known = {"c d": 0.25, "d j": 0.5}
    assert probed(model, "c d", "d j", known=known, told=told) == known
    assert told == []
    found = probed(model, "c d", "d j", "j y", known=known, told=told)
    assert told == [1]
    assert {key: found[key] for key in known} == known
    assert found["j y"] == pytest.approx(expected(model, maps(model, "j y")), rel=EQUAL)


def test_own_maps_change_nothing(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    assert model.inputs.split is not None
    assert model.inputs.split.select is not None

    def examine(opening: ProbeSite, divergence: TryTogether) -> list[float]:
        own = {block.key: model.case.folding(block) for block in opening.blocks}
        other = maps(model, opening.key)
        return [divergence(dense) for dense in (other, own, other)]

    found = probe_together(
        model.case,
        model.workspace,
        model.inputs.split.select,
        openings(model, "c j", "d y"),
        {},
        examine,
        lambda steps: None,
    )
    for first, own, again in found.values():
        assert abs(own) < 1e-9  # the square of float32 rounding
        assert first == again > 1e-3


def test_an_output_in_between_counts_too(tmp_path: Path) -> None:
    """One of the blocks leads to one output, the other to the other."""
    text = (
        "(float[N,2,6] x) => (float[N,2,7] y, float[N,2,4] z) { a = MatMul(x, w) b = Relu(a)"
        " y = MatMul(b, v) z = MatMul(b, u) }"
    )
    arrays = {"w": normal(6, 8), "v": normal(8, 7), "u": normal(8, 4)}
    model = opened(model_proto(text, arrays), tmp_path, {"x": normal(30, 2, 6)})
    found = probed(model, "y z")
    x = {"x": selected(model)}
    before = run(model.case.model.path, x)
    after = Session(reference(model.case.model, model.case.blocks, maps(model, "y z")), CPU).run(x)
    shares = [
        np.sum((after[name].astype(float) - before[name]) ** 2) / np.sum(before[name] ** 2.0)
        for name in ("y", "z")
    ]
    assert found["y z"] == pytest.approx(float(np.mean(shares)), rel=EQUAL)
