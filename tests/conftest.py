"""Settings that all tests share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from onnx_relusv.core.errors import UsageError
from onnx_relusv.runtime.providers import choose_provider

# The same examples in every run; no deadline, because a busy machine is slow, not wrong.
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("repeatable")


def _stay_on_one_core() -> None:
    """Keeps a process of tests beside others, and what it starts, on a core of its own.

    onnxruntime's threads wait busily: those of several processes would keep each other from work.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


_stay_on_one_core()


# Files whose tests take long: first, the longest of them before the others, or one core waits for
# them in the end.
LONGEST = (
    "test_readme.py",
    "test_integers.py",
    "test_search.py",
    "test_cli_prune.py",
    "test_cli.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first, and skips what needs a GPU where onnxruntime can use none."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    try:
        choose_provider("cuda")
    except UsageError as error:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=str(error)))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder for outputs alone."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder
