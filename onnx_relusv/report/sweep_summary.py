"""What a sweep comes to: the facts at the top, and where each method bends."""

from onnx_relusv.report.formatting import bytes_text, count_text, percent_text
from onnx_relusv.report.summary import Fact
from onnx_relusv.report.sweep_words import LOSS_NAMES, loss_text, point_name
from onnx_relusv.sweeps import Sweep


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
