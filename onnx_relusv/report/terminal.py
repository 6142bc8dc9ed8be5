"""Reports for the terminal, as rich renderables.

Lines are broken between words, and a number and its unit are one. Rich breaks them anywhere: it
narrows the widest columns of a table first, through the middle of words if need be, though others
could give way between theirs. Where there is no room for the columns of a table, its rows stand
below one another, each value beside its heading.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich import table as rich_table
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.text import Text

from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.plans import Plan
from onnx_relusv.core.results import (
    Comparison,
    Compression,
    Inspection,
    ModelFacts,
    TwoModels,
)
from onnx_relusv.report import words
from onnx_relusv.report.decision import agreement_interval_text, drop_interval_text
from onnx_relusv.report.losses import bound_text, presumption, share_words
from onnx_relusv.report.page import Column, Fact, Section, Table
from onnx_relusv.report.pages import LAYOUTS, WHICH, Report, page_of
from onnx_relusv.report.sections import CHOICES, COVERAGE, SHORT_GROUPS

# Between two columns: a space of padding and one of the box.
_GAP = 2
# Names without a space may be longer than a screen is wide; they are broken beyond this. Numbers
# are not.
_LONGEST_WORD = 16
_NUMBER = re.compile(r"^[\[(]?[-+]?\d[\d.,]*(?:e[-+]?\d+)?")
# Of the values in front of which their headings stand.
_INDENT = 2


@dataclass(frozen=True)
class Paragraph:
    """Literal text.

    Attributes:
        text: What it says.
        style: How rich shows it.
        indent: Cells in front of every line but the first.
    """

    text: str
    style: str = ""
    indent: int = 0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Prints it within the width that there is."""
        if cell_len(self.text) != len(self.text):
            yield Text(self.text, style=self.style)  # rich knows how wide other scripts are
            return
        yield Text("\n".join(words.lines(self.text, options.max_width, self.indent)), self.style)


