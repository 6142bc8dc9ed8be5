"""The parts of a sweep's report; one with nothing to say is left out."""

from onnx_relusv.report.formatting import number_text, percent_text, printable
from onnx_relusv.report.page import Heading, Section, Table
from onnx_relusv.report.sweep_words import (
    LOSS_NAMES,
    answers_text,
    batches,
    loss_text,
    marks_text,
    point_name,
    ratio_text,
)
from onnx_relusv.sweeps import Sweep

_INTERVAL = (
    "In brackets an exact 95 % interval of paired answers (Clopper and Pearson, with the union "
    "bound), for each point by itself."
)
LOSSES = {
    "accuracy": "Points of accuracy lost against the original.",
    "agreement": "Answers in a hundred that differ from the original's.",
    "error": "L2 of the difference over L2 of the original's, of the output that changes most.",
}


def points_section(sweep: Sweep) -> Section:
    """All points with their figures."""
    judged_by = sweep.judged_by
    answers = {
        "accuracy": Heading("accuracy", "Share of right answers of the file.", True),
        "agreement": Heading("agreement", "Share of answers equal to the original's.", True),
    }
    scored = judged_by in answers
    timed = batches(sweep)
    headings = (
        Heading("point", "The method and the share of the bytes that was asked for."),
        Heading("note", "Knees, and files that are slower than the original by more than 5 %."),
        Heading("bytes", "Of the original's.", True),
        Heading("MACs", "Of the original's.", True),
        *([answers[judged_by]] if scored else []),
        Heading(
            LOSS_NAMES[judged_by], f"{LOSSES[judged_by]}{f' {_INTERVAL}' if scored else ''}", True
        ),
        *([Heading("output error", LOSSES["error"], True)] if scored else []),
        *(
            Heading(
                f"time at {batch}",
                f"Median time of a run at batch {batch} over the original's, measured in turns.",
                True,
            )
            for batch in timed
        ),
        Heading("level", "The common level; by damage, the largest that was planned.", True),
        Heading("damage", "Expected divergence of the outputs, before the fit.", True),
    )
    rows = tuple(
        (
            point_name(point),
            marks_text(point, sweep),
            percent_text(point.bytes_share),
            percent_text(point.macs_share),
            *([answers_text(point)] if scored else []),
            loss_text(point),
            *([number_text(point.error)] if scored else []),
            *(ratio_text(point, batch) for batch in timed),
            number_text(point.level),
            number_text(point.damage),
        )
        for point in sweep.points
    )
    return Section(title="Points", table=Table(headings, rows))


def commands_section(sweep: Sweep) -> Section:
    """What makes every file again."""
    headings = (Heading("point"), Heading("command", code=True))
    rows = tuple((point_name(point), printable(point.command)) for point in sweep.points)
    text = "Each makes the same file again, byte by byte, with the versions below."
    if sweep.kept:
        text += " The files themselves are in the folder models beside this page."
    return Section(title="Commands", text=text, table=Table(headings, rows))


def missed_section(sweep: Sweep) -> tuple[Section, ...]:
    """What is not among the points."""
    if not sweep.missed:
        return ()
    headings = (Heading("point"), Heading("what became of it"), Heading("reason"))
    rows = tuple(
        (
            f"{one.method} {number_text(one.size)}",
            "failed its validation" if one.failed else "not reached",
            printable(one.reason),
        )
        for one in sweep.missed
    )
    return (Section(title="Missing points", table=Table(headings, rows)),)
