"""The report of a sweep: its facts, its sections, and what is lost over what is left, drawn."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from math import isfinite

from onnx_relusv.core.sweeps import JudgedBy, MissedPoint, PeerPoint, Sweep, SweepPoint
from onnx_relusv.report import words
from onnx_relusv.report.curves import Curve, CurveAxes, CurvePoint, curves_svg
from onnx_relusv.report.page import Advice, Column, Fact, Legend, Number, Part, Picture

# The loss, as an axis and a column have it, and in a sentence.
LOSS_NAMES: dict[JudgedBy, str] = {
    "accuracy": "accuracy lost, points",
    "agreement": "answers changed, points",
    "error": "relative output error",
}
LOSSES: dict[JudgedBy, str] = {
    "accuracy": "Points of accuracy lost against the original.",
    "agreement": "Answers in a hundred that differ from the original's.",
    "error": "L2 of the difference over L2 of the original's, of the output that changes most.",
}
_INTERVAL = (
    "In brackets an exact 95 % interval of paired answers (Clopper and Pearson, with the union "
    "bound), for each point by itself."
)
_KNEE = (
    "Knee: the point of a method's lower-left hull over bytes that is farthest from its chord, "
    "both axes normalised; a heuristic that depends on the sizes asked for."
)


def _name(point: SweepPoint | MissedPoint) -> str:
    """A point's method and the size that was asked for."""
    return f"{point.method} {words.number(point.size)}"


def _loss(point: SweepPoint) -> str:
    """The loss, with its interval where there is one."""
    drop = point.drop
    if drop is None:
        return words.number(point.error)
    # Zero is added because what rounds to zero from below would keep its sign.
    value, lower, upper = (
        f"{round(one, 2) + 0.0:.2f}" for one in (drop.points, drop.lower, drop.upper)
    )
    return f"{value} [{lower}, {upper}]"


def _ratio(batch: int, point: SweepPoint) -> float | None:
    """Time of a run over the original's; None where it was not measured."""
    return point.ratios.get(batch)


def _batches(sweep: Sweep) -> list[int]:
    """The batch sizes at which files were timed."""
    return sorted({batch for point in sweep.points for batch in point.ratios})


def _marks(sweep: Sweep, point: SweepPoint | PeerPoint) -> str:
    if isinstance(point, PeerPoint):
        return "peer"
    slower = f"slower at batch {' and '.join(map(str, point.slower_at))}" if point.slower_at else ""
    return ", ".join(filter(None, ("knee" * sweep.is_knee(point), slower)))


_POINT = Column("point", "The method and the share of the bytes that was asked for.", _name)
_OF_IT = "Of the original's."
# What is right or equal where answers are judged: its meaning, and where it is.
_ANSWERS: dict[JudgedBy, tuple[str, str]] = {
    "accuracy": ("Share of right answers of the file.", "evaluation.accuracy_after"),
    "agreement": ("Share of answers equal to the original's.", "evaluation.agreement"),
}


def _nothing(_: PeerPoint) -> None:
    return None


def _or_peer(
    column: Column, of_peer: Callable[[PeerPoint], float | str | None] = _nothing
) -> Column:
    """A column of points that says something, or nothing, of files of others too."""

    def value(row: SweepPoint | PeerPoint) -> object:
        return of_peer(row) if isinstance(row, PeerPoint) else column.read(row)

    return replace(column, value=value)


def _rows(sweep: Sweep) -> tuple[SweepPoint | PeerPoint, ...]:
    return (*sweep.points, *sweep.peers)


def _peer_loss(sweep: Sweep, peer: PeerPoint) -> str:
    loss = sweep.peer_loss(peer)
    return words.number(loss) if sweep.judged_by == "error" else f"{round(loss, 2) + 0.0:.2f}"


def _peer_answers(sweep: Sweep, peer: PeerPoint) -> float | None:
    """The share of answers that are right, or equal, that belongs to a peer's loss."""
    whole = sweep.points[0].evaluation.accuracy_before if sweep.judged_by == "accuracy" else 1.0
    return None if whole is None else whole - sweep.peer_loss(peer) / 100


def _peer_time(peer: PeerPoint) -> float | None:
    """Of a run with one sample; of others nothing is said."""
    return peer.latency


