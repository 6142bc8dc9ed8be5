"""What --include and --exclude mean in a model, and what they refuse."""

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from opened import Opened, open_model

from onnx_relusv import Budgets, PlanOptions, plan
from onnx_relusv.core.arguments import Target, select
from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.measuring.case import selected

TEXT = """
<ir_version: 8, opset_import: ["" : 13]>
net (float[n, 4, 6, 6] x) => (float[n, 3] y) {
  [first] c = Conv <kernel_shape = [3, 3]> (x, w1)
  [act] c_relu = Relu (c)
  [deep] d = Conv <kernel_shape = [1, 1], group = 8> (c_relu, w2)
  [second] e = Conv <kernel_shape = [4, 4]> (d, w3)
  e_relu = Relu (e)
  f = Flatten (e_relu)
  [head] y = Gemm <transB = 1> (f, w4)
}
"""
SHAPES = {"w1": (8, 4, 3, 3), "w2": (8, 1, 1, 1), "w3": (5, 8, 4, 4), "w4": (3, 5)}
BLOCKS = ("c_relu", "e_relu", "y")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    proto = onnx.parser.parse_model(TEXT)
    rng = np.random.default_rng(0)
    for name, shape in SHAPES.items():
        values = rng.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    path = tmp_path_factory.mktemp("selection") / "net.onnx"
    onnx.save(proto, path)
    return open_model(path, None, MeasureOptions())


@pytest.mark.parametrize(
    ("include", "exclude", "allowed"),
    [
        ((), (), {"c_relu", "e_relu", "y"}),
        (("c_relu",), (), {"c_relu"}),
        (("first",), (), {"c_relu"}),
        (("act",), (), {"c_relu"}),
        (("e",), (), {"e_relu"}),
        (("*ir*", "head"), (), {"c_relu", "y"}),
        (("op:Gemm",), (), {"y"}),
        (("op:Conv",), ("second",), {"c_relu"}),
        (("op:C*",), (), {"c_relu", "e_relu"}),
        ((), ("op:*",), set()),
        ((), ("deep",), {"c_relu", "e_relu", "y"}),
        (("d",), (), set()),
    ],
)
def test_patterns(
    include: tuple[str, ...], exclude: tuple[str, ...], allowed: set[str], opened: Opened
) -> None:
    assert {block.key for block in opened.case.blocks} == set(BLOCKS)
    options = selected(opened.case, PlanOptions(include=include, exclude=exclude))
    assert {key for key in BLOCKS if options.allows(key)} == allowed
    # Only what is refused anyway is said to change nothing.
    assert len(options.notes) == ("deep" in exclude) + ("d" in include)
    assert all("d is left alone anyway" in note for note in options.notes)


@pytest.mark.parametrize(
    ("pattern", "near"),
    [
        ("frist", "first"),
        ("E_RELU", "e_relu"),
        ("c_rel", "c_relu"),
        ("op:conv", "op:Conv"),
        ("op:Relu", "op:"),
        ("Conv", "op:Conv"),
        ("", "c_relu"),
    ],
)
def test_what_matches_nothing_is_refused_with_the_nearest(
    pattern: str, near: str, opened: Opened
) -> None:
    for option in ("include", "exclude"):
        with pytest.raises(UsageError, match=f"--{option} {pattern}: matches no .*nearest.*{near}"):
            selected(opened.case, PlanOptions(**{option: ("y", pattern)}))  # type: ignore[arg-type]


def test_names_with_brackets_mean_themselves() -> None:
    targets = [Target("a[1]"), Target("a1")]
    assert select(targets, (), ("a[1]",)).left_out == {"a[1]", "a1"}
    assert select(targets, (), ("a1",)).left_out == {"a1"}
    assert select(targets, ("a[[]1]",), ()).left_out == {"a1"}


def test_a_model_without_anything_says_so() -> None:
    with pytest.raises(UsageError, match="--exclude x: this model has no blocks"):
        select([], (), ("x",))


def test_an_excluded_depthwise_convolution_keeps_its_units(opened: Opened) -> None:
    """Named by itself it is no block, yet removed units would cut it."""

    def cut(*exclude: str) -> list[str]:
        budgets = Budgets(tolerance=0.5)
        options = PlanOptions(method="harmonic", budgets=budgets, exclude=exclude)
        return [group.key for group in plan(opened.case.model.path, planning=options).groups]

    assert cut() == ["c", "e"]
    assert cut("deep") == cut("d") == ["e"]


def test_patterns_are_texts() -> None:
    for value, words in (
        ("first", "include is str: give a tuple of texts"),
        ([1], "an entry of include is int: give a text"),
        ((Path("y"),), "an entry of include is PosixPath: give a text"),
    ):
        with pytest.raises(TypeError, match=words):
            PlanOptions(include=value)  # type: ignore[arg-type]
