"""The fit against plain least squares on the samples themselves, on a small trained-like net."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from opened import Opened, divided, open_model

from onnx_relusv.core.blocks import Floats, LinearMap
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.core.reduction import Change, Fitted
from onnx_relusv.fitting.fit import fit
from onnx_relusv.fitting.plan import check_stated_level
from onnx_relusv.measuring.case import block_moments
from onnx_relusv.rewrites.low_rank.factors import as_stored
from onnx_relusv.rewrites.low_rank.forms import double_layer
from onnx_relusv.samples.samples import Samples
from onnx_relusv.work.executors import Silent

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
    return with_samples(tmp_path, "x.npy")


def with_samples(folder: Path, name: str) -> Opened:
    return divided(open_model(folder / "net.onnx", folder / name, MeasureOptions(provider="cpu")))


def changes(opened: Opened, rank: int) -> list[Change]:
    return [Change(block, "pair", rank) for block in opened.case.blocks[:2]]


def fitted(opened: Opened, wanted: list[Change]) -> dict[str, Fitted]:
    with block_moments(*opened, Silent()) as moments:
        found: dict[str, Fitted] = {}

        def keep(change: Change, each: Fitted) -> None:
            found[change.block.key] = each

        fit(*opened, wanted, moments, Silent(), keep)
        return found


def rows(opened: Opened, samples: Samples | None) -> Floats:
    """All of the samples, (n, FEATURES) float64."""
    assert samples is not None
    return np.concatenate([batch.feeds["x"] for batch in samples.batches(64)]).astype(float)


def answered(linear: LinearMap, x: Floats) -> Floats:
    return np.asarray(x @ linear.weight[0].T + linear.bias)


def second_block_s(opened: Opened, first: Fitted, x: Floats) -> tuple[Floats, Floats]:
    """What the first block delivers to the second, and what the second is to answer."""
    block, second = opened.case.blocks[:2]
    original = np.maximum(answered(opened.case.folding(block), x), 0)
    delivered = np.maximum(answered(as_stored(block, first.factors), x), 0)
    return delivered, answered(opened.case.folding(second), original)


def felt(opened: Opened, dense: LinearMap, delivered: Floats, target: Floats) -> float:
    """The mean of e'Se behind the second block's Relu, S what the last Gemm makes of errors."""
    error = np.maximum(answered(dense, delivered), 0) - np.maximum(target, 0)
    weight = opened.case.folding(opened.case.blocks[2]).weight[0]
    gram = weight.T @ weight
    level = np.trace(gram) / len(gram)
    S = (gram / level + 0.3 * np.eye(len(gram))) / 1.3
    return float(np.einsum("nr,rs,ns->", error, S, error)) / len(error)


@pytest.mark.parametrize(("before", "rank"), [(3, 2), (5, 3), (7, 8)])
def test_a_fit_mends_what_earlier_blocks_broke(before: int, rank: int, opened: Opened) -> None:
    assert opened.inputs.split is not None
    first, second = opened.case.blocks[:2]
    found = fitted(opened, [Change(first, "pair", before), Change(second, "pair", rank)])
    with block_moments(*opened, Silent()) as moments:
        linear, seen = opened.case.folding(second), moments[second.key]
        plain = double_layer("pair", second.geometry, linear, seen, rank)
    for samples in (opened.inputs.split.fit, opened.inputs.split.select):
        delivered, target = second_block_s(opened, found[first.key], rows(opened, samples))
        errors = [
            felt(opened, as_stored(second, factors), delivered, target)
            for factors in (found[second.key].factors, plain)
        ]
        assert errors[0] < 0.8 * errors[1]


def test_it_is_never_worse_than_plain_factors_where_it_was_chosen(opened: Opened) -> None:
    assert opened.inputs.split is not None
    first, second = opened.case.blocks[:2]
    for rank in (1, 2, 3, 5, 7, 9):
        found = fitted(opened, [Change(first, "pair", 3), Change(second, "pair", rank)])
        with block_moments(*opened, Silent()) as moments:
            linear, seen = opened.case.folding(second), moments[second.key]
            plain = double_layer("pair", second.geometry, linear, seen, rank)
        x = rows(opened, opened.inputs.split.select)
        delivered, target = second_block_s(opened, found[first.key], x)
        reached, before = (
            felt(opened, as_stored(second, factors), delivered, target)
            for factors in (found[second.key].factors, plain)
        )
        # To the rounding of factors to float32.
        assert reached <= before * (1 + 1e-5)


def test_what_was_refined_says_so(opened: Opened) -> None:
    found = fitted(opened, changes(opened, 3))
    for change in changes(opened, 3):
        each = found[change.block.key]
        assert each.moments is not None
        best = double_layer("pair", change.block.geometry, each.target, each.moments, 3)
        composed, expected = (f.matrices[1][0] @ f.matrices[0][0] for f in (each.factors, best))
        if each.root is None:
            assert np.allclose(composed, expected, atol=1e-9) == (not each.refined)
        # The validation compares with the best where nothing was moved on purpose.
        check_stated_level(change, each, as_stored(change.block, each.factors))


def test_without_samples_factors_are_plain(opened: Opened, tmp_path: Path) -> None:
    blind = open_model(tmp_path / "net.onnx", None, MeasureOptions(provider="cpu"))
    found = fitted(blind, changes(blind, 3))
    for block in blind.case.blocks[:2]:
        plain = found[block.key]
        assert plain.moments is None
        u, sigma, vt = np.linalg.svd(blind.case.folding(block).weight[0])
        composed = plain.factors.matrices[-1][0] @ plain.factors.matrices[0][0]
        # Both in float64.
        np.testing.assert_allclose(composed, u[:, :3] * sigma[:3] @ vt[:3], atol=1e-9)


def test_a_single_sample_leaves_nothing_to_choose_by(tmp_path: Path, opened: Opened) -> None:
    np.save(tmp_path / "one.npy", np.ones((1, FEATURES), np.float32))
    one = with_samples(tmp_path, "one.npy")
    assert one.inputs.split is not None
    assert one.inputs.split.select is None
    found = fitted(one, changes(one, 3))
    with block_moments(*one, Silent()) as moments:
        for block in one.case.blocks[:2]:
            plain = double_layer(
                "pair", block.geometry, one.case.folding(block), moments[block.key], 3
            )
            # Products of float64 in another order.
            np.testing.assert_allclose(
                found[block.key].factors.matrices[0], plain.matrices[0], atol=1e-9
            )
            assert not found[block.key].refined


def test_two_samples_are_enough_to_run(tmp_path: Path, opened: Opened) -> None:
    np.save(tmp_path / "two.npy", rows(opened, opened.inputs.samples)[:2])
    two = with_samples(tmp_path, "two.npy")
    found = fitted(two, changes(two, 3))
    assert all(np.isfinite(each.factors.matrices[0]).all() for each in found.values())


def test_a_seed_makes_the_fit_repeatable(opened: Opened) -> None:
    one, two = (fitted(opened, changes(opened, 3)) for _ in range(2))
    for key, first in one.items():
        np.testing.assert_array_equal(first.factors.matrices[0], two[key].factors.matrices[0])
        np.testing.assert_array_equal(first.factors.bias, two[key].factors.bias)
