"""The picture of a sweep's report: what is lost over what is left."""

from functools import partial

from onnx_relusv.report.page import Picture, Section
from onnx_relusv.report.sweep_plots import ROLES, Across, sweep_svg
from onnx_relusv.report.sweep_sections import LOSSES
from onnx_relusv.report.sweep_summary import sweep_notes
from onnx_relusv.report.sweep_words import batches
from onnx_relusv.sweeps import Sweep, SweepPoint

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
