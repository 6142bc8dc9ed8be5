"""Outputs at the resolution of a Sigmoid or a Softmax: right files pass, wrong ones fail."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from graphs import change_initializer, model_proto, normal, run, search
from onnx import ModelProto
from rewrites import Rewritten, rewritten

from onnx_relusv.core.errors import ValidationError
from onnx_relusv.runtime.differences import gap_between, norm_of

SIZES = {"x": normal(1, 3, 12, 12)}
BODY = (
    " a = Conv<pads=[1,1,1,1]>(x, k, b) c = Relu(a)"
    ' d = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(c, l, b) e = Relu(d)'
)
KERNELS = {
    "k": normal(16, 3, 3, 3, scale=0.3),
    "b": normal(16, scale=0.1),
    "l": normal(16, 16, 3, 3, scale=0.1),
}
# What they answer, and how far from 0 or 1 that is at the most.
HEADS = {
    "sigmoid": " s = Conv(e, u, z) y = Sigmoid(s) }",
    "behind": " s = Conv(e, u, z) t = Sigmoid(s) o = Sub(one, t) y = Concat<axis=1>(t, o) }",
    "hard_sigmoid": " s = Conv(e, u, z) y = HardSigmoid<alpha=1.0, beta=19.0>(s) }",
    "tanh": " s = Conv(e, u, z) y = Tanh(s) }",
    "softmax": " s = Conv(e, many, far) y = Softmax<axis=1>(s) }",
}


def network(head: str, bias: float, folder: Path, seed: int = 0) -> Rewritten:
    arrays = KERNELS | {
        "u": normal(1, 16, 1, 1, seed=seed, scale=0.05),
        "z": np.float32([bias]),
        "one": np.float32([1.0]),
        "many": normal(4, 16, 1, 1, seed=seed, scale=0.05),
        "far": np.float32([0, bias, 2 * bias, bias]),
    }
    text = "(float[N,3,H,W] x) => (float[N,M,I,J] y) {" + BODY + HEADS[head]
    proto = model_proto(text, {name: arrays[name] for name in arrays if name in text})
    searched = search(proto, folder, SIZES)
    return rewritten(searched, keys={"c", "e"}, rank=5, chosen={"c": "spatial", "e": "spatial"})


@pytest.mark.parametrize(
    ("head", "bias"), [*((head, -19.0) for head in HEADS), ("sigmoid", -25.0), ("sigmoid", -14.0)]
)
def test_right_files_pass(head: str, bias: float, tmp_path: Path) -> None:
    right = network(head, bias, tmp_path)
    assert len(right.validated(tmp_path).checks) == 8


def test_relative_to_itself_such_an_output_is_rounding_alone(tmp_path: Path) -> None:
    found = run(network("sigmoid", -17.0, tmp_path).proto, SIZES, ["s", "y"])
    exact = 1 / (1 + np.exp(-found["s"].astype(np.float64)))
    # Beside its range of 1 it is exact, beside itself it is off by far more than a rounding.
    assert np.abs(found["y"] - exact).max() < 1e-7
    assert gap_between(found["y"], exact) > 0.01 * norm_of(exact)


def a_bias_off(proto: ModelProto) -> None:
    change_initializer(proto, "e/bias", lambda bias: bias + np.float32(1e-3))


def a_channel_off(proto: ModelProto) -> None:
    def change(weight: np.ndarray) -> np.ndarray:
        weight[3] *= np.float32(1.01)
        return weight

    change_initializer(proto, "c/second_weight", change)


def the_other_corner(proto: ModelProto) -> None:
    """SAME_LOWER in place of SAME_UPPER: the same shape."""
    node = next(one for one in proto.graph.node if "d" in one.output)
    next(one for one in node.attribute if one.name == "auto_pad").s = b"SAME_LOWER"


def a_kernel_turned(proto: ModelProto) -> None:
    change_initializer(
        proto, "c/first_weight", lambda weight: np.ascontiguousarray(weight[..., ::-1, :])
    )


def an_activation_missing(proto: ModelProto) -> None:
    node = next(one for one in proto.graph.node if "e" in one.output)
    node.op_type = "Identity"


WRONG = (a_bias_off, a_channel_off, the_other_corner, a_kernel_turned, an_activation_missing)


@pytest.mark.parametrize("tamper", WRONG)
@pytest.mark.parametrize("head", ["sigmoid", "softmax"])
def test_wrong_files_fail_at_saturated_outputs(
    tamper: Callable[[ModelProto], None], head: str, tmp_path: Path
) -> None:
    right = network(head, -19.0, tmp_path)
    wrong = ModelProto()
    wrong.CopyFrom(right.proto)
    tamper(wrong)
    # At the output itself nothing of it may be seen.
    before, after = (run(proto, SIZES)["y"] for proto in (right.proto, wrong))
    assert np.abs(after - before).max() < 1e-6
    with pytest.raises(ValidationError, match=r"^[ce] differs from the reference"):
        right.validated(tmp_path, wrong)
