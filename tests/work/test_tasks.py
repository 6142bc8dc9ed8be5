"""Tasks: what the cache knows is not found again, and all else is stored as soon as it is there."""

import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from examples import block, gemm, linear_map
from jobs import run, tasks

from onnx_relusv.core.measures import GroupCurve
from onnx_relusv.measuring.blocks import measure_block
from onnx_relusv.work.cache import Cache
from onnx_relusv.work.effort import SPENDING
from onnx_relusv.work.executors import Task, Threads, local
from onnx_relusv.work.executors import run as run_tasks

PAIRS = [(1.0, 1)] * 4


def squared(item: int, threads: int) -> int:
    return item**2


def refuse(item: int, threads: int) -> int:
    raise AssertionError(f"{item} was known")


def test_what_was_found_is_known_to_the_next_run(tmp_path: Path) -> None:
    seen: list[int] = []
    assert run(PAIRS[:3], squared, cache=Cache(tmp_path)) == [0, 1, 4]
    with pytest.raises(AssertionError, match="3 was known"):
        run(PAIRS, refuse, cache=Cache(tmp_path))
    assert run(PAIRS, squared, cache=Cache(tmp_path), seen=seen) == [0, 1, 4, 9]
    # Only one had to be found.
    assert seen == [1]
    assert run(PAIRS, refuse, cache=Cache(tmp_path)) == [0, 1, 4, 9]


def test_what_is_known_counts_at_once() -> None:
    steps: list[int] = []
    items = {key: replace(task, steps=key + 1) for key, task in tasks(PAIRS, squared).items()}
    found = run_tasks(
        items, Threads(1, 1, 1, steps.append), Cache(None), steps.append, known={1: 1, 3: 9}
    )
    assert found == {0: 0, 1: 1, 2: 4, 3: 9}
    assert list(found) == [0, 1, 2, 3]
    assert steps == [2 + 4, 1, 3]


def test_an_interrupted_run_keeps_what_it_has_found(tmp_path: Path) -> None:
    def interrupted(item: int, threads: int) -> int:
        if item == 2:
            raise KeyboardInterrupt
        return item

    with pytest.raises(KeyboardInterrupt):
        run(PAIRS, interrupted, workers=1, cache=Cache(tmp_path))
    seen: list[int] = []
    run(PAIRS, squared, cache=Cache(tmp_path), seen=seen)
    assert seen == [1, 1]


def curve_task(**changes: object) -> Task[GroupCurve]:
    task = Task(kind="cuts", key={"group": "g"}, result=GroupCurve)
    return replace(task, **changes)  # type: ignore[arg-type]


def test_what_cannot_be_a_result_is_found_again(tmp_path: Path) -> None:
    cache, found = Cache(tmp_path), list[str]()

    def walk(
        tasks: Mapping[str, Task[GroupCurve]],
        known: Mapping[str, GroupCurve],
        done: Callable[[str, GroupCurve], None],
    ) -> None:
        found.extend(key for key in tasks if key not in known)
        for key in tasks:
            done(key, GroupCurve(key=key, counts=(1,), damages=(0.5,)))

    for task in (
        curve_task(),
        curve_task(),
        curve_task(fits=lambda curve: curve.counts == (2,)),
        curve_task(key={"group": "h"}),
        curve_task(kind="others"),
        curve_task(result=Task),
    ):
        run_tasks({"g": task}, walk, cache)
    assert found == ["g"] * 5


def test_a_measurement_can_be_sent_to_another_process() -> None:
    geometry = gemm(9, 7)
    item, linear = block(geometry), linear_map(geometry, np.random.default_rng(0))
    arguments = (
        item,
        Folded(linear),
        {item.key: None},
        3,
        "CPUExecutionProvider",
        SPENDING["normal"],
        1,
    )
    function, sent = pickle.loads(pickle.dumps((measure_block, arguments)))
    here, there = measure_block(*arguments), function(*sent)
    assert there.candidates == here.candidates
    assert there.spectrum.estimate.tolist() == here.spectrum.estimate.tolist()


class Folded:
    """Reads the one linear map that there is."""

    def __init__(self, linear: object) -> None:
        self._linear = linear

    def __call__(self, item: object) -> object:
        return self._linear


def test_this_machine_feeds_a_device_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnx_relusv.work.executors.available_cores", lambda: 6)
    assert local(5, print) == Threads(5, 6, 6, print)
    assert local(5, print, device=True) == Threads(5, 1, 6, print)
