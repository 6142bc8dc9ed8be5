"""The simulation of sweeps on a cluster: closed forms, and the bounds that every schedule obeys."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

BENCHMARKS = Path(__file__).parents[2] / "scripts" / "benchmarks"


@pytest.fixture(scope="module")
def scale() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("scale")


def _sweep(scale: ModuleType, before: float, points: tuple[float, ...], behind: float) -> Any:
    return scale.Sweep(before, points, behind, 0)


def test_one_sweep_takes_its_stages_one_after_the_other(scale: ModuleType) -> None:
    one = _sweep(scale, 5.0, (2.0, 4.0, 1.0), 3.0)
    assert scale.makespan([one], 1, 1, 0.5) == 5 + (2 + 4 + 1) + 3 * 0.5 + 3
    # As many workers as points: the longest is begun first, the scheduler hands out one by one.
    assert scale.makespan([one], 1, 3, 0.5) == 5 + (0.5 + 4) + 3
    # Further workers, and further processes that ask, have nothing to do.
    assert scale.makespan([one], 7, 9, 0.5) == scale.makespan([one], 1, 3, 0.5)


def test_sweeps_wait_for_a_process_that_asks_and_for_workers(scale: ModuleType) -> None:
    pair = [_sweep(scale, 1.0, (10.0,), 1.0)] * 2
    assert scale.makespan(pair, 1, 2, 0.0) == 24
    assert scale.makespan(pair, 2, 1, 0.0) == 1 + 10 + 10 + 1
    assert scale.makespan(pair, 2, 2, 0.0) == 12


def test_a_slow_scheduler_is_the_limit(scale: ModuleType) -> None:
    many = [_sweep(scale, 1.0, (1.0,) * 4, 0.0)] * 10
    # All 40 tasks pass through it, and the last one is made behind.
    assert scale.makespan(many, 10, 1000, 5.0) == 1 + 40 * 5 + 1


_SECONDS = st.floats(0.1, 20)


@given(
    kinds=st.lists(
        st.tuples(_SECONDS, st.lists(_SECONDS, min_size=1, max_size=5), _SECONDS),
        min_size=1,
        max_size=8,
    ),
    asking=st.integers(1, 5),
    working=st.integers(1, 6),
)
def test_no_schedule_is_shorter_than_its_work_or_longer_than_one_after_the_other(
    scale: ModuleType, kinds: list[tuple[float, list[float], float]], asking: int, working: int
) -> None:
    sweeps = [_sweep(scale, before, tuple(points), behind) for before, points, behind in kinds]
    found = scale.makespan(sweeps, asking, working, 0.0)
    points = sum(sum(one.points) for one in sweeps)
    rest = sum(one.before + one.behind for one in sweeps)
    # To the rounding of sums of some 50 numbers.
    slack = 1e-9 * (points + rest)
    assert found >= max(one.longest for one in sweeps) - slack
    assert found >= max(points / working, rest / asking) - slack
    assert found <= points + rest + slack
