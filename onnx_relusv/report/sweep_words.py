"""What a sweep's figures are called: in the page, in its plots and in the terminal."""

from onnx_relusv.report.formatting import NOTHING, number_text, percent_text
from onnx_relusv.sweeps import JudgedBy, Sweep, SweepPoint

# The loss, as an axis and a column have it.
LOSS_NAMES: dict[JudgedBy, str] = {
    "accuracy": "accuracy lost, points",
    "agreement": "answers changed, points",
    "error": "relative output error",
}
KNEE = "knee"


def point_name(point: SweepPoint) -> str:
    """A point's method and the size that was asked for."""
    return f"{point.method} {number_text(point.size)}"


def marks_text(point: SweepPoint, sweep: Sweep) -> str:
    """What is to be noted of a point."""
    marks = [KNEE] if sweep.is_knee(point) else []
    if point.slower_at:
        marks.append(f"slower at batch {' and '.join(map(str, point.slower_at))}")
    return ", ".join(marks)


def loss_text(point: SweepPoint) -> str:
    """The loss, with its interval where there is one."""
    drop = point.drop
    if drop is None:
        return number_text(point.error)
    # Zero is added because what rounds to zero from below would keep its sign.
    value, lower, upper = (
        f"{round(one, 2) + 0.0:.2f}" for one in (drop.points, drop.lower, drop.upper)
    )
    return f"{value} [{lower}, {upper}]"


def answers_text(point: SweepPoint) -> str:
    """The accuracy of the file, or without labels the share of equal answers."""
    after = point.evaluation.accuracy_after
    return percent_text(point.evaluation.agreement if after is None else after)


def ratio_text(point: SweepPoint, batch: int) -> str:
    """Time of a run over the original's."""
    ratio = point.ratios.get(batch)
    return NOTHING if ratio is None else f"{ratio:.2f}"


def batches(sweep: Sweep) -> list[int]:
    """The batch sizes at which files were timed."""
    return sorted({batch for point in sweep.points for batch in point.ratios})
