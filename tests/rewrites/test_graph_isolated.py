"""Blocks by themselves compute what they compute in their model."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import factors_of, gap, model_proto, normal, normalization, positive, search

from onnx_relusv.rewrites.low_rank.forms import FORMS, available_forms
from onnx_relusv.rewrites.low_rank.surgery import isolated
from onnx_relusv.runtime.session import CPU, Session

# Every kind of block: normalised, clipped, with slopes, grouped, linear, with an added bias.
NETWORK = (
    "(float[N,4,8,8] x) => (float[N,10] y, float[N,16,4,4] e) {"
    " a = Conv<pads=[1,1,1,1]>(x, k) n = BatchNormalization(a, gamma, beta, mean, variance)"
    " c = Relu(n) d = Conv<pads=[1,1,1,1], strides=[2,2], group=2>(c, l, b) e = PRelu(d, s)"
    " f = GlobalAveragePool(e) g = Flatten(f) h = Gemm<alpha=0.5, transB=1>(g, w, v)"
    " i = LeakyRelu(h) m = MatMul(i, u) p = Add(m, z) o = Relu(p) y = MatMul(o, t) }"
)
ARRAYS = normalization(16) | {
    "k": normal(16, 4, 3, 3),
    "l": normal(16, 8, 3, 3, scale=0.3),
    "b": normal(16),
    "s": positive(16, 1, 1),
    "w": normal(20, 16),
    "v": normal(20),
    "u": normal(20, 12, scale=0.3),
    "z": normal(12),
    "t": normal(12, 10),
}
IMAGES = {"x": normal(3, 4, 8, 8)}


@pytest.mark.parametrize("large", [False, True])
def test_dense_and_at_full_rank(large: bool, tmp_path: Path) -> None:
    proto = model_proto(NETWORK, ARRAYS)
    if large:
        # Weights beside the model are read from where they lie.
        onnx.save(proto, tmp_path / "outside.onnx", save_as_external_data=True, size_threshold=0)
        proto = onnx.load(tmp_path / "outside.onnx", load_external_data=False)
    found = search(proto, tmp_path, IMAGES)
    assert [block.key for block in found.blocks] == ["c", "e", "i", "o", "y"]
    for block in found.blocks:
        source, wanted = found.values[block.source], found.values[block.key]
        alone = isolated(found.model, block, source)
        assert {node.op_type for node in alone.model.proto.graph.node} <= {
            *(found.model.proto.graph.node[index].op_type for index in block.nodes),
            *("Relu", "PRelu", "LeakyRelu"),
        }
        session = Session(alone.dense(), CPU)
        assert (session.input_names, session.output_names) == ([block.source], [block.key])
        # Rounding of float32, over some hundred products.
        assert gap(session.run({block.source: source})[block.key], wanted) < 1e-5
        for form in available_forms(block.geometry):
            rank = FORMS[form].largest_rank(block.geometry)
            layer = alone.double_layer(factors_of(found, block, form, rank))
            inner = Session(layer, CPU).run({block.source: source})[block.key]
            assert gap(inner, wanted) < 1e-4
            low = alone.double_layer(factors_of(found, block, form, 1))
            assert gap(Session(low, CPU).run({block.source: source})[block.key], wanted) > 1e-2


def test_any_batch_runs(tmp_path: Path) -> None:
    found = search(model_proto(NETWORK, ARRAYS), tmp_path, IMAGES)
    block = found.blocks[0]
    session = Session(isolated(found.model, block, found.values["x"]).dense(), CPU)
    assert session.run({"x": normal(7, 4, 8, 8)})["c"].shape == (7, 16, 8, 8)
    assert np.array_equal(
        session.run({"x": found.values["x"]})["c"][0] > 0, found.values["c"][0] > 0
    )