@dataclass(frozen=True)
class TerminalTable:
    """A table as rich prints it; cells are literal, whatever they hold.

    Attributes:
        table: What it says.
    """

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Prints the table within the width that there is."""
        headings = self.table.headings
        rows = [
            [_ascii(cell) if options.ascii_only else cell for cell in row]
            for row in self.table.rows
        ]
        shown = rich_table.Table(
            box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True
        )
        room = options.max_width - _GAP * (len(headings) - 1)
        columns = [
            (heading.title, *(row[index] for row in rows)) for index, heading in enumerate(headings)
        ]
        widths = column_widths(columns, room)
        if sum(widths) > room:
            yield from _below_one_another(headings, rows)
            return
        for heading, width in zip(headings, widths, strict=True):
            justify: Literal["left", "right"] = "right" if heading.numeric else "left"
            # Rich takes [brackets] in strings for markup, in Text it does not.
            title = Text("\n".join(words.lines(heading.title, width)))
            shown.add_column(title, justify=justify, overflow="fold", width=width)
        for row in rows:
            shown.add_row(*(_broken(cell, width) for cell, width in zip(row, widths, strict=True)))
        yield shown


def _broken(cell: str, width: int) -> Text:
    if cell_len(cell) != len(cell):
        return Text(cell)
    return Text("\n".join(words.lines(cell, width)))


def _below_one_another(
    headings: Sequence[Column], rows: Sequence[Sequence[str]]
) -> Iterator[RenderableType]:
    for key, *cells in rows:
        yield Paragraph(key, "bold")
        for heading, cell in zip(headings[1:], cells, strict=True):
            if cell not in ("", words.NOTHING):
                yield Padding(Paragraph(f"{heading.title}: {cell}", indent=_INDENT), (0, 0, 0, 2))


def column_widths(columns: Sequence[Sequence[str]], room: int) -> list[int]:
    """Widths of columns that break no word if that can be.

    Args:
        columns: The texts of each, its heading first.
        room: What they may take together, in cells.

    Returns:
        Their natural widths where there is room; else the widest gives way first, each down to its
        longest word. More than `room` where even that does not fit.
    """
    # A heading is no reason for a column to be wider than its cells.
    widths = [max(_longest_word(heading), *map(cell_len, cells), 1) for heading, *cells in columns]
    least = [max(map(_least, texts)) for texts in columns]
    while sum(widths) > room:
        spare = [index for index, width in enumerate(widths) if width > least[index]]
        if not spare:
            break
        widths[max(spare, key=lambda index: widths[index])] -= 1
    return widths


def _ascii(text: str) -> str:
    """For terminals that know nothing else: bars as digits, other characters as escapes."""
    plain = text.translate({ord(bar): str(height) for height, bar in enumerate(words.BARS, 1)})
    return plain.encode("ascii", "backslashreplace").decode("ascii")


def _longest_word(text: str) -> int:
    return max(map(cell_len, _unbroken(text)), default=0)


def _least(text: str) -> int:
    """Cells that a text needs: of names, which may be broken, no more than `_LONGEST_WORD`."""
    widths = (
        cell_len(word) if _NUMBER.match(word) else min(cell_len(word), _LONGEST_WORD)
        for word in _unbroken(text)
    )
    return max(widths, default=0)


def _unbroken(text: str) -> list[str]:
    return [word for word in re.split("[ \n\t]", words.whole(text)) if word]


def report_parts(report: Report, *, short: bool = False) -> list[RenderableType]:
    """What a command found, for the terminal: what matters most is at the end.

    Args:
        report: What it found.
        short: Whether a paragraph stands for all figures of the summary, where there is one.
    """
    layout = LAYOUTS[type(report)]
    page = page_of(report, terminal=True)
    below = [section for part in layout.below for section in part.sections(report)]
    details = [section for part in layout.verbose for section in part.sections(report)]
    summary: list[RenderableType] = [_Facts(page.facts)]
    if short and type(report) in _SUMMARIES:
        summary = [Paragraph(_SUMMARIES[type(report)](report))]
    return [
        *_sections(page.sections),
        *_sections(() if short else details),
        *summary,
        *(Paragraph(f"WARNING: {one}", "bold red") for one in page.alarms),
        *_warnings(page.warnings),
        *("", *_sections(below)) * bool(below),
        *("", Paragraph(page.conclusion, "bold")) * bool(page.conclusion),
    ]


def warning_parts(report: Report | Plan) -> list[RenderableType]:
    """The alarms and warnings of a report, or of a plan, alone."""
    if isinstance(report, Plan):
        return _warnings(map(words.printable, report.warnings))
    page = page_of(report, terminal=True)
    return [
        *(Paragraph(f"WARNING: {one}", "bold red") for one in page.alarms),
        *_warnings(page.warnings),
    ]


@dataclass(frozen=True)
class _Facts:
    """The figures of a summary: names, values and notes in columns, where there is room."""

    facts: Sequence[Fact]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = [
            ("", *(getattr(fact, part) for fact in self.facts))
            for part in ("name", "value", "note")
        ]
        widths = column_widths(columns, options.max_width - 2 * _GAP)
        if sum(widths) > options.max_width - 2 * _GAP:
            for fact in self.facts:
                text = f"{fact.name}: {fact.value}{f' ({fact.note})' if fact.note else ''}"
                yield Paragraph(text, indent=_INDENT)
            return
        grid = rich_table.Table.grid(padding=(0, _GAP))
        for width in widths:
            grid.add_column(width=width, overflow="fold")
        for fact in self.facts:
            name, value, note = (
                _broken(text, width)
                for text, width in zip((fact.name, fact.value, fact.note), widths, strict=True)
            )
            name.stylize("dim")
            note.stylize("dim")
            grid.add_row(name, value, note)
        yield grid


def plan_parts(plan: Plan) -> list[RenderableType]:
    """The groups of units in a plan, for the terminal, and its warnings; nothing without any."""
    return [
        *_sections(SHORT_GROUPS.sections(plan)),
        *_warnings(map(words.printable, plan.warnings)),
    ]


def choice_parts(plan: Plan) -> list[RenderableType]:
    """What a plan does with every block, for the terminal."""
    return list(_sections(CHOICES.sections(plan)))


def plan_summary(plan: Plan) -> Paragraph:
    """What a plan does, and what that is expected to cost."""
    changed = sum(not choice.is_kept for choice in plan.choices)
    time = "" if plan.latency is None else f", about {plan.latency:.1%} of the time"
    text = (
        f"{changed} of {len(plan.choices)} blocks change at a relative error of {plan.level:.4g}: "
        f"{plan.size:.1%} of the bytes, {plan.macs:.1%} of the MACs{time}."
    )
    if plan.damage_measure is not None:
        damage, measure = words.number(plan.damage), words.printable(plan.damage_measure)
        text += f" Damage measured as {measure}. Expected are {damage} of it."
    return Paragraph(text)


def coverage_parts(error: BudgetError) -> list[RenderableType]:
    """Where the bytes are that keep a budget from being reached, for the terminal."""
    return list(_sections(COVERAGE.sections(error)))


def _sections(sections: Iterable[Section]) -> Iterator[RenderableType]:
    """Sections with their tables, below one another; text alone where there is no table."""
    for section in sections:
        if section.table is not None or section.points:
            yield Text(section.title, style="bold")
        else:
            yield Paragraph(section.text)
        yield from map(Paragraph, section.points)
        if section.table is not None:
            yield TerminalTable(section.table)
        if section.note:
            yield Paragraph(section.note, "dim")
        yield ""


def _warnings(warnings: Iterable[str]) -> list[RenderableType]:
    return [Paragraph(f"warning: {one}", "yellow") for one in warnings]


def _named(facts: ModelFacts) -> str:
    return words.printable(facts.path.name)


def _sizes(found: TwoModels) -> str:
    """Both files' sizes and MACs in one sentence."""
    before, after, shares = found.before, found.after, found.shares
    return (
        f"{_named(after)} has {words.percent(shares.size)} of the bytes of {_named(before)}, "
        f"{words.size(after.bytes)} of {words.size(before.bytes)}, and "
        f"{words.percent(shares.macs)} of its multiply-accumulates."
    )


