import math

import numpy as np
import pytest

from onnx_relusv.core.blocks import Activation, Geometry
from onnx_relusv.report.words import (
    activation_text,
    bracket_text,
    bytes_text,
    change_text,
    count_text,
    geometry_text,
    middle_cut,
    number_text,
    percent_text,
    printable,
    share_text,
)


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
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("count", "text"), [(7, "7"), (1_200_000, "1.2 M"), (3_860_000_000, "3.86 G")]
)
def test_counts(count: float, text: str) -> None:
    assert count_text(count) == text


def test_numbers_shares_and_what_is_missing() -> None:
    assert number_text(0.098765) == "0.0988"
    assert number_text(math.nan) == number_text(None) == "-"
    assert percent_text(0.2599) == "26.0 %"
    assert percent_text(None) == share_text(1, 0) == "-"
    assert bracket_text(0.70711, 1) == "[0.707, 1]"
    assert bracket_text(math.nan, 1) == "[-, 1]"
    assert bracket_text(math.nan, math.nan) == "-"
    assert change_text("a", "b") == "a -> b"
    assert change_text("a", "a") == "a"


def test_geometry() -> None:
    conv = Geometry(kind="conv", in_channels=32, out_channels=64, kernel=(3, 3))
    grouped = Geometry(kind="conv", in_channels=32, out_channels=64, groups=4, kernel=(3, 3))
    gemm = Geometry(kind="gemm", in_channels=200, out_channels=40)
    assert geometry_text(conv) == "conv 64x288 (3x3)"
    assert geometry_text(grouped) == "conv 16x72 (3x3) in 4 groups"
    assert geometry_text(gemm) == "gemm 40x200"


def test_activation() -> None:
    assert activation_text(Activation(kind="relu", slopes=np.zeros(1))) == "relu"
    clip = Activation(kind="clip", slopes=np.zeros(1), ceiling=6.0)
    assert activation_text(clip) == "clip at 6"
    assert activation_text(Activation(kind="leaky_relu", slopes=np.array([0.01]))) == (
        "leaky_relu 0.01"
    )
    assert activation_text(Activation(kind="prelu", slopes=np.array([0.3, 0.1]))) == (
        "prelu 0.1 to 0.3"
    )


def test_what_is_invisible_is_spelled_out() -> None:
    assert printable("a b/c:0 \u5377") == "a b/c:0 \u5377"
    assert printable("\x1b[31m\n\u202e\x00") == r"\x1b[31m\n\u202e\x00"
    assert printable("\udce9") == r"\udce9"


def test_long_names_keep_both_ends() -> None:
    assert middle_cut("abcdefghij", 10) == "abcdefghij"
    assert middle_cut("abcdefghijk", 10) == "abcd...ijk"
