"""Where a model's bytes lie, as a section of reports and as JSON-ready data.

The groups of units: which had to go together, what went, and whose channels stay.

How far the outputs of two models are apart, for the page and the terminal.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from onnx_relusv.core.errors import Coverage, CoverageRow
from onnx_relusv.core.measures import NotFinite, OutputChange
from onnx_relusv.core.results import ChannelRefusal, GroupRow
from onnx_relusv.report.page import MOST_OPEN, Fact, Heading, Picture, Section, Table
from onnx_relusv.report.plots import strip_svg
from onnx_relusv.report.words import (
    NOTHING,
    bytes_text,
    change_text,
    number_text,
    percent_text,
    printable,
    ranges_text,
    share_text,
)

TITLE = "Where the bytes are"


def coverage_section(coverage: Coverage | None) -> tuple[Section, ...]:
    """By operator, what blocks hold and what stays; nothing where that is not known."""
    if coverage is None:
        return ()
    total = coverage.total_bytes
    headings = (
        Heading("operator"),
        Heading("count", "Operators that read these constants.", True),
        Heading("bytes", "That their numbers take in the file.", True),
        Heading("share", "Of the file's.", True),
        Heading("in blocks", "Whether ranks or channels of them can go."),
        Heading("why, and what can be done"),
    )
    rows = [_cells(row, total) for row in coverage.rows]
    rest = coverage.other_bytes
    what = "nodes, names, descriptions"
    rows.append(("(the rest)", "-", bytes_text(rest), share_text(rest, total), "-", what))
    rows.append(("(all)", "-", bytes_text(total), share_text(total, total), "-", ""))
    covered = share_text(coverage.covered_bytes, total)
    text = f"Blocks that can be made smaller hold {covered} of the {bytes_text(total)}."
    return (Section(title=TITLE, text=text, table=Table(headings, tuple(rows))),)


def coverage_data(coverage: Coverage | None) -> dict[str, Any] | None:
    """The same as JSON-ready data."""
    if coverage is None:
        return None
    return {
        "total_bytes": coverage.total_bytes,
        "covered_bytes": coverage.covered_bytes,
        "other_bytes": coverage.other_bytes,
        "rows": [
            {
                "operator": row.operator,
                "covered": row.covered,
                "reason": row.reason,
                "advice": row.advice or None,
                "count": row.count,
                "bytes": row.bytes,
                "examples": list(row.examples),
            }
            for row in coverage.rows
        ],
    }


def _cells(row: CoverageRow, total: int) -> tuple[str, ...]:
    why = row.reason if not row.advice else f"{row.reason}; {row.advice}"
    if row.count == 1 and row.examples and not row.covered:
        why = f"{row.examples[0]}: {why}"
    return (
        printable(row.operator),
        str(row.count),
        bytes_text(row.bytes),
        share_text(row.bytes, total),
        "yes" if row.covered else "no",
        printable(why),
    )


# Characters of a list of units; the JSON report has all of it.
_LONGEST = 400
_SHORT = 24

_GROUP = Heading("group", "The tensor that its first producer writes.")
_PRODUCERS = Heading(
    "written by", "Tensors whose weighted nodes lose rows: their channels go together."
)
_CONSUMERS = Heading("read by", "Tensors whose weighted nodes lose columns.")
_OPERATORS = Heading("in between", "Operators that its units run through, each once.")
_UNITS = Heading("units", "Before and after.", numeric=True)
_REMOVED = Heading(
    "removed",
    "Which units went, numbered from 0 in the order of the first producer's channels.",
)
_LEVEL = Heading(
    "level",
    "w(W R^(1/2)) / w(W C^(1/2)), Gaussian mean widths: what the kept units cannot reproduce of "
    "the removed ones, as the consumers' weights W see it. C is the units' covariance, R what is "
    "left of it given the kept ones.",
    numeric=True,
)
_DAMAGE = Heading(
    "damage",
    "What the removal, with everything else as it was, does to the outputs; measured at a few "
    "numbers of units on held-out samples and interpolated between them.",
    numeric=True,
)
_WHY = Heading("why", "The reason of the decision.")


def groups_sections(rows: Sequence[GroupRow]) -> tuple[Section, ...]:
    """The groups as a table, and which of their units went in pictures and in numbers."""
    if not rows:
        return ()
    damage = (_DAMAGE,) if any(row.choice.damage is not None for row in rows) else ()
    headings = (_GROUP, _PRODUCERS, _OPERATORS, _CONSUMERS, _UNITS, _LEVEL, *damage, _WHY)
    cells = tuple(
        (
            printable(row.choice.key),
            _names(row.choice.producers),
            _names(row.operators),
            _names(row.choice.consumers),
            _change(row),
            number_text(row.choice.level),
            *(number_text(row.choice.damage) for _ in damage),
            printable(row.choice.why),
        )
        for row in rows
    )
    losing = [row for row in rows if len(row.choice.kept) < row.choice.units]
    return (
        Section(
            title="Groups of units",
            text="Neurons and channels that share tensors are removed together or not at all.",
            table=Table(headings, cells),
            pictures=tuple(Picture(_strip(row), _caption(row), wide=True) for row in losing),
            legend=(("after", "kept"), ("before", "removed")) if losing else (),
            folded=len(losing) > MOST_OPEN,
        ),
        *_removed_section(losing),
    )


def groups_table(rows: Sequence[GroupRow]) -> tuple[Section, ...]:
    """The same in one table, as short as the terminal is narrow."""
    if not rows:
        return ()
    cells = tuple(
        (
            # The first of them is the group's key.
            _names(row.choice.producers) if row.choice.producers else printable(row.choice.key),
            _names(row.choice.consumers),
            _change(row),
            ranges_text(_removed(row), _SHORT),
            number_text(row.choice.level),
            printable(row.choice.why),
        )
        for row in rows
    )
    headings = (_GROUP, _CONSUMERS, _UNITS, _REMOVED, _LEVEL, _WHY)
    return (Section(title="Groups of units", table=Table(headings, cells)),)


def channel_refusals_section(refusals: Sequence[ChannelRefusal]) -> tuple[Section, ...]:
    """Whose output channels stay, with reasons."""
    if not refusals:
        return ()
    headings = (
        Heading("layer", "The tensor that it writes."),
        Heading("operator"),
        Heading("reason"),
    )
    cells = tuple(
        (printable(one.key), printable(one.operator), printable(one.reason)) for one in refusals
    )
    text = "All output channels of these layers stay, whatever becomes of their inputs."
    return (Section(title="Channels that stay", text=text, table=Table(headings, cells)),)


def groups_facts(rows: Sequence[GroupRow]) -> tuple[Fact, ...]:
    """How many units went."""
    if not rows:
        return ()
    units = sum(row.choice.units for row in rows)
    gone = sum(len(_removed(row)) for row in rows)
    losing = sum(len(row.choice.kept) < row.choice.units for row in rows)
    return (Fact("units removed", f"{gone} of {units}", f"in {losing} of {len(rows)} groups"),)


def _removed_section(rows: Sequence[GroupRow]) -> tuple[Section, ...]:
    if not rows:
        return ()
    cells = tuple(
        (printable(row.choice.key), str(len(_removed(row))), ranges_text(_removed(row), _LONGEST))
        for row in rows
    )
    headings = (_GROUP, Heading("how many", "", numeric=True), _REMOVED)
    return (Section(title="Removed units", table=Table(headings, cells)),)


def _strip(row: GroupRow) -> str:
    choice = row.choice
    label = f"Kept and removed units of {printable(choice.key)}"
    return strip_svg(choice.units, choice.kept, label)


def _caption(row: GroupRow) -> str:
    choice = row.choice
    return f"{printable(choice.key)}, {len(choice.kept)} of {choice.units} kept"


def _change(row: GroupRow) -> str:
    return change_text(str(row.choice.units), str(len(row.choice.kept)))


def _removed(row: GroupRow) -> list[int]:
    kept = set(row.choice.kept)
    return [unit for unit in range(row.choice.units) if unit not in kept]


def _names(names: Sequence[str]) -> str:
    return printable(", ".join(names)) or NOTHING


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
