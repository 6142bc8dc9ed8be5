"""The parts of a sweep's report; one with nothing to say is left out.

A sweep as a JSON-ready dictionary; docs/report-schema.md describes every field.

The plots of a sweep: what is lost over what is left, one line a method.

What a sweep comes to: the facts at the top, and where each method bends.

The picture of a sweep's report: what is lost over what is left.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite, log2

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    NullLocator,
    SymmetricalLogLocator,
)
from matplotlib.transforms import ScaledTranslation

from onnx_relusv.core.sweeps import JudgedBy, Judges, MissedPoint, PairedDrop, Sweep, SweepPoint
from onnx_relusv.report.data import (
    SCHEMA_VERSION,
    Data,
    evaluation_data,
    model_data,
    provenance_data,
    shares_data,
)
from onnx_relusv.report.page import Fact, Heading, Picture, Section, Table
from onnx_relusv.report.plots import inline_svg, light, plot_settings
from onnx_relusv.report.words import (
    LOSS_NAMES,
    answers_text,
    batches,
    bytes_text,
    count_text,
    loss_text,
    marks_text,
    number_text,
    percent_text,
    point_name,
    printable,
    ratio_text,
)


def sweep_data(sweep: Sweep) -> Data:
    """What `sweep` found, as JSON-ready data."""
    return {
        "schema": "onnx-relusv/sweep",
        "schema_version": SCHEMA_VERSION,
        "model": model_data(sweep.model),
        "judged_by": sweep.judged_by,
        "judges": _judges(sweep.judges),
        "methods": dict(sweep.meanings),
        "points": [_point(point, sweep) for point in sweep.points],
        "knees": dict(sweep.knees),
        "missed": [_missed(one) for one in sweep.missed],
        "kept": sweep.kept,
        "provenance": provenance_data(sweep.provenance),
    }


def _judges(judges: Judges) -> Data:
    return {
        "path": judges.path,
        "sha256": judges.sha256,
        "count": judges.count,
        "labelled": judges.labelled,
        "set_aside": judges.set_aside,
        "fit_samples": judges.fit_samples,
        "select_samples": judges.select_samples,
    }


def _point(point: SweepPoint, sweep: Sweep) -> Data:
    return {
        "method": point.method,
        "size": point.size,
        "after": model_data(point.after),
        "shares": shares_data(sweep.model, point.after),
        "level": point.level,
        "damage": point.damage,
        "drop": None if point.drop is None else _drop(point.drop),
        "error": point.error if math.isfinite(point.error) else None,
        "evaluation": evaluation_data(point.evaluation),
        "slower_at": list(point.slower_at),
        "command": point.command,
    }


def _drop(drop: PairedDrop) -> Data:
    return {
        "lost": drop.lost,
        "gained": drop.gained,
        "points": drop.points,
        "lower": drop.lower,
        "upper": drop.upper,
    }


def _missed(missed: MissedPoint) -> Data:
    return {
        "method": missed.method,
        "size": missed.size,
        "failed": missed.failed,
        "reason": missed.reason,
    }


# Roles of colours and marks, in the order of the methods.
ROLES = ("sigma", "estimate", "untrained", "active", "largest")
_MARKERS = ("o", "s", "^", "D", "v")
# Beyond this many of its units a loss is drawn on a logarithmic scale, so that a method that fails
# does not press all others onto the axis.
_LINEAR: dict[JudgedBy, float] = {"accuracy": 1.0, "agreement": 1.0, "error": 0.1}
# Inches between the lines of two methods.
_ASIDE = 0.025

Across = Callable[[SweepPoint], float | None]


def sweep_svg(
    sweep: Sweep, across: Across, *, label: str, name: str, logarithmic: bool = False
) -> str:
    """The loss of every point over something else, with its interval and the knees ringed.

    Args:
        sweep: The points.
        across: What a point's place on the horizontal axis is; None where it has none.
        label: What that is, in words.
        name: Sets the plot apart from the others of its page.
        logarithmic: Whether halving is a step of equal length everywhere.
    """
    with plot_settings():
        figure = Figure(figsize=(5.0, 3.1))
        figure.subplots_adjust(left=0.12, right=0.98, bottom=0.14, top=0.97)
        axes = figure.add_subplot()
        losses, places = [0.0], [1.0]
        for number, method in enumerate(sweep.meanings):
            shown = [
                (place, point)
                for point in sweep.curve(method)
                if (place := across(point)) is not None and isfinite(point.loss)
            ]
            _draw_curve(axes, shown, sweep, number)
            places += [place for place, _ in shown]
            losses += [end for _, point in shown for end in _ends(point)]
        axes.axhline(0, color=light("ink"), linewidth=0.6)
        axes.axvline(1, color=light("ink"), linewidth=0.6, linestyle=(0, (1, 2)))
        axes.set_xlabel(label, labelpad=2)
        axes.set_ylabel(LOSS_NAMES[sweep.judged_by], labelpad=2)
        if logarithmic:
            _halvings(axes, min(places))
        else:
            axes.set_xlim(0, 1.08 * max(places))
            axes.xaxis.set_major_locator(MaxNLocator(8))
        _scale(axes, losses, _LINEAR[sweep.judged_by])
        text = f"{LOSS_NAMES[sweep.judged_by]}, over {label}, of {', '.join(sweep.meanings)}"
        return inline_svg(figure, name=name, label=text)


def _draw_curve(
    axes: Axes, shown: Sequence[tuple[float, SweepPoint]], sweep: Sweep, number: int
) -> None:
    colour, marker = light(ROLES[number % len(ROLES)]), _MARKERS[number % len(_MARKERS)]
    places = [place for place, _ in shown]
    # Intervals of several methods at one size would cover one another.
    aside = axes.transData + ScaledTranslation(
        _ASIDE * (number - (len(sweep.meanings) - 1) / 2), 0, axes.figure.dpi_scale_trans
    )
    for place, point in shown:
        axes.vlines(place, *_ends(point), color=colour, linewidth=0.8, transform=aside)
    # In the order of the sizes, so that a latency that turns back is seen to.
    axes.plot(
        places,
        [point.loss for _, point in shown],
        color=colour,
        linewidth=1.2,
        marker=marker,
        markersize=3.6,
        transform=aside,
    )
    knees = [(place, point.loss) for place, point in shown if sweep.is_knee(point)]
    axes.plot(
        [place for place, _ in knees],
        [loss for _, loss in knees],
        color=light("chosen"),
        linestyle="none",
        marker="o",
        markersize=9,
        markerfacecolor="none",
        markeredgewidth=1.4,
        transform=aside,
    )


def _ends(point: SweepPoint) -> tuple[float, float]:
    """From where to where a point reaches."""
    if point.drop is None:
        return point.loss, point.loss
    return point.drop.lower, point.drop.upper


def _halvings(axes: Axes, least: float) -> None:
    """A logarithmic axis from the least share to 1, with a label at every halving."""
    axes.set_xscale("log")
    axes.set_xlim(least / 1.15, 1.15)
    shares = [2.0**-power for power in range(int(-log2(least)) + 1)]
    axes.xaxis.set_major_locator(FixedLocator(shares))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{number_text(100 * value)} %"))


def _scale(axes: Axes, losses: Sequence[float], linear: float) -> None:
    low, high = min(losses), max(losses)
    if high > 5 * linear:
        axes.set_yscale("symlog", linthresh=linear)
        axes.yaxis.set_major_locator(
            SymmetricalLogLocator(base=10, linthresh=linear, subs=(1.0, 2.0, 5.0))
        )
        axes.set_ylabel(f"{axes.get_ylabel()} (logarithmic beyond {number_text(linear)})")
        axes.set_ylim(1.2 * low, 1.3 * high)
    else:
        # Without any loss there is still an axis.
        margin = 0.08 * (high - low) or linear
        axes.set_ylim(low - margin, high + margin)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number_text(value)))


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


def sweep_facts(sweep: Sweep) -> tuple[Fact, ...]:
    """The summary of a sweep."""
    failed = sum(one.failed for one in sweep.missed)
    missed = f"{len(sweep.missed) - failed} not reached, {failed} failed"
    judges = sweep.judges
    where = "set aside of the samples" if judges.set_aside else "that nothing was fitted to"
    return (
        Fact("original", bytes_text(sweep.model.bytes), f"{count_text(sweep.model.macs)} MACs"),
        *_accuracy(sweep),
        Fact("points", str(len(sweep.points)), missed),
        Fact("judged on", f"{judges.count} samples", where),
        *(
            Fact(
                f"knee of {point.method}",
                f"{percent_text(point.bytes_share)} of the bytes",
                f"{LOSS_NAMES[sweep.judged_by]}: {loss_text(point)}",
            )
            for point in sweep.points
            if sweep.is_knee(point)
        ),
    )


def sweep_notes(sweep: Sweep) -> tuple[str, ...]:
    """Sentences on what was judged, and on what is to be known of the points."""
    judges = sweep.judges
    sentences = [_judged_on(sweep)]
    if sweep.judged_by == "error" and judges.labelled:
        sentences.append("No output has class scores, so the labels say nothing.")
    without = [name for name, size in sweep.knees.items() if size is None]
    if without:
        sentences.append(
            f"No knee is marked for {', '.join(without)}: there are fewer than three points on the "
            "curve's lower left, or it is flat or straight."
        )
    slower = [point_name(point) for point in sweep.points if point.slower_at]
    if slower:
        sentences.append(
            f"Slower than the original by more than 5 % at some batch size: {', '.join(slower)}."
        )
    return tuple(sentences)


def _judged_on(sweep: Sweep) -> str:
    judges, provenance = sweep.judges, sweep.provenance
    parts = f"{judges.fit_samples} others were fitted to and {judges.select_samples} chosen on"
    if not judges.fit_samples:
        parts = "nothing was fitted to any"
    if judges.set_aside:
        return (
            f"Files are judged on {judges.count} of the {provenance.sample_count} samples, which "
            f"were set aside for it by the seed; {parts}."
        )
    return f"Files are judged on {judges.count} samples of their own; {parts}."


def _accuracy(sweep: Sweep) -> tuple[Fact, ...]:
    accuracy = sweep.points[0].evaluation.accuracy_before
    if accuracy is None:
        return ()
    return (Fact("accuracy of the original", percent_text(accuracy)),)


_KNEE = (
    "Knee: the point of a method's lower-left hull over bytes that is farthest from its chord, "
    "both axes normalised; a heuristic that depends on the sizes asked for."
)


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
            f"{LOSSES[sweep.judged_by]} Bars are 95 % intervals. {_KNEE}"
            if sweep.judged_by != "error"
            else f"{LOSSES['error']} {_KNEE}"
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


def _ratio(batch: int, point: SweepPoint) -> float | None:
    return point.ratios.get(batch)