def _columns(sweep: Sweep, *, short: bool = False, full: bool = False) -> tuple[Column, ...]:
    """The columns that say something of a point; terminal and page have the most important."""
    loss = sweep.judged_by
    answers = not short and loss in _ANSWERS
    explanation = LOSSES[loss] if loss == "error" else f"{LOSSES[loss]} {_INTERVAL}"
    slower = "Knees, and files that are slower than the original by more than 5 %."
    if sweep.peers:
        slower += " Peers are files of others, as their makers say."
    columns = [
        _or_peer(_POINT, lambda peer: peer.name),
        Column("note", slower, partial(_marks, sweep)),
        _or_peer(Number("bytes", _OF_IT, "shares.size", words.percent), lambda peer: peer.bytes),
        _or_peer(Number("MACs", _OF_IT, "shares.macs", words.percent), lambda peer: peer.macs),
    ]
    if answers:
        shares = Number(loss, *_ANSWERS[loss], words.percent)
        columns.append(_or_peer(shares, partial(_peer_answers, sweep)))
    lost = Number(LOSS_NAMES[loss], explanation, _loss)
    columns.append(_or_peer(lost, partial(_peer_loss, sweep)))
    if answers and full:
        columns.append(_or_peer(Number("output error", LOSSES["error"], "error")))
    for batch in _batches(sweep):
        time = Number(
            f"time at {batch}",
            f"Median time of a run at batch {batch} over the original's, measured in turns.",
            partial(_ratio, batch),
            "{:.2f}".format,
        )
        columns.append(_or_peer(time, _peer_time if batch == 1 else _nothing))
    if full:
        error = Number(
            "relative error",
            "Also called level: the one that all blocks share; where the expected change "
            "decided, the largest that was planned.",
            "level",
        )
        change = Number(
            "expected change",
            "Also called damage: expected divergence of the outputs, before the fit.",
            "damage",
        )
        columns += [_or_peer(error), _or_peer(change)]
    said = (
        one for one in columns if any(one.cell(row).strip(words.NOTHING) for row in _rows(sweep))
    )
    return tuple(said)


POINTS: Part[Sweep] = Part(title="Points", of=_rows, columns=_columns)
FULL_POINTS = replace(
    POINTS, title="Points, with planned errors", columns=partial(_columns, full=True)
)
SHORT_POINTS = replace(POINTS, columns=partial(_columns, short=True))
COMMANDS: Part[Sweep] = Part(
    title="Commands",
    of=lambda sweep: sweep.points,
    columns=(Column("point", "", _name), Column("command", code=True)),
    text=lambda sweep: (
        "Each makes the same file again, byte by byte, with the versions below."
        + " The files themselves are in the folder models beside this page." * sweep.kept
    ),
)
MISSED: Part[Sweep] = Part(
    title="Missing points",
    of=lambda sweep: sweep.missed,
    columns=(
        Column("point", "", _name),
        Column(
            "what became of it",
            "",
            lambda missed: "failed its validation" if missed.failed else "not reached",
        ),
        Column("reason"),
    ),
)


def sweep_facts(sweep: Sweep) -> Iterator[Fact]:
    """The summary of a sweep."""
    judges, accuracy = sweep.judges, sweep.points[0].evaluation.accuracy_before
    macs = f"{words.count(sweep.model.macs)} MACs"
    yield Fact("original", words.size(sweep.model.bytes), macs)
    if accuracy is not None:
        yield Fact("accuracy of the original", words.percent(accuracy))
    failed = sum(one.failed for one in sweep.missed)
    missed = f"{len(sweep.missed) - failed} not reached, {failed} failed"
    yield Fact("points", str(len(sweep.points)), missed)
    where = "set aside of the samples" if judges.set_aside else "that nothing was fitted to"
    yield Fact("judged on", f"{judges.count} samples", where)
    for point in filter(sweep.is_knee, sweep.points):
        share = f"{words.percent(point.shares.size)} of the bytes"
        loss = f"{LOSS_NAMES[sweep.judged_by]}: {_loss(point)}"
        yield Fact(f"knee, method {point.method}", share, loss)


# What a file may lose to be named as the smallest: points, or of an output's size.
_LITTLE: dict[JudgedBy, tuple[float, str]] = {
    "accuracy": (1.0, "1 point of accuracy"),
    "agreement": (1.0, "1 answer in a hundred"),
    "error": (0.03, "0.03 of the size of its outputs"),
}


def sweep_advice(sweep: Sweep) -> Iterator[Advice]:
    """Which of the files to take, with the command that makes it."""
    most, little = _LITTLE[sweep.judged_by]
    fine = [point for point in sweep.points if _ends(point)[1] <= most]
    smallest = min(fine, key=lambda point: point.after.bytes, default=None)
    surely = "" if sweep.judged_by == "error" else ", at the upper end of its interval"
    if smallest is None:
        yield Advice(
            f"No file here loses {little} at most{surely}: try larger sizes, or more samples."
        )
        return
    yield Advice(
        f"The smallest file here that changes {little} at most{surely}: {_name(smallest)}, with "
        f"{words.percent(smallest.shares.size)} of the bytes.",
        smallest.command,
    )


