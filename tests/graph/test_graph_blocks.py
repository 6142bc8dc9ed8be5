"""What is found: the blocks of every pattern, where they begin and end, and what they say."""

from pathlib import Path

import numpy as np
import pytest
from graphs import (
    full_rank,
    gap,
    model_proto,
    newest_opset,
    node,
    normal,
    normalization,
    run,
    search,
    search_shapes,
)
from onnx import ModelProto, helper, numpy_helper
from patterns import PATTERNS, REPRESENTATIVES

from onnx_relusv.core.blocks import Activation, Block, Floats, Geometry
from onnx_relusv.graph.blocks import measured_tensors

GEMM_RELU = "(float[N,6] x) => (float[N,5] y) { h = Gemm(x, w, b) y = Relu(h) }"
GEMM_ARRAYS = {"w": normal(6, 5), "b": normal(5)}
VECTORS = {"x": normal(3, 6)}


def applied(activation: Activation, values: np.ndarray, channel_axis: int) -> Floats:
    """The activation in numpy."""
    exact = values.astype(np.float64)
    shape = [1] * exact.ndim
    shape[channel_axis] = -1
    result = np.where(exact > 0, exact, exact * activation.slopes.reshape(shape))
    return result if activation.ceiling is None else np.minimum(result, activation.ceiling)


@pytest.mark.parametrize("name", PATTERNS)
def test_every_pattern_is_one_block_and_nothing_is_refused(name: str, tmp_path: Path) -> None:
    pattern = PATTERNS[name]
    searched = search(pattern.proto(), tmp_path, pattern.feeds())
    block = searched.block
    assert not searched.refusals
    assert (block.source, block.weight) == ("x", "w")
    assert (block.geometry.kind, block.activation.kind) == (pattern.kind, pattern.activation)
    if pattern.activation == "none":
        assert (block.key, block.consumers) == (block.pre_activation, ("Sigmoid",))
    else:
        assert (block.key, block.consumers) == ("y", ("graph output",))
        # Everything in front of the activation belongs to the block.
        proto = searched.model.proto
        assert list(block.nodes) == list(range(len(proto.graph.node) - 1))
        assert proto.graph.node[-1].input[0] == block.pre_activation
    values = run(searched.model.path, pattern.feeds(), [block.pre_activation, block.key])
    assert block.source_shape == pattern.shape
    assert block.output_shape == values[block.key].shape
    # The activation as read is the one that runs.
    axis = 1 if pattern.kind == "conv" else -1
    before, after = values[block.pre_activation], values[block.key]
    assert np.any(before < 0)
    assert np.any(before > 1.5)  # the bound of the patterns with a Clip
    # One multiplication in float32.
    np.testing.assert_allclose(applied(block.activation, before, axis), after, rtol=1e-6)


def test_a_geometry_has_what_the_node_says(tmp_path: Path) -> None:
    pattern = PATTERNS["conv_dilated"]
    assert search(pattern.proto(), tmp_path, pattern.feeds()).block.geometry == Geometry(
        kind="conv",
        in_channels=4,
        out_channels=6,
        kernel=(3, 3),
        strides=(1, 1),
        dilations=(2, 3),
        pads=(2, 3, 1, 2),
    )
    pattern = PATTERNS["gemm_transposed"]
    assert search(pattern.proto(), tmp_path, pattern.feeds()).block.geometry == Geometry(
        kind="gemm", in_channels=6, out_channels=5
    )
    grouped = PATTERNS["conv_grouped"]
    geometry = search(grouped.proto(), tmp_path, grouped.feeds()).block.geometry
    assert (geometry.groups, geometry.in_channels, geometry.rows, geometry.columns) == (2, 4, 3, 18)


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17, 22, "newest"])
def test_operator_sets(opset: int | str, tmp_path: Path) -> None:
    version = newest_opset() if opset == "newest" else int(opset)
    proto = model_proto(
        "(float[N,3,8,8] x) => (float[N,5] y) {"
        " a = Conv<pads=[1,1,1,1]>(x, k) b = BatchNormalization(a, gamma, beta, mean, variance)"
        " c = Relu(b) d = GlobalAveragePool(c) e = Flatten(d) f = MatMul(e, m) g = Add(f, n)"
        " i = LeakyRelu(g) y = Gemm(i, w, v) }",
        {
            **normalization(4),
            "k": normal(4, 3, 3, 3),
            "m": normal(4, 6),
            "n": normal(6),
            "w": normal(6, 5),
            "v": normal(5),
        },
        opset=version,
    )
    searched = search(proto, tmp_path, {"x": normal(1, 3, 8, 8)})
    assert [block.key for block in searched.blocks] == ["c", "i", "y"]
    assert [block.nodes for block in searched.blocks] == [(0, 1), (5, 6), (8,)]
    assert searched.model.opset == version


