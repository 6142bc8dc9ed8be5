"""Where channels end by what is around them: domains, bodies, outputs, inputs, missing shapes."""

from pathlib import Path

import numpy as np
import pytest
from channel_graphs import follow, images
from graphs import model_proto, normal, normalization, saved
from onnx import TensorProto, helper

from onnx_relusv.graph.channels.groups import find_channels

HEAD = "a = Conv<pads=[1,1,1,1]>(x, k, b)"
ENDS = {"k": normal(6, 3, 3, 3), "b": normal(6)}
KERNEL, MATRIX = normal(5, 6, 1, 1), normal(6, 5)
X = {"x": normal(3, 3, 6, 6)}


def test_other_domains_are_not_understood(tmp_path: Path) -> None:
    # It is called as an operator that would be.
    proto = model_proto(
        f"(float[N,3,6,6] x) => (float[N,5,6,6] y) {{ {HEAD} h = com.microsoft.Gelu(a)"
        " y = Conv(h, k2) }",
        {"k2": KERNEL, **ENDS},
        opset=20,
        domains={"com.microsoft": 1},
    )
    followed = follow(proto, tmp_path, X)
    assert followed.reasons["a"] == "com.microsoft.Gelu h is not understood"
    for node in proto.graph.node:
        node.domain = ""
    assert follow(proto, tmp_path, X).groups.keys() == {"a"}


@pytest.mark.parametrize("branch", ["Identity", "Relu"])
def test_bodies_are_not_looked_into(branch: str, tmp_path: Path) -> None:
    followed = images(
        f"{HEAD} m = ReduceMax<axes=[0,1,2,3], keepdims=0>(x) c = Greater(m, z) h = If(c) <"
        f"then_branch = left () => (float[N,6,6,6] u) {{ u = {branch}(a) }},"
        " else_branch = right () => (float[N,6,6,6] v) { v = Neg(a) }>"
        " y = Conv(h, k2)",
        tmp_path,
        z=np.array(0, np.float32),
        k2=KERNEL,
        **ENDS,
    )
    assert followed.reasons["a"] == "If h reads them inside its body"


def test_a_weight_that_a_body_reads_stays(tmp_path: Path) -> None:
    followed = images(
        f"{HEAD} m = ReduceMax<axes=[0,1,2,3], keepdims=0>(x) c = Greater(m, z) h = If(c) <"
        "then_branch = left () => (float[5,6,1,1] u) { u = Relu(k2) },"
        " else_branch = right () => (float[5,6,1,1] v) { v = Neg(k2) }>"
        " r = Conv(a, k2) g = GlobalMaxPool(r) s = ReduceSum(h) y = Add(g, s)",
        tmp_path,
        z=np.array(0, np.float32),
        k2=KERNEL,
        **ENDS,
    )
    assert followed.reasons["r"] == "Conv r shares its weight with others"
    assert followed.reasons["a"] == "Conv r shares its weight with others"


def test_outputs_of_the_graph_stay_wherever_they_are(tmp_path: Path) -> None:
    proto = model_proto(
        f"(float[N,3,6,6] x) => (float[N,5,6,6] y, float[N,6,1,1] p) {{ {HEAD} h = Relu(a)"
        " y = Conv(h, k2) p = GlobalAveragePool(h) }",
        {"k2": KERNEL, **ENDS},
    )
    assert follow(proto, tmp_path, X).reasons == {
        "a": "p is a graph output",
        "y": "y is a graph output",
    }


def test_computed_weights_are_refused(tmp_path: Path) -> None:
    followed = images(
        f"{HEAD} r = Cos(k2) h = Conv(a, r) y = Conv(h, k3)",
        tmp_path,
        k2=normal(6, 6, 1, 1),
        k3=KERNEL,
        **ENDS,
    )
    reason = "Conv h has a weight that is computed"
    assert followed.reasons["a"] == reason
    assert followed.reasons["h"] == reason


@pytest.mark.parametrize(("ir_version", "refused"), [(3, False), (8, True)])
def test_initializers_that_callers_may_override(
    ir_version: int, *, refused: bool, tmp_path: Path
) -> None:
    proto = model_proto(
        f"(float[N,3,6,6] x) => (float[N,5,6,6] y) {{ {HEAD} h = PRelu(a, s) y = Conv(h, k2) }}",
        {"k2": KERNEL, "s": normal(6, 1, 1), **ENDS},
        opset=9,
        ir_version=ir_version,
    )
    if refused:
        proto.graph.input.append(helper.make_tensor_value_info("s", TensorProto.FLOAT, [6, 1, 1]))
    followed = follow(proto, tmp_path, X)
    assert ("a" in followed.reasons) == refused
    if refused:
        assert followed.reasons["a"].startswith("PRelu h ")


@pytest.mark.parametrize(
    ("attributes", "opset"), [("training_mode=1", 14), ("spatial=0", 8)], ids=lambda each: str(each)
)
def test_normalisation_by_the_samples_is_refused(
    attributes: str, opset: int, tmp_path: Path
) -> None:
    # The runtime has neither, so shapes are given by hand.
    proto = model_proto(
        f"(float[1,3,6,6] x) => (y) {{ {HEAD} n = BatchNormalization<{attributes}>"
        "(a, gamma, beta, mean, variance) y = Conv(n, k2) }",
        {"k2": KERNEL, **ENDS, **normalization(6)},
        opset=opset,
    )
    shapes = {"x": (1, 3, 6, 6), "a": (1, 6, 6, 6), "n": (1, 6, 6, 6), "y": (1, 5, 6, 6)}
    found = find_channels(saved(proto, tmp_path), shapes)
    reasons = {refusal.key: refusal.reason for refusal in found.refusals}
    assert reasons["a"] == "BatchNormalization n does not normalise channels by constants"


def test_unknown_shapes_end_channels(tmp_path: Path) -> None:
    proto = model_proto(
        f"(float[1,3,6,6] x) => (y) {{ {HEAD} h = Relu(a) y = Conv(h, k2) }}",
        {"k2": KERNEL, **ENDS},
    )
    known = {"x": (1, 3, 6, 6), "a": (1, 6, 6, 6), "y": (1, 5, 6, 6)}
    found = find_channels(saved(proto, tmp_path), known)
    reasons = {refusal.key: refusal.reason for refusal in found.refusals}
    assert reasons["a"] == "Relu h reads or makes h, whose shape is not known"
    found = find_channels(saved(proto, tmp_path), {})
    assert not found.groups
    assert {refusal.key for refusal in found.refusals} == {"a", "y"}


def test_a_part_of_one_channel_cannot_go(tmp_path: Path) -> None:
    followed = images(
        "a = Conv(x, ka) b, c = Split<axis=1>(a) e = Conv(b, ke) f = Conv(c, kf) y = Add(e, f)",
        tmp_path,
        ka=normal(2, 3, 1, 1),
        ke=normal(5, 1, 1, 1),
        kf=normal(5, 1, 1, 1, seed=1),
    )
    assert followed.reasons["a"] == "one channel at least has to stay"


def test_depthwise_layers_of_the_input_are_refused(tmp_path: Path) -> None:
    followed = images("y = Conv<group=3>(x, kd)", tmp_path, kd=normal(3, 1, 1, 1))
    assert followed.reasons == {"y": "Conv y is depthwise, and the channels that it reads stay"}