def _notes(sweep: Sweep) -> Iterator[str]:
    """Sentences on what was judged, and on what is to be known of the points."""
    judges = sweep.judges
    parts = f"{judges.fit_samples} others were fitted to and {judges.select_samples} chosen on"
    if not judges.fit_samples:
        parts = "nothing was fitted to any"
    which = "samples of their own"
    if judges.set_aside:
        count = sweep.provenance.sample_count
        which = f"of the {count} samples, which were set aside for it by the seed"
    yield f"Files are judged on {judges.count} {which}; {parts}."
    if sweep.judged_by == "error" and judges.labelled:
        yield "No output has class scores, so the labels say nothing."
    without = [name for name, size in sweep.knees.items() if size is None]
    if without:
        yield (
            f"No knee is marked for {', '.join(without)}: there are fewer than three points on the "
            "curve's lower left, or it is flat or straight."
        )
    slower = [_name(point) for point in sweep.points if point.slower_at]
    if slower:
        yield f"Slower than the original by more than 5 % at some batch size: {', '.join(slower)}."
    terms = words.terms((*sweep.meanings.values(), *(missed.reason for missed in sweep.missed)))
    if terms:
        yield terms


NOTES: Part[Sweep] = Part(
    title="About these points",
    of=lambda sweep: sweep.points,
    points=lambda sweep: (
        *(f"{method}: {meaning}." for method, meaning in sweep.meanings.items()),
        *_notes(sweep),
    ),
)


PAGE_NOTES = replace(NOTES, points=_notes)


def _pictures(sweep: Sweep) -> Iterator[Picture]:
    """The loss over the bytes, the MACs, and the time of a run."""
    across: list[tuple[str, str, Across, AcrossPeers]] = [
        ("bytes", "bytes", lambda one: one.shares.size, lambda peer: peer.bytes),
        ("MACs", "macs", lambda one: one.shares.macs, lambda peer: peer.macs),
    ]
    for batch in _batches(sweep):
        peers: AcrossPeers = _peer_time if batch == 1 else _nothing
        time = f"time of a run at batch {batch}"
        across.append((time, f"time-{batch}", partial(_ratio, batch), peers))
    for title, name, place, of_peer in across:
        logarithmic, label = name in ("bytes", "macs"), f"{title}, of the original's"
        svg = sweep_svg(sweep, place, label, name, logarithmic=logarithmic, of_peer=of_peer)
        yield Picture(svg, wide=True)


def _legend(sweep: Sweep) -> Legend:
    methods = enumerate(sweep.meanings.items())
    curves = ((_ROLES[n % len(_ROLES)], f"{method}: {meaning}") for n, (method, meaning) in methods)
    ring = [("chosen", "ring: knee")] if any(map(sweep.is_knee, sweep.points)) else []
    peers = [("level", "star: peer, made by something else")] if sweep.peers else []
    return (*curves, *ring, *peers)


CURVES: Part[Sweep] = Part(
    title="What is lost, and what is left",
    of=lambda sweep: sweep.points,
    text=lambda sweep: (
        f"{LOSSES[sweep.judged_by]} "
        + "Bars are 95 % intervals. " * (sweep.judged_by != "error")
        + _KNEE
    ),
    pictures=_pictures,
    legend=_legend,
)

# Roles of colours and marks, in the order of the methods.
_ROLES = ("sigma", "estimate", "untrained", "active", "largest", "wrong", "margin")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Beyond this many of its units a loss is drawn on a logarithmic scale, if it has to be.
_LINEAR: dict[JudgedBy, float] = {"accuracy": 1.0, "agreement": 1.0, "error": 0.1}

Across = Callable[[SweepPoint], float | None]
AcrossPeers = Callable[[PeerPoint], float | None]


def sweep_svg(
    sweep: Sweep,
    across: Across,
    label: str,
    name: str,
    *,
    logarithmic: bool = False,
    of_peer: AcrossPeers = _nothing,
) -> str:
    """The loss of every point over something else, with its interval and the knees ringed.

    Args:
        sweep: The points.
        across: What a point's place on the horizontal axis is; None where it has none.
        label: What that is, in words.
        name: Sets the plot apart from the others of its page.
        logarithmic: Whether halving is a step of equal length everywhere.
        of_peer: As `across`, of files of others.
    """
    loss_name = LOSS_NAMES[sweep.judged_by]
    curves = [
        Curve(
            role=_ROLES[number % len(_ROLES)],
            marker=_MARKERS[number % len(_MARKERS)],
            points=[
                CurvePoint(place, point.loss, *_ends(point), ringed=sweep.is_knee(point))
                for point in sweep.curve(method)
                if (place := across(point)) is not None and isfinite(point.loss)
            ],
        )
        for number, method in enumerate(sweep.meanings)
    ]
    others = [
        CurvePoint(place, loss, loss, loss)
        for peer, loss in ((peer, sweep.peer_loss(peer)) for peer in sweep.peers)
        if (place := of_peer(peer)) is not None
    ]
    if others:
        curves.append(Curve(role="level", marker="*", points=others, joined=False))
    axes = CurveAxes(
        across=label,
        upward=loss_name,
        linear=_LINEAR[sweep.judged_by],
        logarithmic=logarithmic,
    )
    text = f"{loss_name}, over {label}, of {', '.join(sweep.meanings)}"
    return curves_svg(curves, axes, name=name, label=text)


def _ends(point: SweepPoint) -> tuple[float, float]:
    """From where to where a point reaches."""
    if point.drop is None:
        return point.loss, point.loss
    return point.drop.lower, point.drop.upper