def as_constants(proto: ModelProto) -> ModelProto:
    """Initializers turned into Constant nodes."""
    nodes = [
        helper.make_node("Constant", [], [tensor.name], value=tensor)
        for tensor in proto.graph.initializer
    ]
    nodes += proto.graph.node
    del proto.graph.initializer[:], proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return proto


def behind_identities(proto: ModelProto) -> ModelProto:
    """Initializers read through two Identity nodes each."""
    for tensor in proto.graph.initializer:
        name, tensor.name = tensor.name, f"{tensor.name}_0"
        for index, ends in enumerate(([f"{name}_0", f"{name}_1"], [f"{name}_1", name])):
            node = helper.make_node("Identity", ends[:1], ends[1:])
            proto.graph.node.insert(index, node)
    return proto


@pytest.mark.parametrize("name", ["gemm", "conv_everything", "conv_clip", "gemm_prelu"])
def test_constants_may_be_nodes(name: str, tmp_path: Path) -> None:
    for move in (as_constants, behind_identities):
        pattern = PATTERNS[name]
        plain = search(pattern.proto(), tmp_path, pattern.feeds())
        moved = search(move(pattern.proto()), tmp_path, pattern.feeds())
        assert moved.block.geometry == plain.block.geometry
        assert moved.block.activation.ceiling == plain.block.activation.ceiling
        np.testing.assert_array_equal(moved.block.activation.slopes, plain.block.activation.slopes)
        np.testing.assert_array_equal(moved.linear().weight, plain.linear().weight)
        np.testing.assert_array_equal(moved.linear().bias, plain.linear().bias)
        assert [moved.model.proto.graph.node[index].op_type for index in moved.block.nodes] == [
            plain.model.proto.graph.node[index].op_type for index in plain.block.nodes
        ]


def test_a_constant_given_as_floats(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x) => (float[N,5] y) { c = Constant<value_floats=[1.0,2.0,3.0,4.0,5.0]>()"
        " low = Constant<value_float=0.0>() high = Constant<value_float=6.0>()"
        " h = Gemm(x, w, c) y = Clip(h, low, high) }",
        {"w": normal(6, 5)},
    )
    searched = search(proto, tmp_path, VECTORS)
    np.testing.assert_array_equal(searched.linear().bias, [1, 2, 3, 4, 5])
    assert searched.block.activation.ceiling == 6


def test_old_files_list_initializers_as_inputs(tmp_path: Path) -> None:
    proto = model_proto(GEMM_RELU, GEMM_ARRAYS, opset=7, ir_version=3)
    assert {value.name for value in proto.graph.input} == {"x", "w", "b"}
    searched = search(proto, tmp_path, VECTORS)
    assert searched.block.key == "y"
    assert [spec.name for spec in searched.model.inputs] == ["x"]


def test_a_chain_ends_where_a_tensor_has_two_users(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x) => (float[N,5] y) {"
        " h = Gemm(x, w) g = Add(h, c) s = Sigmoid(h) y = Mul(g, s) }",
        {"w": normal(6, 5), "c": normal(5)},
    )
    block = search(proto, tmp_path, VECTORS).block
    assert (block.key, block.nodes, block.activation.kind) == ("h", (0,), "none")
    assert block.consumers == ("Add", "Sigmoid")


