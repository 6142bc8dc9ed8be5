"""The fit against plain least squares on the samples themselves, on a small trained-like net."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_relusv.factors import as_stored
from onnx_relusv.fit import Change, Fitted, fit
from onnx_relusv.opened import Opened, block_moments, open_model
from onnx_relusv.options import MeasureOptions
from onnx_relusv.progress import Silent

FEATURES, HIDDEN, CLASSES, SAMPLES = 12, 10, 6, 400


def network(rng: np.random.Generator) -> onnx.ModelProto:
    """Three Gemms with Relus between; weights with a decaying spectrum, as trained ones have."""
    shapes = [(HIDDEN, FEATURES), (HIDDEN, HIDDEN), (CLASSES, HIDDEN)]
    nodes, arrays, source = [], [], "x"
    for index, (rows, columns) in enumerate(shapes):
        left, right = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (rows, columns))
        rank = min(rows, columns)
        weight = left[:, :rank] * 2.0 ** -np.arange(rank) @ right[:rank] * 3
        bias = rng.standard_normal(rows)
        for name, values in ((f"w{index}", weight), (f"b{index}", bias)):
            arrays.append(numpy_helper.from_array(values.astype(np.float32), name))
        output = "y" if index == 2 else f"h{index}"
        inputs = [source, f"w{index}", f"b{index}"]
        nodes.append(helper.make_node("Gemm", inputs, [output], transB=1))
        if index < 2:
            nodes.append(helper.make_node("Relu", [output], [f"a{index}"]))
            source = f"a{index}"
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])
        for name, width in (("x", FEATURES), ("y", CLASSES))
    ]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:], arrays)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    rng = np.random.default_rng(0)
    onnx.save(network(rng), tmp_path / "net.onnx")
    mixing = rng.standard_normal((FEATURES, FEATURES)) * 1.5 ** -np.arange(FEATURES)
    np.save(tmp_path / "x.npy", (rng.standard_normal((SAMPLES, FEATURES)) @ mixing + 0.3))
    return open_model(tmp_path / "net.onnx", tmp_path / "x.npy", MeasureOptions(provider="cpu"))


def changes(opened: Opened, rank: int) -> list[Change]:
    return [Change(block, "pair", rank) for block in opened.blocks[:2]]


def fitted(opened: Opened, wanted: list[Change]) -> dict[str, Fitted]:
    with block_moments(opened, Silent()) as moments:
        return fit(opened, wanted, moments, Silent())


def streams(opened: Opened, found: dict[str, Fitted]) -> tuple[np.ndarray, ...]:
    """The second block's input in the original and in the compressed net, and its target."""
    assert opened.samples is not None
    x = np.concatenate([batch.feeds["x"] for batch in opened.samples.batches(64)]).astype(float)
    first, second = opened.blocks[:2]
    linear = opened.folding(first)
    small = as_stored(first, found[first.key].factors)
    original = np.maximum(x @ linear.weight[0].T + linear.bias, 0)
    delivered = np.maximum(x @ small.weight[0].T + small.bias, 0)
    target = opened.folding(second)
    return original, delivered, original @ target.weight[0].T + target.bias


def test_a_fit_at_full_rank_mends_what_earlier_blocks_broke(opened: Opened) -> None:
    """With full rank in the second block, the fit is the regression on what the first delivers."""
    first, second = opened.blocks[:2]
    found = fitted(opened, [Change(first, "pair", 2), Change(second, "pair", HIDDEN)])
    original, delivered, target = streams(opened, found)

    def error(weight: np.ndarray, bias: np.ndarray) -> float:
        return float(np.mean((delivered @ weight.T + bias - target) ** 2))

    dense = as_stored(second, found[second.key].factors)
    own = opened.folding(second)
    design = np.hstack([delivered, np.ones((SAMPLES, 1))])
    best = np.linalg.lstsq(design, target, rcond=None)[0]
    least = float(np.mean((design @ best - target) ** 2))
    reached, unfitted = error(dense.weight[0], dense.bias), error(own.weight[0], own.bias)
    # Between the unregularised optimum and the block's own weight, and nearer to the optimum.
    assert least <= reached * (1 + 1e-6)
    assert reached - least < 0.5 * (unfitted - least)
    assert np.abs(original - delivered).max() > 0.1


def test_the_bias_makes_the_mean_right(opened: Opened) -> None:
    found = fitted(opened, changes(opened, 3))
    _, delivered, target = streams(opened, found)
    dense = as_stored(opened.blocks[1], found[opened.blocks[1].key].factors)
    answers = delivered @ dense.weight[0].T + dense.bias
    # float32 factors; means of 400 rows of size 10.
    np.testing.assert_allclose(answers.mean(axis=0), target.mean(axis=0), atol=1e-4)


def test_without_samples_factors_are_plain(opened: Opened, tmp_path: Path) -> None:
    blind = open_model(tmp_path / "net.onnx", None, MeasureOptions(provider="cpu"))
    found = fitted(blind, changes(blind, 3))
    for block in blind.blocks[:2]:
        plain = found[block.key]
        assert plain.moments is None
        u, sigma, vt = np.linalg.svd(blind.folding(block).weight[0])
        composed = plain.factors.second[0] @ plain.factors.first[0]
        # Both in float64.
        np.testing.assert_allclose(composed, u[:, :3] * sigma[:3] @ vt[:3], atol=1e-9)


def test_a_single_sample_leaves_nothing_to_choose_by(tmp_path: Path, opened: Opened) -> None:
    np.save(tmp_path / "one.npy", np.ones((1, FEATURES), np.float32))
    one = open_model(tmp_path / "net.onnx", tmp_path / "one.npy", MeasureOptions(provider="cpu"))
    found = fitted(one, changes(one, 3))
    assert all(np.isfinite(each.factors.first).all() for each in found.values())


def test_a_seed_makes_the_fit_repeatable(opened: Opened) -> None:
    one, two = (fitted(opened, changes(opened, 3)) for _ in range(2))
    for key, first in one.items():
        np.testing.assert_array_equal(first.factors.first, two[key].factors.first)
        np.testing.assert_array_equal(first.factors.bias, two[key].factors.bias)
