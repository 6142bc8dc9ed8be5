import io
from dataclasses import replace

import numpy as np
from rich.console import Console
from traced import block_trace, trace_of

from onnx_relusv.core.traces import Trace
from onnx_relusv.report.terminal import report_parts

HOSTILE = "<script>[bold]x\x1b[31m\u202e"


def shown(trace: Trace, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for part in report_parts(trace):
        console.print(part)
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


def lines(text: str, start: str) -> list[str]:
    """What stands in the lines that start so, spaces made single."""
    return [" ".join(one.split()) for one in text.splitlines() if one.strip().startswith(start)]


def test_a_block_has_its_medians_and_its_areas() -> None:
    trace = trace_of(("conv1", "fc1"))
    medians, areas = lines(shown(trace), "fc1")
    block, correct = trace.blocks[1], trace.correct
    assert correct is not None
    right, wrong = (float(np.median(block.active[kind])) for kind in (correct, ~correct))
    assert medians.startswith(f"fc1 32 1 {right:.3g} / {wrong:.3g} ")
    assert medians.endswith(" 4 %")
    assert trace.separation is not None
    first = trace.separation.scores[4].auroc
    assert areas.startswith(f"fc1 {first.value:.3f} [{first.lower:.3f}, {first.upper:.3f}] low 0.")
    assert lines(shown(trace), "conv1")[0].endswith(" exact")


def test_scores_and_sentences_stand_below() -> None:
    text = shown(trace_of(("conv1", "fc1")))
    order = [
        text.index(part)
        for part in (
            "AUROC by block",
            "chosen on these same inputs",
            "max softmax   ",
            "combined with max softmax and entropy",
            "All quantities of all blocks, combined by a fit that never saw the input it scores",
            "its weight is [b]computed[/b]",
            "accuracy",
            "warning: block <conv9> has no activation.",
        )
    ]
    assert order == sorted(order)
    assert lines(text, "max softmax")[0].endswith(" -")


def test_names_are_shown_literally_in_a_narrow_terminal() -> None:
    trace = trace_of((HOSTILE, "fc1"))
    for width in (60, 300):
        text = shown(trace, width)
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert "<script>[bold]x\\x1b[31m\\u202e" in text


def test_without_labels_there_are_medians_of_all() -> None:
    trace = trace_of(("conv1", "fc1"))
    text = shown(replace(trace, correct=None, separation=None))
    assert "Medians of all inputs" in text
    assert "AUROC" not in text
    assert "The samples have no labels" in text
    (medians,) = lines(text, "fc1")
    assert "/" not in medians


def test_blocks_that_do_nothing_are_shown() -> None:
    trace = trace_of(("conv1",))
    dead = replace(
        block_trace("dead", np.zeros(400)),
        active=np.zeros(400),
        width_lower=np.zeros(400),
        width_upper=np.zeros(400),
        margin=np.full(400, np.inf),
    )
    (medians,) = lines(shown(replace(trace, blocks=(dead,))), "dead")
    assert medians == "dead 64 1 0 / 0 0 / 0 1.33 / 1.33 inf / inf exact"


def test_without_blocks_that_is_said() -> None:
    assert "No block was traced." in shown(replace(trace_of(("conv1",)), blocks=()))
