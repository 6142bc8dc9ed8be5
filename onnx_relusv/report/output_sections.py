"""How far the outputs of two models are apart, for the page and the terminal."""

import math
from collections.abc import Iterable, Iterator, Sequence

from onnx_relusv.output_change import NotFinite, OutputChange
from onnx_relusv.report.formatting import NOTHING, number_text, percent_text, printable
from onnx_relusv.report.page import Heading, Section, Table

_KINDS = {
    "scores": "scores",
    "values": "numbers",
    "labels": "labels",
    "text": "text",
    "list": "list",
    "nothing": NOTHING,
}


_ALONE = {
    False: "what one of them has alone is compared with zero, or counts as different",
    True: "what one of them has alone counts as different, and numbers are of the other runs",
}


def outputs_sections(outputs: Sequence[OutputChange]) -> tuple[Section, ...]:
    """A table of all outputs, and sentences about those of which it does not tell all."""
    notes = " ".join(output_notes(outputs))
    table = Section(title="Difference of the outputs", table=_table(outputs))
    return (table, Section(title="About these outputs", text=notes)) if notes else (table,)


def _table(outputs: Sequence[OutputChange]) -> Table:
    # Of numbers alone there is nothing to say about what is equal.
    equal = any(one.kind not in ("scores", "values") for one in outputs)
    headings = [Heading("output")]
    if equal:
        headings += [
            Heading("compared as"),
            Heading(
                "equal",
                "Of scores the share of samples with the same top-1; of labels and text the share "
                "of equal entries; of lists the share of rows that both models give, of lists of "
                "numbers the shorter length over the longer.",
                True,
            ),
        ]
    headings += [
        Heading("relative", "L2 of the difference over L2 of the first model's output.", True),
        Heading("mean", "Mean absolute difference.", True),
        Heading("largest", "Largest absolute difference on these samples.", True),
    ]
    return Table(tuple(headings), tuple(_row(one, equal=equal) for one in outputs))


def _row(one: OutputChange, *, equal: bool) -> tuple[str, ...]:
    numbers = tuple(_figure(value) for value in (one.relative, one.mean, one.largest))
    shares = (_KINDS[one.kind], percent_text(one.agreement)) if equal else ()
    return (printable(one.name), *shares, *numbers)


def _figure(value: float | None) -> str:
    return "NaN" if value is not None and math.isnan(value) else number_text(value)


def output_notes(outputs: Iterable[OutputChange]) -> Iterator[str]:
    """Sentences about outputs that are not finite, of other lengths, or not compared at all."""
    for one in outputs:
        name = printable(one.name)
        for which, found in (("first", one.before), ("second", one.after)):
            if found.count:
                yield f"{name}: of {one.entries} entries of the {which} model {_counts(found)}."
        if one.mismatched:
            yield (
                f"{name}: {one.mismatched} entries are not finite in one model, and other in the "
                "other one; figures are of entries that are finite in both."
            )
        elif one.before.count:
            yield f"{name}: both models have these alike; figures are of all other entries."
        if one.other_shape:
            yield (
                f"{name}: in {one.other_shape} of {one.runs} runs it has another shape or length "
                f"in the second model; {_ALONE[one.kind == 'list']}."
            )
        if one.kind == "nothing":
            yield f"{name}: it held nothing in either model, so nothing was compared."


def _counts(found: NotFinite) -> str:
    words = []
    if found.nan:
        words.append(f"{found.nan} {'is' if found.nan == 1 else 'are'} NaN")
    if found.infinite:
        words.append(f"{found.infinite} {'is' if found.infinite == 1 else 'are'} infinite")
    return " and ".join(words)
