"""The groups of units: which had to go together, what went, and whose channels stay."""

from collections.abc import Sequence

from onnx_relusv.report.formatting import (
    NOTHING,
    change_text,
    number_text,
    printable,
    ranges_text,
)
from onnx_relusv.report.page import MOST_OPEN, Heading, Picture, Section, Table
from onnx_relusv.report.strips import strip_svg
from onnx_relusv.report.summary import Fact
from onnx_relusv.results import ChannelRefusal, GroupRow

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
