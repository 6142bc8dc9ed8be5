"""Half the units of every group removed: the parameters left, by a formula, and the function.

Two layers around C channels hold parameters in proportion to C, a layer between two of them in
proportion to its square. So half the channels leave a half, and less where residual blocks are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from channel_graphs import Followed, check_cut, distance, images
from graphs import normal, normalization

from onnx_relusv.graph.reference import parameters
from onnx_relusv.rewrites.prune.cutting import cut

CHANNELS = 14
HEAD = "a = Conv<pads=[1,1,1,1]>(x, k1, b1)"
TAIL = "y = Conv<pads=[1,1,1,1]>(h, k2, b2)"


def conv(inputs: int, outputs: int, size: int = 3) -> int:
    """Parameters of a Conv with bias."""
    return outputs * (inputs * size**2 + 1)


@dataclass(frozen=True, eq=False)
class Case:
    """A model with C channels; its input has 3, its output 5.

    Attributes:
        body: Its nodes, from `x` to `y`.
        arrays: Its constants.
        formula: Its parameters by its channels.
        share: Of its parameters, with half the channels.
        groups: The keys of its groups.
    """

    body: str
    arrays: Mapping[str, np.ndarray]
    formula: Callable[[int], int]
    share: float
    groups: tuple[str, ...] = ("a",)
    opset: int = 17


def case(
    body: str,
    formula: Callable[[int], int],
    share: float,
    groups: tuple[str, ...] = ("a",),
    opset: int = 17,
    **arrays: np.ndarray,
) -> Case:
    own = {"b1": normal(CHANNELS)}
    if "k1" in body:
        own |= {"k1": normal(CHANNELS, 3, 3, 3)}
    if "k2" in body:
        own |= {"k2": normal(5, CHANNELS, 3, 3), "b2": normal(5)}
    return Case(body, own | arrays, formula, share, groups, opset)


def chain(inner: str, extra: int = 0, opset: int = 17, **arrays: np.ndarray) -> Case:
    """A Conv, something that keeps channels with `extra` parameters a channel, a Conv."""
    return case(
        f"{HEAD} {inner} {TAIL}",
        lambda c: conv(3, c) + conv(c, 5) + extra * c,
        0.50,
        opset=opset,
        **arrays,
    )


GEMM = normal(CHANNELS, 5)
RESIDUAL = {"k3": normal(CHANNELS, CHANNELS, 3, 3), "b3": normal(CHANNELS)}
BLOCK = f"{HEAD} r = Relu(a) c = Conv<pads=[1,1,1,1]>(r, k3, b3) s = Add(c, r)"
SCALES = np.array([1, 1, 2, 2], np.float32)
CASES = {
    "conv": chain("h = Relu(a)"),
    "max pool": chain("r = Relu(a) h = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r)"),
    "average pool": chain("r = Relu(a) h = AveragePool<kernel_shape=[2,2], pads=[1,1,0,0]>(r)"),
    "flatten": case(
        f"{HEAD} r = Relu(a) f = Flatten(r) y = Gemm(f, w, b2)",
        lambda c: conv(3, c) + 36 * c * 5 + 5,
        0.50,
        w=normal(36 * CHANNELS, 5),
        b2=normal(5),
    ),
    "global average": case(
        f"{HEAD} r = Relu(a) p = GlobalAveragePool(r) f = Flatten(p) y = Gemm(f, w, b2)",
        lambda c: conv(3, c) + c * 5 + 5,
        0.51,
        w=GEMM,
        b2=normal(5),
    ),
    "batch normalization": chain(
        "n = BatchNormalization(a, gamma, beta, mean, variance) h = Relu(n)",
        4,
        **normalization(CHANNELS),
    ),
    "depthwise": case(
        f"{HEAD} r = Relu(a) d = Conv<group={CHANNELS}>(r, kd, bd) y = Conv(d, kp, bp)",
        lambda c: conv(3, c) + 10 * c + conv(c, 5, 1),
        0.51,
        kd=normal(CHANNELS, 1, 3, 3),
        bd=normal(CHANNELS),
        kp=normal(5, CHANNELS, 1, 1),
        bp=normal(5),
    ),
    "concat": case(
        f"{HEAD} c = Conv(x, k3, b3) d = Relu(a) e = Relu(c) h = Concat<axis=1>(d, e)"
        " y = Conv(h, k4, b4)",
        lambda c: conv(3, c) + conv(3, c, 1) + conv(2 * c, 5),
        0.50,
        ("a", "c"),
        k3=normal(CHANNELS, 3, 1, 1),
        b3=normal(CHANNELS),
        k4=normal(5, 2 * CHANNELS, 3, 3),
        b4=normal(5),
    ),
    "residual conv": case(
        f"{BLOCK} h = Relu(s) {TAIL}",
        lambda c: conv(3, c) + conv(c, c) + conv(c, 5),
        0.35,
        **RESIDUAL,
    ),
    "residual mean": case(
        f"{BLOCK} p = ReduceMean<axes=[2,3], keepdims=0>(s) y = Gemm(p, w, b2)",
        lambda c: conv(3, c) + conv(c, c) + c * 5 + 5,
        0.30,
        w=GEMM,
        b2=normal(5),
        **RESIDUAL,
    ),
    "upsample": chain(
        'r = Relu(a) h = Upsample<mode="nearest">(r, scales)', opset=9, scales=SCALES
    ),
    "resize": chain('r = Relu(a) h = Resize<mode="linear">(r, , scales)', scales=SCALES),
    "conv transpose": case(
        "a = ConvTranspose<strides=[2,2]>(x, kt, b1) h = Relu(a)"
        " y = ConvTranspose<strides=[2,2]>(h, ku, b2)",
        lambda c: c * (3 * 9 + 1) + c * 5 * 9 + 5,
        0.50,
        kt=normal(3, CHANNELS, 3, 3),
        ku=normal(CHANNELS, 5, 3, 3),
        b2=normal(5),
    ),
    "prelu": chain("h = PRelu(a, slope)", 1, slope=normal(CHANNELS, 1, 1)),
    "relu6": chain(
        "h = Clip(a, low, high)", low=np.array(0, np.float32), high=np.array(6, np.float32)
    ),
}


def of(case: Case, folder: Path) -> Followed:
    return images(case.body, folder, opset=case.opset, **case.arrays)


@pytest.mark.parametrize("name", CASES)
def test_half_the_units_leave_the_parameters_of_the_formula(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    followed = of(case, tmp_path)
    assert tuple(followed.groups) == case.groups
    assert all(len(group.units) == CHANNELS for group in followed.channels.groups)
    assert parameters(followed.model.proto) == case.formula(CHANNELS) + fixed(case)
    result = check_cut(followed, followed.half, tmp_path)
    assert parameters(result) == case.formula(CHANNELS // 2) + fixed(case)
    # The share is a round figure; the constant part of a layer's parameters differs between graphs.
    share = case.formula(CHANNELS // 2) / case.formula(CHANNELS)
    assert share == pytest.approx(case.share, abs=0.0075)


def fixed(case: Case) -> int:
    """Numbers that are no parameters of a layer: bounds and scales."""
    return sum(case.arrays[name].size for name in ("low", "high", "scales") if name in case.arrays)


@pytest.mark.parametrize("name", CASES)
def test_any_units_may_go(name: str, tmp_path: Path) -> None:
    followed = of(CASES[name], tmp_path)
    for seed in range(3):
        check_cut(followed, followed.random(np.random.default_rng(seed)), tmp_path)


@pytest.mark.parametrize("name", CASES)
def test_a_cut_of_other_units_is_noticed(name: str, tmp_path: Path) -> None:
    followed = of(CASES[name], tmp_path)
    result = cut(followed.model, followed.channels, np.roll(followed.half, 1))
    assert distance(followed, followed.half, result) > 0.1
