"""Lengths as functions of input axes against the operations themselves, and rules on them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_relusv.graph.channels.input_axes import Solver
from onnx_relusv.graph.channels.lengths import (
    LONGEST,
    Length,
    Rule,
    Step,
    axis,
    constant,
    product,
)

STEPS = st.builds(Step, times=st.integers(1, 3), plus=st.integers(-4, 9), by=st.integers(1, 4))


@given(st.lists(STEPS, max_size=4), st.integers(1, 500), st.integers(1, 6))
def test_a_chain_of_steps_is_what_its_steps_do(steps: list[Step], length: int, scale: int) -> None:
    found: Length | None = axis("n").times(constant(scale))
    expected = length * scale
    for step in steps:
        assert found is not None
        found, expected = found.stepped(step), (expected * step.times + step.plus) // step.by
    assert found is not None
    assert found.value({"n": length}) == expected
    # Arrays are taken element by element.
    assert found.value({"n": np.array([length, length])}).tolist() == [expected] * 2


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12))
def test_a_quotient_takes_back_what_a_product_put_in(rows: int, columns: int, scale: int) -> None:
    lengths = {"rows": rows, "columns": columns}
    whole = product([constant(scale), axis("rows"), axis("columns")])
    assert whole is not None
    left = whole.over(axis("rows"))
    assert left is not None
    assert left.value(lengths) == scale * columns
    assert whole.over(axis("other")) is None
    assert whole.stepped(Step(by=2)) is None  # of two axes


def solved(rules: list[Rule], **wanted: int) -> dict[str, int]:
    movable = [name for name in wanted if name != "n"]
    return Solver(rules).solved(wanted, movable, ["n"])


def test_lengths_are_the_nearest_that_keep_the_rules() -> None:
    behind = axis("t").stepped(Step(plus=-400 + 160, by=160))
    assert behind is not None
    rules = [Rule(behind, "least", 2), Rule(axis("t"), "multiple", 32)]
    assert solved(rules, t=224) == {"t": 576}
    # (576 - 400) // 160 + 1 = 2, and 544 - 400 is less than a stride.
    assert solved(rules, t=1000) == {"t": 1024}
    assert solved([Rule(axis("k"), "equal", 80)], k=224, n=1) == {"k": 80, "n": 1}
    assert solved([Rule(axis("k"), "one_or", 80)], k=224) == {"k": 80}
    assert solved([Rule(axis("n"), "one_or", 80)], n=1) == {"n": 1}
    assert solved([Rule(axis("k"), "equal", 2 * LONGEST)], k=224) == {"k": 2 * LONGEST}


def test_what_is_not_certain_yields() -> None:
    rules = [
        Rule(axis("t"), "equal", 5, certain=False),
        Rule(axis("t"), "equal", 7),
        Rule(axis("t"), "equal", 6, certain=False),
    ]
    assert solved(rules, t=224) == {"t": 7}


@pytest.mark.parametrize("side", [37, 5])
def test_rows_that_a_reshape_makes_are_one_a_sample(side: int) -> None:
    everything = product([axis("n"), axis("h"), axis("w")])
    assert everything is not None
    rule = Rule(everything, "multiple", side * side)
    assert solved([rule], n=1, h=224, w=224) == {"n": 1, "h": side, "w": side}


def test_a_batch_moves_where_nothing_else_can() -> None:
    assert solved([Rule(axis("n").times(constant(16)), "multiple", 64)], n=1) == {"n": 4}
    rule = Rule(axis("n").times(constant(64)), "equal", 64)
    assert solved([rule], n=3) == {"n": 1}