def compression_summary(found: Compression) -> str:
    """What was made of a file, and at what time of a run, as a paragraph."""
    counts = Counter(words.fate(row.choice) for row in found.rows)
    said = [f"{count} {_FATES[fate][count == 1]}" for fate, count in counts.items()]
    blocks = words.listed(said) if said else "no block was found"
    removed = sum(row.choice.units - len(row.choice.kept) for row in found.groups)
    units = sum(row.choice.units for row in found.groups)
    gone = f", and {removed:,} of {units:,} units are gone" if removed else ""
    time, judged = found.assessment.latency, found.evaluation
    sentences = [
        _sizes(found),
        f"Of {words.counted(len(found.rows), 'block')} {blocks}{gone}.",
        f"A run takes {words.seconds(time.after)} instead of {words.seconds(time.before)}, at "
        f"batch {time.batch} on {judged.provider}.",
    ]
    intervals = f"{drop_interval_text(judged)}".removeprefix(", ")
    if intervals and judged.drop is not None:
        sentences.append(f"The accuracy lost is {words.points(judged.drop)}, {intervals}.")
    elif judged.agreement is not None and judged.agreement_interval is not None:
        share, interval = share_words(judged.agreement), agreement_interval_text(judged)
        sentences.append(f"{share} of the answers are the same{interval}.")
    if found.bound is not None:
        bound = found.bound
        what = "lost" if bound.of_accuracy or not bound.exact else "changed"
        surely = "certified" if bound.exact else "estimated"
        most, confidence = bound_text(bound, bound.max_drop), words.confidence(bound.confidence)
        surely = f"It is {surely} at {confidence}: at most {most} {what} on such samples"
        sentences.append(f"{surely}{presumption(bound)}.")
    if found.metric is not None:
        metric = found.metric
        values = words.change(metric.before, metric.after, "{:.5g}".format)
        which = f"{metric.samples:,} {WHICH[metric.part]}"
        sentences.append(f"The metric {words.printable(metric.name)}: {values} on {which}.")
    sentences.append(f"All {len(found.verdict.checks)} checks passed.")
    return " ".join(sentences)


