import math

import numpy as np
import pytest

from onnx_relusv.core.blocks import Activation, Geometry
from onnx_relusv.report import words


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1234, "1.23 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (102_000_000, "102 MB"),
        (5e15, "5000 TB"),
    ],
)
def test_bytes(count: float, text: str) -> None:
    assert words.size(count) == text


@pytest.mark.parametrize(
    ("count", "text"), [(7, "7"), (1_200_000, "1.2 M"), (3_860_000_000, "3.86 G")]
)
def test_counts(count: float, text: str) -> None:
    assert words.count(count) == text


def test_numbers_shares_and_what_is_missing() -> None:
    assert words.number(0.098765) == "0.0988"
    assert words.number(math.nan) == words.number(None) == "-"
    assert words.percent(0.2599) == "26.0 %"
    assert words.percent(None) == words.share(1, 0) == "-"
    assert words.bracket(0.70711, 1) == "[0.707, 1]"
    assert words.bracket(math.nan, 1) == "[-, 1]"
    assert words.bracket(math.nan, math.nan) == "-"
    assert words.change("a", "b") == "a -> b"
    assert words.change("a", "a") == "a"


def test_geometry() -> None:
    conv = Geometry(kind="conv", in_channels=32, out_channels=64, kernel=(3, 3))
    grouped = Geometry(kind="conv", in_channels=32, out_channels=64, groups=4, kernel=(3, 3))
    gemm = Geometry(kind="gemm", in_channels=200, out_channels=40)
    assert words.geometry(conv) == "conv 64x288 (3x3)"
    assert words.geometry(grouped) == "conv 16x72 (3x3) in 4 groups"
    assert words.geometry(gemm) == "gemm 40x200"


def test_activation() -> None:
    assert words.activation(Activation(kind="relu", slopes=np.zeros(1))) == "relu"
    clip = Activation(kind="clip", slopes=np.zeros(1), ceiling=6.0)
    assert words.activation(clip) == "clip at 6"
    assert words.activation(Activation(kind="leaky_relu", slopes=np.array([0.01]))) == (
        "leaky_relu 0.01"
    )
    assert words.activation(Activation(kind="prelu", slopes=np.array([0.3, 0.1]))) == (
        "prelu 0.1 to 0.3"
    )


def test_what_is_invisible_is_spelled_out() -> None:
    assert words.printable("a b/c:0 \u5377") == "a b/c:0 \u5377"
    assert words.printable("\x1b[31m\n\u202e\x00") == r"\x1b[31m\n\u202e\x00"
    assert words.printable("\udce9") == r"\udce9"


def test_long_names_keep_both_ends() -> None:
    assert words.middle_cut("abcdefghij", 10) == "abcdefghij"
    assert words.middle_cut("abcdefghijk", 10) == "abcd...ijk"
