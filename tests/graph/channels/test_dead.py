"""Which units are certified dead, in graphs where that can be told by hand."""

from pathlib import Path

import numpy as np
import pytest
from graphs import model_proto, normal, positive
from ranged import Range, ranged

UNIT: Range = (0.0, 1.0)


def dense(*, weights: list[float], bias: list[float]) -> dict[str, np.ndarray]:
    """Units that read one input each."""
    return {
        "w": np.diag(weights).astype(np.float32),
        "b": np.array(bias, np.float32),
        "v": normal(len(bias), 3),
    }


def dead(
    text: str, arrays: dict[str, np.ndarray], folder: Path, declared: Range = UNIT
) -> dict[str, list[int]]:
    """By group, the units that are dead."""
    shape = (1, 3, 6, 6) if "float[N,3,6,6]" in text else (1, 4)
    found = ranged(model_proto(text, arrays), normal(*shape), declared, folder)
    channels, gone = found.dead()
    return {
        group.key: np.flatnonzero(gone[group.units.start : group.units.stop]).tolist()
        for group in channels.groups
    }


ACTIVATED = "(float[N,4] x) => (float[N,3] y) {{ h = Gemm(x, w, b) {} y = MatMul(r, v) }}"


@pytest.mark.parametrize(
    ("activation", "units"),
    [
        ("r = Relu(h)", [1, 3]),
        ("z = Constant<value = float {0}>() r = Clip(h, z)", [1, 3]),
        ("r = HardSwish(h)", [3]),
        ("a = HardSigmoid<alpha=1.0, beta=0.0>(h) r = Mul(a, h)", [1, 3]),
        # Zero is not what a Sigmoid makes of the lowest number, nor a LeakyRelu.
        ("r = Sigmoid(h)", []),
        ("r = LeakyRelu(h)", []),
        ("r = Identity(h)", []),
    ],
)
def test_units_at_most_zero_are_dead_behind_a_relu(
    activation: str, units: list[int], tmp_path: Path
) -> None:
    """They lie in 0 to 2, -2 to -0.001, -0.5 to 0.1, and -6 to -5."""
    arrays = dense(weights=[2, -1.999, 0.6, -1], bias=[0, -0.001, -0.5, -5])
    text = ACTIVATED.format(activation)
    assert dead(text, arrays, tmp_path) == {"h": units}


def test_the_range_decides(tmp_path: Path) -> None:
    arrays = dense(weights=[1, -1, 1, -1], bias=[-1, 0, -2, -1])
    text = ACTIVATED.format("r = Relu(h)")
    for declared, units in (
        # The first may round to something above zero, and so is not called dead.
        ((0.0, 1.0), [1, 2, 3]),
        ((0.0, 0.5), [0, 1, 2, 3]),
        ((-2.0, 1.0), [2]),
        ((-2.0, 3.0), []),
        ((1.5, 1.75), [1, 2, 3]),
    ):
        assert dead(text, arrays, tmp_path, declared) == {"h": units}


def test_every_consumer_has_to_read_zeros(tmp_path: Path) -> None:
    """One reads the units behind a Relu, another as they are."""
    arrays = dense(weights=[1, -1, 1, -1], bias=[0, -1, 0, -1]) | {"u": normal(4, 3)}
    text = "(float[N,4] x) => (float[N,3] y) { h = Gemm(x, w, b) r = Relu(h) {} }"
    text = text.replace("{}", "p = MatMul(r, v) q = MatMul({}, u) y = Add(p, q)")
    assert dead(text.replace("{}", "r"), arrays, tmp_path) == {"h": [1, 3]}
    assert dead(text.replace("{}", "h"), arrays, tmp_path) == {"h": []}


def conv(*gone: int) -> dict[str, np.ndarray]:
    """Channels that are positive for positive inputs, and some that are negative."""
    kernel, bias = positive(6, 3, 3, 3), np.full(6, 0.1, np.float32)
    kernel[list(gone)] *= -1
    bias[list(gone)] = -0.1
    return {"k": kernel, "b": bias}


IMAGES = "(float[N,3,6,6] x) => (float[N,2] y) { "
ENDED = " i = Flatten(h) y = MatMul(i, v) }"


def test_channels_through_pooling_and_flattening(tmp_path: Path) -> None:
    text = IMAGES + (
        "a = Conv(x, k, b) r = Relu(a) p = MaxPool<kernel_shape=[2,2], pads=[1,1,1,1]>(r)"
        " h = AveragePool<kernel_shape=[2,2]>(p)" + ENDED
    )
    assert dead(text, conv(2, 5) | {"v": normal(96, 2)}, tmp_path) == {"a": [2, 5]}


def test_a_sum_is_dead_where_both_branches_are(tmp_path: Path) -> None:
    text = IMAGES + (
        "a = Conv(x, k, b) r = Relu(a) c = Conv(x, l, d) s = Relu(c) h = Add(r, s)" + ENDED
    )
    other = conv(0, 2, 3)
    arrays = conv(2, 3, 5) | {"l": other["k"], "d": other["b"], "v": normal(96, 2)}
    assert dead(text, arrays, tmp_path) == {"a": [2, 3]}


def test_a_depthwise_bias_brings_a_channel_back(tmp_path: Path) -> None:
    text = IMAGES + ("a = Conv(x, k, b) r = Relu(a) h = Conv<group=6>(r, l, d)" + ENDED)
    bias = np.zeros(6, np.float32)
    bias[5] = 0.25
    arrays = conv(2, 5) | {"l": normal(6, 1, 1, 1), "d": bias, "v": normal(96, 2)}
    assert dead(text, arrays, tmp_path) == {"a": [2]}


def test_what_is_dead_is_followed(tmp_path: Path) -> None:
    """A unit that only dead ones could wake up is dead too."""
    text = IMAGES + (
        "a = Conv(x, k, b) r = Relu(a) c = Conv(r, l, d) h = Relu(c) i = Flatten(h)"
        " y = MatMul(i, v) }"
    )
    inner = -positive(4, 6, 1, 1)
    inner[:, [2, 5]] *= -1
    inner[3, 0] = 0.1
    arrays = {"l": inner, "d": np.full(4, -0.01, np.float32), "v": normal(64, 2)}
    assert dead(text, conv(2, 5) | arrays, tmp_path) == {"a": [2, 5], "c": [0, 1, 2]}


def test_nothing_is_dead_behind_what_is_not_understood(tmp_path: Path) -> None:
    arrays = dense(weights=[-1, -1, -1, -1], bias=[-1, -1, -1, -1])
    text = (
        "(float[N,4] x) => (float[N,3] y) {{ {} h = Gemm(e, w, b) r = Relu(h) y = MatMul(r, v) }}"
    )
    assert dead(text.format("e = Identity(x)"), arrays, tmp_path) == {"h": [0, 1, 2, 3]}
    assert dead(text.format("e = Exp(x)"), arrays, tmp_path) == {"h": []}
