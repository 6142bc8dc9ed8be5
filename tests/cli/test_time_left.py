"""How much time is left: from known shares of stages, with a clock that the tests move."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import classified
import pytest

from onnx_relusv import Budgets, PlanOptions, SweepOptions, compress, inspect, plan
from onnx_relusv.cli.time_left import TimeLeft, expected, words
from onnx_relusv.work.executors import Advance, unseen


class Stages:
    """Remembers the stages that came."""

    def __init__(self) -> None:
        self.names: list[str] = []

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        self.names.append(name)
        yield unseen


STAGES = {"measure": 1.0, "fit": 3.0, "check": 1.0}


def test_the_rest_takes_as_long_as_its_share() -> None:
    left = TimeLeft(STAGES)
    left.begin("measure", 10, now=0.0)
    assert left.left(5.0) is None  # nothing is done
    left.advance("measure", 5, now=10.0)
    # A tenth of all work took 10 seconds.
    assert left.left(10.0) == pytest.approx(90)
    left.advance("measure", 5, now=20.0)
    left.end("measure")
    left.begin("fit", 4, now=20.0)
    assert left.left(20.0) == pytest.approx(80)
    left.advance("fit", 2, now=50.0)
    assert left.left(50.0) == pytest.approx(50)
    left.end("fit")
    left.begin("check", 1, now=80.0)
    left.end("check")
    assert left.left(100.0) == 0


def test_too_soon_nothing_is_said() -> None:
    left = TimeLeft(STAGES)
    left.begin("measure", 10, now=0.0)
    left.advance("measure", 9, now=1.0)
    assert left.left(1.0) is None
    assert TimeLeft({}).left(100.0) is None


def test_stages_that_do_not_come_are_not_waited_for() -> None:
    left = TimeLeft(STAGES)
    left.begin("measure", 1, now=0.0)
    left.end("measure")
    left.begin("check", 2, now=10.0)
    left.advance("check", 1, now=15.0)
    assert left.left(15.0) == pytest.approx(5)


def test_what_was_known_before_took_no_time() -> None:
    left = TimeLeft(STAGES)
    left.begin("measure", 10, now=0.0)
    left.advance("measure", 8, now=0.1)
    left.advance("measure", 2, now=4.0)
    left.end("measure")
    # A fifth of the first stage took 4 seconds, and 4 shares of 5 are left.
    assert left.left(4.0) == pytest.approx(4 / 0.2 * 4)


def test_unknown_and_repeated_stages_change_nothing() -> None:
    left = TimeLeft(STAGES)
    left.begin("measure", 1, now=0.0)
    left.end("measure")
    left.begin("other", 3, now=10.0)
    left.advance("other", 3, now=11.0)
    left.end("other")
    left.begin("measure", 1, now=12.0)
    left.advance("measure", 1, now=13.0)
    assert left.left(13.0) == pytest.approx(4 * 13)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, ""),
        (3, "less than half a minute left"),
        (30, "about half a minute left"),
        (70, "about a minute left"),
        (170, "about 3 min left"),
        (1450, "about 25 min left"),
        (9000, "about 2 h left"),
    ],
)
def test_it_is_said_as_roughly_as_it_is_known(seconds: float | None, said: str) -> None:
    assert words(seconds) == said


def test_the_stages_that_come_are_expected(tmp_path: Path) -> None:
    samples = tmp_path / "s.npz"
    classified.samples(tmp_path, classified.classifier(tmp_path))
    for command, function, options in (
        ("inspect", inspect, {}),
        ("compress", compress, {"output": tmp_path / "o.onnx"}),
        ("dry-run", plan, {}),
    ):
        planning = PlanOptions(budgets=Budgets(size=0.5))
        given = {} if command == "inspect" else {"planning": planning}
        stages = Stages()
        function(  # type: ignore[operator]
            tmp_path / "classifier.onnx", samples=samples, progress=stages, **given, **options
        )
        known = list(expected(command, {"samples": samples, **given}))
        came = [name for name in dict.fromkeys(stages.names) if name in known]
        assert len(came) >= 2
        assert came == [name for name in known if name in came]
        # Nothing that takes long is forgotten: these are brief, or only looked at on the way.
        assert set(stages.names) - set(known) <= {"Samples", "Latency of the changed blocks"}


def test_searches_and_sweeps_take_longer() -> None:
    samples = Path("s.npz")

    def whole(command: str, **arguments: object) -> float:
        return sum(expected(command, {"samples": samples, **arguments}).values())

    plain, limited, timed = (
        whole("compress", planning=PlanOptions(budgets=budgets))
        for budgets in (Budgets(size=0.5), Budgets(max_drop=1.0), Budgets(latency=0.5))
    )
    assert plain < timed < limited < whole("sweep", sweeping=SweepOptions())
    assert whole("apply") < plain
    assert sum(expected("apply", {"samples": None}).values()) < whole("apply")
    assert (whole("compare"), whole("trace")) == (1.0, 1.0)
