"""Atoms: what is merged is one, what is pinned stays, whatever the order."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_relusv.graph.channels.walk import NO_UNIT, Atoms

COUNT = 8
PAIRS = st.lists(st.tuples(st.integers(0, COUNT - 1), st.integers(0, COUNT - 1)), max_size=12)


def units(*atoms: int) -> np.ndarray:
    return np.array(atoms, np.int64)


def classes(pairs: list[tuple[int, int]]) -> list[set[int]]:
    """The same by plain sets."""
    found = [{atom} for atom in range(COUNT)]
    for one, other in pairs:
        joined = next(each for each in found if one in each) | next(e for e in found if other in e)
        found = [each for each in found if each.isdisjoint(joined)] + [joined]
    return found


@settings(deadline=None, derandomize=True, max_examples=60)
@given(pairs=PAIRS, pinned=st.sets(st.integers(0, COUNT - 1)), early=st.booleans())
def test_trees_are_what_sets_would_be(
    pairs: list[tuple[int, int]], pinned: set[int], *, early: bool
) -> None:
    atoms = Atoms()
    atoms.new(COUNT)
    if early:
        atoms.pin(pinned, "pinned")
    for one, other in pairs:
        atoms.merge(units(one), units(other), "unused")
    if not early:
        atoms.pin(pinned, "pinned")
    for each in classes(pairs):
        assert len({atoms.root(atom) for atom in each}) == 1
        reason = atoms.reason(atoms.root(min(each)))
        assert reason == ("pinned" if each & pinned else None)
    assert len({atoms.root(atom) for atom in range(COUNT)}) == len(classes(pairs))


def test_numbers_go_on() -> None:
    atoms = Atoms()
    assert atoms.new(2).tolist() == [0, 1]
    assert atoms.new(3).tolist() == [2, 3, 4]


def test_what_meets_a_channel_that_stays_stays() -> None:
    atoms = Atoms()
    first = atoms.new(3)
    merged = atoms.merge(first, units(NO_UNIT, 1, NO_UNIT), "it stays")
    assert merged.tolist() == [NO_UNIT, 1, NO_UNIT]
    assert [atoms.reason(atoms.root(atom)) for atom in first] == ["it stays", None, "it stays"]
    # And so does what is merged with it later.
    later = atoms.new(1)
    atoms.merge(later, first[:1], "unused")
    assert atoms.reason(atoms.root(int(later[0]))) == "it stays"


def test_the_first_reason_counts() -> None:
    atoms = Atoms()
    atoms.new(1)
    atoms.pin([0, NO_UNIT], "first")
    atoms.pin([0], "second")
    assert atoms.reason(0) == "first"