# What became of several blocks, and of one.
_FATES: dict[words.Fate, tuple[str, str]] = {
    "kept": ("stay as they are", "stays as it is"),
    "values": ("got other values", "got other values"),
    "channels": ("lost channels", "lost channels"),
    "double layer": ("became double layers", "became a double layer"),
    "numbers": ("are computed with other numbers", "is computed with other numbers"),
}


def comparison_summary(found: Comparison) -> str:
    """Two files side by side, as a paragraph."""
    judged = found.evaluation
    sentences = [_sizes(found)]
    said = []
    if judged.agreement is not None:
        equal = share_words(judged.agreement)
        said.append(f"the agreement of answers is {equal}{agreement_interval_text(judged)}")
    if judged.drop is not None:
        first = words.percent(judged.accuracy_before)
        second = words.percent(judged.accuracy_after)
        loss = f"{abs(judged.drop):.2f} points {'gained' if judged.drop < 0 else 'lost'}"
        change = f"accuracy goes from {first} to {second}"
        said.append(f"{change}, {loss}{drop_interval_text(judged)}")
    if judged.metric is not None:
        metric = judged.metric
        values = words.change(metric.before, metric.after, "{:.5g}".format)
        said.append(f"{words.printable(metric.name)} goes {values}")
    if not said:
        said.append(f"outputs change by {words.number(judged.change)} at most")
    sentences.append(f"On {judged.samples:,} samples {'; '.join(said)}.")
    times = [
        f"{words.seconds(one.after)} instead of {words.seconds(one.before)} at batch {one.batch}"
        for one in judged.latencies
    ]
    if times:
        sentences.append(f"A run takes {words.listed(times)}, on {judged.provider}.")
    return " ".join(sentences)


def inspection_summary(found: Inspection) -> str:
    """What is in a model, and what could be saved, as a paragraph."""
    model, rows = found.model, found.rows
    in_blocks = words.share(sum(row.cost.bytes for row in rows), model.bytes)
    sentences = [
        f"{_named(model)} has {words.size(model.bytes)}, {words.count(model.parameters)} "
        f"parameters and {words.count(model.macs)} multiply-accumulates for one sample. "
        f"{words.counted(len(rows), 'block')} {'hold' if len(rows) != 1 else 'holds'} {in_blocks} "
        f"of the bytes; {len(found.refusals)} more {'were' if len(found.refusals) != 1 else 'was'} "
        "refused."
    ]
    count, groups = found.provenance.sample_count, found.provenance.sample_groups
    if found.provenance.samples is None:
        sentences.append("No samples were given, so weights alone were measured.")
    else:
        of = "" if groups is None else f" in {groups:,} groups"
        sentences.append(f"All was measured on {count:,} samples{of}.")
    savings = [saving for row in rows for saving in row.savings]
    if any(saving.saved_bytes > 0 for saving in savings):
        tolerance = min(one.tolerance for one in savings if one.saved_bytes > 0)
        saved = sum(max(one.saved_bytes, 0) for one in savings if one.tolerance == tolerance)
        sentences.append(
            f"At a relative error of {words.number(tolerance)}, double layers alone would save "
            f"{words.size(saved)} or more: compress --tolerance {words.number(tolerance)}."
        )
    return " ".join(sentences)


_SUMMARIES: dict[type, Callable[[Any], str]] = {
    Inspection: inspection_summary,
    Compression: compression_summary,
    Comparison: comparison_summary,
}
