"""How much the written file loses at most, and the sizes that were tried to find it."""

from onnx_relusv.outcomes import Certificate
from onnx_relusv.report.formatting import (
    NOTHING,
    confidence_text,
    number_text,
    percent_text,
    points_text,
)
from onnx_relusv.report.page import Heading, Section, Table


def certificate_sections(certificate: Certificate | None) -> tuple[Section, ...]:
    """The certificate and the tries, where a largest drop was asked for."""
    if certificate is None:
        return ()
    return (_certified(certificate), _tried(certificate))


def what_is_lost(certificate: Certificate) -> str:
    """What the points are points of."""
    return "accuracy" if certificate.labelled else "changed answers"


def _certified(certificate: Certificate) -> Section:
    lost, gained = str(certificate.lost), certificate.gained
    counts = (
        (("answers that changed", lost),)
        if gained is None
        else (
            ("right in the original alone", lost),
            ("right in the result alone", str(gained)),
        )
    )
    rows = (
        ("largest drop asked for", points_text(certificate.max_drop)),
        ("confidence", confidence_text(certificate.confidence)),
        ("samples for fitting", str(certificate.fit_samples)),
        ("samples for choosing", str(certificate.select_samples)),
        ("samples for certifying", str(certificate.certify_samples)),
        *((f"of these, {name}", count) for name, count in counts),
        ("drop on these", points_text(certificate.drop)),
        ("upper bound", points_text(certificate.bound)),
        ("drop on the samples for choosing", points_text(certificate.select_drop)),
    )
    text = (
        f"Points of {what_is_lost(certificate)}. Certified: on samples like these the result loses "
        f"{points_text(certificate.max_drop)} at most, with a confidence of "
        f"{confidence_text(certificate.confidence)}. The samples for certifying were set aside by "
        "the seed; nothing was fitted to them or chosen on them."
    )
    return Section(
        title="Certificate",
        text=text,
        table=Table((Heading("what"), Heading("value", "", True)), rows),
    )


def _tried(certificate: Certificate) -> Section:
    headings = (
        Heading("size", "Planned share of the original's bytes, an upper bound.", True),
        Heading("drop", "In points, on the samples for choosing.", True),
        Heading(
            "bound", "In points, from the samples for certifying; a dash: not looked at.", True
        ),
        Heading("what became of it"),
    )
    taken = [
        trial.bound is not None and trial.bound <= certificate.max_drop
        for trial in certificate.trials
    ]
    last = max(index for index, passed in enumerate(taken) if passed)
    rows = tuple(
        (
            percent_text(trial.size),
            number_text(trial.select_drop),
            NOTHING if trial.bound is None else number_text(trial.bound),
            "written" if index == last else _fate(trial.bound, passed=taken[index]),
        )
        for index, trial in enumerate(certificate.trials)
    )
    text = "Certified from the largest file down; the first that fails ends it."
    return Section(title="Sizes tried", text=text, table=Table(headings, rows))


def _fate(bound: float | None, *, passed: bool) -> str:
    if bound is None:
        return "not looked at"
    return "certified" if passed else "not certified"
