"""The table of operators: what its entries have to have, and how one is added."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from channel_graphs import check_cut, images
from graphs import normal
from onnx import NodeProto

from onnx_relusv.graph.channels import elementwise, moving, reshaping, weights, windows
from onnx_relusv.graph.channels.lengths import Known, LengthWalk, axis, constant
from onnx_relusv.graph.channels.operator import Operator, handed_on
from onnx_relusv.graph.channels.operators import OPERATORS
from onnx_relusv.graph.channels.walk import Barrier, Walk

FOLLOWED = sorted(name for name, operator in OPERATORS.items() if operator.channels)
# Without channels on the axis of samples, these are of one tensor and settings of no shape.
ALIKE = sorted(
    name
    for name, operator in OPERATORS.items()
    if operator.channels is handed_on and operator.numbers is None
)


def test_no_entry_has_a_channel_rule_without_lengths() -> None:
    with pytest.raises(TypeError, match="lengths"):
        Operator(channels=handed_on)  # type: ignore[call-arg]
    assert [name for name in FOLLOWED if not callable(OPERATORS[name].lengths)] == []


@pytest.mark.parametrize("name", ALIKE)
def test_where_channels_go_on_lengths_do(name: str) -> None:
    dims = (axis("n"), constant(6), axis("h"))
    node = onnx.helper.make_node(name, ["x"], ["y"])
    walk = LengthWalk()
    walk.scope["x"] = Known(dims)
    assert list(OPERATORS[name].lengths(walk, node, [dims])) == [dims]


def test_channel_rules_are_of_operators_that_there_are() -> None:
    assert [name for name in FOLLOWED if not onnx.defs.has(name)] == []


def test_an_operator_stands_in_one_family() -> None:
    families = (elementwise, moving, reshaping, weights, windows)
    assert sum(len(family.OPERATORS) for family in families) == len(OPERATORS)


def test_an_operator_is_added_by_its_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of docs/extending.md: a CumSum along another axis leaves channels alone."""
    arrays = {"k": normal(6, 3, 3, 3), "b": normal(6), "k2": normal(5, 6, 1, 1)}
    body = "a = Conv(x, k, b) h = CumSum(a, along) y = Conv(h, k2)"
    rows, channels = (arrays | {"along": np.array(place)} for place in (2, 1))
    followed = images(body, tmp_path, **rows)
    assert followed.reasons["a"] == "CumSum h is not understood"

    def cumulative(walk: Walk, index: int, node: NodeProto) -> None:
        along, found = walk.known(node.input[1]), walk.source(node)
        if along is None or along[0] % found.rank == found.axis:
            raise Barrier("adds channels up")
        handed_on(walk, index, node)

    monkeypatch.setitem(
        OPERATORS,  # type: ignore[arg-type]
        "CumSum",
        replace(OPERATORS["CumSum"], channels=cumulative),
    )
    followed = images(body, tmp_path, **rows)
    assert followed.groups["a"].operators == ("CumSum",)
    check_cut(followed, followed.half, tmp_path)
    assert images(body, tmp_path, **channels).reasons["a"] == "CumSum h adds channels up"
