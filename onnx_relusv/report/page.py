"""A page as data: what it says, before anything says how it looks; and how its parts are declared.

A `Column` declares what a table says of each of its rows, a `Part` what a section of a page shows
of a record. Page and terminal are both made of them, so a quantity has one name, one explanation
and one format.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Generic, TypeVar

from onnx_relusv.report import words

T = TypeVar("T", contravariant=True)

# Up to here pictures are open; a longer grid would push the rest of the page out of reach.
MOST_OPEN = 24


@dataclass(frozen=True)
class Fact:
    """A quantity, its value, and what puts it into perspective."""

    name: str
    value: str
    note: str = ""


def text_of(value: Any) -> str:
    """A value as a cell has it: numbers with three digits, and names with nothing invisible."""
    return words.number(value) if isinstance(value, float) else words.printable(str(value))


@dataclass(frozen=True)
class Column:
    """A column of a table whose rows are made of records.

    Attributes:
        title: Its heading.
        explanation: What it means.
        value: Where its value is in a record, at which place of a tuple, or what computes it of
            one; None where there is none. Empty: the attribute that is called as the column.
        text: What a cell says of a value.
        numeric: Whether its cells are numbers.
        code: Whether they are code to copy.
    """

    title: str
    explanation: str = ""
    value: str | int | Callable[[Any], Any] = ""
    text: Callable[[Any], str] = text_of
    numeric: bool = field(default=False, kw_only=True)
    code: bool = field(default=False, kw_only=True)

    def read(self, record: Any) -> Any:
        """The value of a record."""
        if callable(self.value):
            return self.value(record)
        if isinstance(self.value, int):
            return record[self.value]
        return attrgetter(self.value or self.title)(record)

    def cell(self, record: Any) -> str:
        """The text of a record's cell; a dash without a value."""
        value = self.read(record)
        return words.NOTHING if value is None else self.text(value)


@dataclass(frozen=True)
class Number(Column):
    """A column of numbers."""

    numeric: bool = field(default=True, kw_only=True)


@dataclass(frozen=True)
class Table:
    """A table; the first cell of every row names the row."""

    headings: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Picture:
    """An SVG element, which is trusted as it is, and a caption, which is not.

    Attributes:
        svg: The element.
        caption: What it is.
        wide: Whether it takes a line of its own on all but wide pages.
        stretched: Whether it is as wide as there is room.
    """

    svg: str
    caption: str = ""
    wide: bool = False
    stretched: bool = False


@dataclass(frozen=True)
class PictureRow:
    """Pictures that stay together, in one line where the window is wide enough."""

    title: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, kw_only=True)
class Headline:
    """A quantity that people decide by, before and after.

    Attributes:
        name: What it is.
        after: Its value now.
        before: What it was; empty where that says nothing.
        change: What became of it.
        note: What puts it into perspective.
        left: What is left, as a share of what it was, to be drawn; None for nothing.
    """

    name: str
    after: str
    before: str = ""
    change: str = ""
    note: str = ""
    left: float | None = None


@dataclass(frozen=True)
class Advice:
    """A sentence on what to do next, and the option for it; empty where there is none."""

    text: str
    option: str = ""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A block in the strip of a network.

    Attributes:
        number: Its place in the network, from 1 on.
        name: Its key.
        width: Its share of the bytes of all blocks.
        left: The share of its own bytes that is left.
        role: Of its colour.
    """

    number: int
    name: str
    width: float
    left: float
    role: str


# Roles of colours in pictures with what they show.
Legend = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page.

    Attributes:
        title: Its heading.
        text: A sentence or two in front.
        note: What the terminal says below the table in place of the columns' explanations.
        points: Sentences, one a line.
        table: A table, or None.
        pictures: In a grid, below the table.
        picture_rows: Further pictures, row by row.
        strip: A network, block by block.
        legend: What the colours of the pictures show.
        file: Text of a file that a reader may save, shown on request only.
        file_name: What it is called.
    """

    title: str
    text: str = ""
    note: str = ""
    points: tuple[str, ...] = ()
    table: Table | None = None
    pictures: tuple[Picture, ...] = ()
    picture_rows: tuple[PictureRow, ...] = ()
    strip: tuple[Segment, ...] = ()
    legend: Legend = ()
    file: str = ""
    file_name: str = ""

    @property
    def folded(self) -> bool:
        """Whether the pictures are shown on request only."""
        return len(self.pictures) + len(self.picture_rows) > MOST_OPEN


@dataclass(frozen=True, kw_only=True)
class Page:
    """A report.

    Attributes:
        title: What kind of report it is.
        subject: The file or files it is about.
        headlines: What people decide by.
        facts: All figures of the summary.
        alarms: Sentences for the user that must not be missed.
        warnings: Other sentences for the user.
        conclusion: What it all comes to.
        advice: What to do next.
        sections: What follows at once.
        details: What is shown on request.
        details_title: What that is.
        command: What repeats the run.
    """

    title: str
    subject: str
    headlines: tuple[Headline, ...] = ()
    facts: tuple[Fact, ...]
    alarms: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    conclusion: str = ""
    advice: tuple[Advice, ...] = ()
    sections: tuple[Section, ...]
    details: tuple[Section, ...] = ()
    details_title: str = ""
    command: str


@dataclass(frozen=True, kw_only=True)
class Part(Generic[T]):
    """A section as it is declared: each field a value, or a function of the record that is shown.

    Attributes:
        title: Its heading.
        of: What there is to show, such as the rows of its table; without any, it is left out.
        columns: Of a table with a row for each of `of`; none for no table.
        empty: What is said instead of leaving it out.
        text: As in `Section`, and so are the others.
    """

    title: str | Callable[[T], str]
    of: Callable[[T], Iterable[Any]]
    columns: Sequence[Column] | Callable[[T], Sequence[Column]] = ()
    empty: str = ""
    text: str | Callable[[T], str] = ""
    note: str | Callable[[T], str] = ""
    points: Callable[[T], Iterable[str]] | None = None
    pictures: Callable[[T], Iterable[Picture]] | None = None
    picture_rows: Callable[[T], Iterable[PictureRow]] | None = None
    strip: Callable[[T], Iterable[Segment]] | None = None
    legend: Legend | Callable[[T], Legend] = ()
    file: Callable[[T], str] | None = None
    file_name: str = ""

    def sections(self, record: T) -> tuple[Section, ...]:
        """The section of a record; none where there is nothing to show."""

        def made(value: Any) -> Any:
            return value(record) if callable(value) else value

        rows, title = tuple(self.of(record)), made(self.title)
        if not rows:
            return (Section(title=title, text=self.empty),) if self.empty else ()
        columns = tuple(made(self.columns))
        cells = tuple(tuple(one.cell(row) for one in columns) for row in rows)
        return (
            Section(
                title=title,
                text=made(self.text),
                note=made(self.note),
                points=tuple(made(self.points) or ()),
                table=Table(columns, cells) if columns else None,
                pictures=tuple(made(self.pictures) or ()),
                picture_rows=tuple(made(self.picture_rows) or ()),
                strip=tuple(made(self.strip) or ()),
                legend=made(self.legend),
                file=made(self.file) or "",
                file_name=self.file_name,
            ),
        )
