"""Reports for the terminal, as rich renderables.

A table breaks lines between words for as long as there is room to: rich narrows the widest columns
first, through the middle of words if need be, though others could give way between theirs.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich import table as rich_table
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.plans import Plan
from onnx_relusv.report import words
from onnx_relusv.report.page import Section, Table
from onnx_relusv.report.pages import LAYOUTS, Report, page_of
from onnx_relusv.report.sections import COVERAGE, SHORT_GROUPS

# Between two columns: a space of padding and one of the box.
_GAP = 2
# Names without a space may be longer than a screen is wide; they are broken beyond this.
_LONGEST_WORD = 16


@dataclass(frozen=True)
class TerminalTable:
    """A table as rich prints it; cells are literal, whatever they hold.

    Attributes:
        table: What it says.
    """

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Prints the table within the width that there is."""
        headings, rows = self.table.headings, self.table.rows
        shown = rich_table.Table(
            box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True
        )
        room = options.max_width - _GAP * (len(headings) - 1)
        columns = [
            (heading.title, *(row[index] for row in rows)) for index, heading in enumerate(headings)
        ]
        for heading, width in zip(headings, column_widths(columns, room), strict=True):
            justify: Literal["left", "right"] = "right" if heading.numeric else "left"
            # Rich takes [brackets] in strings for markup, in Text it does not.
            shown.add_column(Text(heading.title), justify=justify, overflow="fold", width=width)
        for row in rows:
            cells = (_ascii(cell) for cell in row) if options.ascii_only else row
            shown.add_row(*map(Text, cells))
        yield shown


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
    least = [min(max(map(_longest_word, texts)), _LONGEST_WORD) for texts in columns]
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
    return max(map(cell_len, text.split()), default=0)


def report_parts(report: Report) -> list[RenderableType]:
    """What a command found, for the terminal: what matters most is at the end."""
    page = page_of(report, terminal=True)
    below = [section for part in LAYOUTS[type(report)].below for section in part.sections(report)]
    summary = rich_table.Table.grid(padding=(0, 2))
    for fact in page.facts:
        summary.add_row(
            Text(fact.name, style="dim"), Text(fact.value), Text(fact.note, style="dim")
        )
    return [
        *_sections(page.sections),
        summary,
        *(Text(f"WARNING: {one}", style="bold red") for one in page.alarms),
        *_warnings(page.warnings),
        *("", *_sections(below)) * bool(below),
        *("", Text(page.conclusion, style="bold")) * bool(page.conclusion),
    ]


def plan_parts(plan: Plan) -> list[RenderableType]:
    """The groups of units in a plan, for the terminal, and its warnings; nothing without any."""
    return [
        *_sections(SHORT_GROUPS.sections(plan)),
        *_warnings(map(words.printable, plan.warnings)),
    ]


def coverage_parts(error: BudgetError) -> list[RenderableType]:
    """Where the bytes are that keep a budget from being reached, for the terminal."""
    return list(_sections(COVERAGE.sections(error)))


def _sections(sections: Iterable[Section]) -> Iterator[RenderableType]:
    """Sections with their tables, below one another; text alone where there is no table."""
    for section in sections:
        if section.table is not None or section.points:
            yield Text(section.title, style="bold")
        else:
            yield Text(section.text)
        yield from map(Text, section.points)
        if section.table is not None:
            yield TerminalTable(section.table)
        if section.note:
            yield Text(section.note, style="dim")
        yield ""


def _warnings(warnings: Iterable[str]) -> list[RenderableType]:
    return [Text(f"warning: {one}", style="yellow") for one in warnings]
