"""Records as data and as arrays: the same record comes back, and whatever is wrong is named."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_relusv.core.codec import (
    FINITE,
    INCREASING,
    UNSTORED,
    Axes,
    Count,
    FieldError,
    Limits,
    NonNegative,
    Share,
    from_arrays,
    from_data,
    to_arrays,
    to_data,
)


@dataclass(frozen=True, kw_only=True)
class Leaf:
    key: str
    kind: Literal["oak", "ash"] = "oak"
    rank: Count | None = None
    share: Share | None = None
    pair: Annotated[tuple[float, float], INCREASING] | None = None
    flag: bool = False
    noted: str = field(default="", metadata=UNSTORED)

    def problem(self) -> str | None:
        return "an ash has a rank." if self.kind == "ash" and self.rank is None else None


@dataclass(frozen=True, kw_only=True)
class Tree:
    leaves: tuple[Leaf, ...]
    losses: tuple[NonNegative, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Placed:
    path: Path


@dataclass(frozen=True, eq=False)
class Part:
    factor: Annotated[npt.NDArray[np.float64], Axes(("terms", "columns"))]


@dataclass(frozen=True, eq=False, kw_only=True)
class Numbers:
    mean: Annotated[npt.NDArray[np.float64], Axes(("columns",)), FINITE]
    held: Annotated[npt.NDArray[np.float64], Axes(("columns", "columns"))] | tuple[Part, ...]
    share: Annotated[npt.NDArray[np.float64], Limits(least=0, most=1)] | None = None
    loss: float = 0.0


leaves = st.one_of(
    st.builds(Leaf, key=st.text(), kind=st.just("oak"), flag=st.booleans()),
    st.builds(
        Leaf,
        key=st.text(),
        kind=st.just("ash"),
        rank=st.integers(1),
        share=st.none() | st.floats(0, 1, exclude_min=True, exclude_max=True),
        pair=st.none() | st.tuples(st.floats(-2, -1), st.integers(0, 3)),
    ),
)


@given(
    st.builds(
        Tree,
        leaves=st.lists(leaves, max_size=3).map(tuple),
        losses=st.lists(st.floats(0, 1e300), max_size=3).map(tuple),
        seed=st.integers(),
    )
)
def test_any_record_comes_back(tree: Tree) -> None:
    assert from_data(Tree, to_data(tree)) == tree
    assert from_arrays(Tree, to_arrays(tree)) == tree


def test_what_is_not_stored_is_no_field() -> None:
    data = to_data(Leaf(key="a", noted="so"))
    assert "noted" not in data
    assert from_data(Leaf, data).noted == ""
    with pytest.raises(FieldError, match=r"^of a: the field noted is unknown; use key, kind"):
        from_data(Leaf, {**data, "noted": "so"})


@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        (3, "leaves[1]: 3; use an object with fields."),
        ({}, "leaves[1]: the field key is missing."),
        ({"key": 3}, "leaves[1].key: 3; use text."),
        ({"key": "a", "kind": "fir"}, "leaves[1].kind, of a: 'fir'; use one of oak, ash."),
        ({"key": "a", "kind": []}, "leaves[1].kind, of a: []; use one of oak, ash."),
        (
            {"key": "a", "rank": 0},
            "leaves[1].rank, of a: 0; use a whole number from 1 on, or null.",
        ),
        (
            {"key": "a", "rank": True},
            "leaves[1].rank, of a: True; use a whole number from 1 on, or null.",
        ),
        (
            {"key": "a", "share": 1},
            "leaves[1].share, of a: 1; use a number above 0 and below 1, or null.",
        ),
        (
            {"key": "a", "pair": [1]},
            "leaves[1].pair, of a: [1]; use a list of 2 numbers, or null.",
        ),
        (
            {"key": "a", "pair": [2, 1]},
            "leaves[1].pair, of a: 1 stands behind 2; use increasing numbers.",
        ),
        ({"key": "a", "pair": [0, "1"]}, "leaves[1].pair[1], of a: '1'; use a number."),
        ({"key": "a", "flag": 1}, "leaves[1].flag, of a: 1; use true or false."),
        ({"key": "a", "kind": "ash"}, "leaves[1], of a: an ash has a rank."),
    ],
)
def test_an_error_names_the_path(leaf: object, message: str) -> None:
    with pytest.raises(FieldError) as caught:
        from_data(Tree, {"leaves": [{"key": "b"}, leaf]})
    assert str(caught.value) == message


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, -1, True, "1", None, []])
def test_json_has_finite_numbers_alone(value: object) -> None:
    with pytest.raises(FieldError, match=r"^losses\[0\]: .*; use a number from 0 on\.$"):
        from_data(Tree, {"leaves": [], "losses": [value]})


def test_a_long_value_is_cut_in_a_message() -> None:
    with pytest.raises(FieldError) as caught:
        from_data(Tree, {"leaves": "x" * 10_000})
    assert len(str(caught.value)) < 200


def numbers(**changes: Any) -> Numbers:
    found: dict[str, Any] = {"mean": np.arange(3.0), "held": np.eye(3), **changes}
    return Numbers(**found)


def read(arrays: dict[str, np.ndarray], **lengths: int) -> Numbers | None:
    return from_arrays(Numbers, arrays, lengths)


@pytest.mark.parametrize("held", [np.eye(3), (Part(np.ones((0, 3))), Part(np.ones((2, 3))))])
def test_arrays_come_back_as_they_are(held: Any) -> None:
    wanted = numbers(held=held, loss=float("inf"), share=np.array([0.5]))
    arrays = to_arrays(wanted)
    found = read(arrays, columns=3)
    assert found is not None
    assert found.loss == wanted.loss
    assert found.mean is arrays["mean"]
    if isinstance(held, tuple):
        assert isinstance(found.held, tuple)
        assert [one.factor.shape for one in found.held] == [(0, 3), (2, 3)]
    else:
        assert found.held is arrays["held"]
    with pytest.raises(TypeError, match=r"\.mean: JSON has no arrays"):
        to_data(wanted)


def test_arrays_of_other_lengths_types_or_numbers_are_no_record() -> None:
    arrays = to_arrays(numbers(share=np.array([0.5])))
    assert read(arrays) is not None
    assert read(arrays, columns=4) is None
    wrong: dict[str, list[np.ndarray]] = {
        "mean": [np.arange(4.0), np.eye(3), np.arange(3), np.array([0, 1, np.inf])],
        "held": [np.ones((3, 4)), np.ones(3), np.eye(3, dtype=np.float32)],
        "share": [np.array([1.5]), np.array([-0.5]), np.array([np.nan])],
        "record": [np.arange(3, dtype=np.uint8), np.zeros(0, np.uint8), np.arange(3.0)],
    }
    for name, values in wrong.items():
        for value in values:
            assert read({**arrays, name: value}) is None, (name, value)
        assert read({key: one for key, one in arrays.items() if key != name}) is None
    assert read({**arrays, "more": np.zeros(3)}) is None
    assert read(to_arrays(numbers(held=(Part(np.ones((2, 4))),)))) is None


def test_a_path_is_a_text() -> None:
    placed = Placed(path=Path("a") / "\N{LATIN SMALL LETTER E WITH ACUTE}.onnx")
    assert from_data(Placed, to_data(placed)) == placed
    assert from_arrays(Placed, to_arrays(placed)) == placed
    with pytest.raises(FieldError, match="path: 3; use text"):
        from_data(Placed, {"path": 3})


def test_numbers_may_be_left_unread() -> None:
    arrays = {**to_arrays(numbers()), "mean": np.full(3, np.nan)}
    assert from_arrays(Numbers, arrays) is None
    assert from_arrays(Numbers, arrays, numbers=False) is not None


def test_limits_of_an_array_are_looked_at_in_pieces() -> None:
    values = np.arange(5.0)
    assert FINITE.hold_all(values, piece=2)
    assert not Limits(below=4).hold_all(values, piece=2)
    assert Limits(above=-1).hold_all(values.reshape(1, 5), piece=2)
    assert FINITE.hold_all(np.zeros((0, 3)))