def test_a_tensor_added_to_itself_is_no_bias(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x) => (float[N,5] y) { h = Gemm(x, w) g = Add(h, h) y = Relu(g) }",
        {"w": normal(6, 5)},
    )
    assert search(proto, tmp_path, VECTORS).block.key == "h"


def test_a_chain_ends_at_an_output_of_the_graph(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x) => (float[N,5] h, float[N,5] y) { h = Gemm(x, w) y = Add(h, c) }",
        {"w": normal(6, 5), "c": normal(5)},
    )
    block = search(proto, tmp_path, VECTORS).block
    assert (block.key, block.nodes) == ("h", (0,))
    assert block.consumers == ("Add", "graph output")


def test_an_identity_at_the_end_leads_to_the_graphs_output(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x) => (float[N,5] y) { h = Gemm(x, w) y = Identity(h) }", {"w": normal(6, 5)}
    )
    block = search(proto, tmp_path, VECTORS).block
    assert (block.key, block.pre_activation, block.nodes) == ("y", "y", (0, 1))


@pytest.mark.parametrize(
    ("text", "arrays"),
    [
        ("y = Clip(h, low, high)", {"low": np.float32(-1), "high": np.float32(1)}),
        ("y = Clip(h, low, high)", {"low": np.float32(0), "high": np.float32(0)}),
        ("y = Clip(h, , high)", {"high": np.float32(1)}),
        ("y = PRelu(h, s)", {"s": normal(3, 1)}),
        ("y = PRelu(s, h)", {"s": normal(3, 5)}),
        ("y = Tanh(h)", {}),
        ("y = Add(h, s)", {"s": normal(3, 5)}),
        ("y = Add(h, s)", {"s": normal(3, 1)}),
        ("y = Add(h, s)", {"s": normal(2, 3, 5)}),
        ("y = Add(h, s)", {"s": normal(1, 1, 1)}),
        ("y = Add(h, s)", {"s": normal(1, 1, 5)}),
    ],
)
def test_what_is_no_activation_leaves_a_linear_block(
    text: str, arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    arrays = {name: np.asarray(values) for name, values in arrays.items()}
    proto = model_proto(
        f"(float[3,6] x) => (y) {{ h = Gemm(x, w) {text} }}", {"w": normal(6, 5), **arrays}
    )
    block = search(proto, tmp_path, VECTORS).block
    assert (block.key, block.nodes, block.activation.kind) == ("h", (0,), "none")


@pytest.mark.parametrize(
    ("text", "outputs", "key"),
    [
        ("h = MatMul(x, w) r = Relu(h) y = Add(h, r)", "y", "h"),
        ("h = MatMul(x, w) r = Relu(h) s = LeakyRelu(h) y = Add(r, s)", "y", "h"),
        ("h = MatMul(x, w) g = Add(h, b) r = Relu(g) y = Mul(g, r)", "y", "g"),
        ("h = MatMul(x, w) y = Relu(h)", "y, h", "h"),
        # A slope that comes twice, as some exporters write a PRelu.
        (
            "h = MatMul(x, w) a = Relu(h) n = Neg(h) r = Relu(n) m = Mul(r, b) y = Add(a, m)",
            "y",
            "h",
        ),
        ("h = MatMul(x, w) y = PRelu(h, h)", "y", "h"),
    ],
)
def test_an_activation_belongs_to_a_block_that_it_alone_reads(
    text: str, outputs: str, key: str, tmp_path: Path
) -> None:
    proto = model_proto(
        f"(float[N,6] x) => ({outputs}) {{ {text} }}", {"w": normal(6, 5), "b": normal(5)}
    )
    searched = search(proto, tmp_path, VECTORS)
    block = searched.block
    assert (block.key, block.pre_activation, block.activation.kind) == (key, key, "none")
    whole, again = run(proto, VECTORS), run(full_rank(searched), VECTORS)
    for name, value in whole.items():
        assert gap(again[name], value) < 1e-6  # float32 sums in another order


@pytest.mark.parametrize(("name", "key"), [("", "last"), ("rnn", "last")])
def test_an_output_that_is_left_out_names_nothing(name: str, key: str, tmp_path: Path) -> None:
    proto = model_proto(
        "(float[T,N,6] x) => (last) { last = Neg(x) }", {"w": normal(1, 8, 6), "r": normal(1, 8, 2)}
    )
    recurrent = helper.make_node("LSTM", ["x", "w", "r"], ["", key], name=name, hidden_size=2)
    proto.graph.node[0].CopyFrom(recurrent)
    searched = search(proto, tmp_path, {"x": normal(4, 3, 6)})
    assert searched.reasons == {key: "the operator LSTM is left alone"}


def test_bytes_count_what_only_the_block_uses(tmp_path: Path) -> None:
    text = (
        "(float[N,6] x, float[N,5] v) => (y, z) { h = Gemm(x, w, b)"
        " g = BatchNormalization(h, gamma, beta, mean, variance) y = Relu(g) z = Add(v, OTHER) }"
    )
    arrays = {"w": normal(6, 5), "b": normal(5), "other": normal(5), **normalization(5)}
    feeds = {"x": normal(1, 6), "v": normal(1, 5)}

    def block_of(reader: str) -> Block:
        return search(model_proto(text.replace("OTHER", reader), arrays), tmp_path, feeds).block

    alone = block_of("other")
    nodes = search(model_proto(text.replace("OTHER", "other"), arrays), tmp_path, feeds)
    node_bytes = sum(nodes.model.proto.graph.node[index].ByteSize() for index in (0, 1))
    assert alone.original_bytes == node_bytes + 4 * (30 + 5 + 4 * 5)
    # A bias that another node reads stays in the file.
    assert block_of("b").original_bytes == alone.original_bytes - 4 * 5


@pytest.mark.parametrize(
    "text",
    [
        "g = BatchNormalization<training_mode=1>(h, gamma, beta, mean, variance)",
        "g, m, v = BatchNormalization(h, gamma, beta, mean, variance)",
        "g = BatchNormalization(h, gamma, h, mean, variance)",
        "g = BatchNormalization<epsilon=-9.0>(h, gamma, beta, mean, variance)",
        "g = BatchNormalization(h, gamma, beta, mean, short)",
        "g = mine.BatchNormalization(h, gamma, beta, mean, variance)",
        "g = mine.Identity(h)",
        "g = mine.Add(h, beta)",
    ],
)
def test_what_is_no_constant_shift_and_scale_is_not_folded(text: str, tmp_path: Path) -> None:
    # Not all of these run anywhere, so shapes are given.
    proto = model_proto(
        "(float[N,6] x) => (y) { h = Gemm(x, w) g = Identity(h) y = Relu(g) }",
        {"w": normal(6, 5), "short": np.ones(1, np.float32), **normalization(5)},
        domains={"mine": 1},
    )
    proto.graph.node[1].CopyFrom(node(text))
    found = search_shapes(proto, tmp_path, {"x": (1, 6), "h": (1, 5)})
    assert (found.block.key, found.block.nodes) == ("h", (0,))


def test_measured_tensors_are_those_around_linear_maps() -> None:
    proto = model_proto(
        "(float[N,6] x, float[6,2] v) => (float[N,2] z) {"
        " c = Constant<value_floats=[1.0]>() h = Gemm(x, w, c) y = Relu(h) z = MatMul(y, v) }",
        {"w": normal(6, 6)},
    )
    assert measured_tensors(proto) == ("x", "h", "y", "v", "z")
    proto.graph.initializer.append(numpy_helper.from_array(normal(6, 2), "unused"))
    assert "unused" not in measured_tensors(proto)


def test_patterns_differ() -> None:
    protos = {p.proto().SerializeToString(deterministic=True) for p in PATTERNS.values()}
    assert len(protos) == len(PATTERNS)
    assert {p.kind for p in PATTERNS.values()} == {"gemm", "matmul", "conv"}
    # Nothing is left out by those that stand for all of them.
    chosen = [PATTERNS[name] for name in REPRESENTATIVES]
    assert len(set(REPRESENTATIVES)) == len(chosen)
    for attribute in ("linear", "rest", "activation", "kind"):
        assert {getattr(p, attribute) for p in chosen} == {
            getattr(p, attribute) for p in PATTERNS.values()
        }
