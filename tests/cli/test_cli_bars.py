"""Progress bars: one a stage, however often a stage comes again."""

from rich.progress import Progress

from onnx_relusv.cli.bars import Bars


def test_a_stage_that_comes_again_takes_the_place_of_the_last() -> None:
    shown = Progress(disable=True)
    bars = Bars(shown)
    with bars.stage("Sweep", 3) as advance:
        for _ in range(3):
            with bars.stage("Fit", 10) as inner:
                inner(7)
            advance(1)
    assert [(task.description, task.completed) for task in shown.tasks] == [
        ("Sweep", 3),
        ("Fit", 7),
    ]
