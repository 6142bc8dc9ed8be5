"""The parts of a sweep's report; one with nothing to say is left out."""

from functools import partial

from onnx_relusv.report.formatting import number_text, percent_text, printable
from onnx_relusv.report.page import Heading, Picture, Section, Table
from onnx_relusv.report.sweep_plots import ROLES, Across, sweep_svg
from onnx_relusv.report.sweep_summary import sweep_notes
from onnx_relusv.report.sweep_words import (
    LOSS_NAMES,
    answers_text,
    batches,
    loss_text,
    marks_text,
    point_name,
    ratio_text,
)
from onnx_relusv.sweeps import Sweep, SweepPoint

_INTERVAL = (
    "In brackets an exact 95 % interval of paired answers (Clopper and Pearson, with the union "
    "bound), for each point by itself."
)
_KNEE = (
    "Knee: the point of a method's lower-left hull over bytes that is farthest from its chord, "
    "both axes normalised; a heuristic that depends on the sizes asked for."
)
_LOSSES = {
    "accuracy": "Points of accuracy lost against the original.",
    "agreement": "Answers in a hundred that differ from the original's.",
    "error": "L2 of the difference over L2 of the original's, of the output that changes most.",
}


def curves_section(sweep: Sweep) -> Section:
    """The loss over the bytes, the MACs, and the time of a run."""
    shares: tuple[tuple[str, Across], ...] = (
        ("bytes", lambda point: point.bytes_share),
        ("MACs", lambda point: point.macs_share),
    )
    pictures = [
        _picture(sweep, across, f"{name}, of the original's", name.lower(), logarithmic=True)
        for name, across in shares
    ]
    for batch in batches(sweep):
        words = f"time of a run at batch {batch}, of the original's"
        pictures.append(_picture(sweep, partial(_ratio, batch), words, f"time-{batch}"))
    return Section(
        title="What is lost, and what is left",
        text=(
            f"{_LOSSES[sweep.judged_by]} Bars are 95 % intervals. {_KNEE}"
            if sweep.judged_by != "error"
            else f"{_LOSSES['error']} {_KNEE}"
        ),
        points=sweep_notes(sweep),
        pictures=tuple(pictures),
        legend=(
            *(
                (ROLES[number % len(ROLES)], f"{method}: {meaning}")
                for number, (method, meaning) in enumerate(sweep.meanings.items())
            ),
            ("chosen", "ring: knee"),
        ),
    )


def _picture(
    sweep: Sweep, across: Across, words: str, name: str, *, logarithmic: bool = False
) -> Picture:
    svg = sweep_svg(sweep, across, label=words, name=name, logarithmic=logarithmic)
    return Picture(svg, wide=True)


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
            LOSS_NAMES[judged_by], f"{_LOSSES[judged_by]}{f' {_INTERVAL}' if scored else ''}", True
        ),
        *([Heading("output error", _LOSSES["error"], True)] if scored else []),
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


def _ratio(batch: int, point: SweepPoint) -> float | None:
    return point.ratios.get(batch)
