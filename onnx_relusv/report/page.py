"""A page as data: what it says, before anything says how it looks; and how its parts are declared.

A `Column` declares what a table says of each of its rows, a `Part` what a section of a page shows
of a record. Page and terminal are both made of them, so a quantity has one name, one explanation
and one format.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import Any, Generic, TypeVar

from onnx_relusv.report.words import NOTHING, number_text, printable

T = TypeVar("T", contravariant=True)

# Up to here pictures are open; a longer grid would push the rest of the page out of reach.
MOST_OPEN = 24


@dataclass(frozen=True)
class Fact:
    """A quantity, its value, and what puts it into perspective."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Heading:
    """A column's heading, what it means, and whether its cells are numbers, or code to copy."""

    title: str
    explanation: str = ""
    numeric: bool = False
    code: bool = False


def text_of(value: Any) -> str:
    """A value as a cell has it: numbers with three digits, and names with nothing invisible."""
    return number_text(value) if isinstance(value, float) else printable(str(value))


@dataclass(frozen=True)
class Column(Heading):
    """A column of a table whose rows are made of records.

    Attributes:
        value: Where its value is in a record, or what computes it of one; None where there is none.
        text: What a cell says of a value.
    """

    value: str | Callable[[Any], Any] = field(kw_only=True)
    text: Callable[[Any], str] = field(default=text_of, kw_only=True)

    def read(self, record: Any) -> Any:
        """The value of a record."""
        return attrgetter(self.value)(record) if isinstance(self.value, str) else self.value(record)

    def cell(self, record: Any) -> str:
        """The text of a record's cell; a dash without a value."""
        value = self.read(record)
        return NOTHING if value is None else self.text(value)


@dataclass(frozen=True)
class Table:
    """A table; the first cell of every row names the row."""

    headings: tuple[Heading, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Picture:
    """An SVG element, which is trusted as it is, and a caption, which is not.

    One that is `wide` holds so much in a line that a narrow window scrolls rather than shrinks it.
    """

    svg: str
    caption: str = ""
    wide: bool = False


@dataclass(frozen=True)
class PictureRow:
    """Pictures that stay together, in one line where the window is wide enough."""

    title: str
    pictures: tuple[Picture, ...]


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
        facts: The summary.
        alarms: Sentences for the user that must not be missed.
        warnings: Other sentences for the user.
        conclusion: What it all comes to.
        sections: All the rest.
        command: What repeats the run.
    """

    title: str
    subject: str
    facts: tuple[Fact, ...]
    alarms: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    conclusion: str = ""
    sections: tuple[Section, ...]
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
    of: Callable[[T], Sequence[Any]]
    columns: Sequence[Column] | Callable[[T], Sequence[Column]] = ()
    empty: str = ""
    text: str | Callable[[T], str] = ""
    note: str | Callable[[T], str] = ""
    points: Callable[[T], Sequence[str]] | None = None
    pictures: Callable[[T], Iterable[Picture]] | None = None
    picture_rows: Callable[[T], Iterable[PictureRow]] | None = None
    legend: Legend | Callable[[T], Legend] = ()
    file: Callable[[T], str] | None = None
    file_name: str = ""

    def sections(self, record: T) -> tuple[Section, ...]:
        """The section of a record; none where there is nothing to show."""
        rows = self.of(record)
        title = _of(self.title, record)
        if not rows:
            return (Section(title=title, text=self.empty),) if self.empty else ()
        columns = _of(self.columns, record)
        return (
            Section(
                title=title,
                text=_of(self.text, record),
                note=_of(self.note, record),
                points=tuple(_of(self.points or (), record)),
                table=table_of(columns, rows) if columns else None,
                pictures=tuple(_of(self.pictures or (), record)),
                picture_rows=tuple(_of(self.picture_rows or (), record)),
                legend=_of(self.legend, record),
                file=_of(self.file or "", record),
                file_name=self.file_name,
            ),
        )


def table_of(columns: Sequence[Column], rows: Iterable[Any]) -> Table:
    """A table with a row for each record."""
    return Table(tuple(columns), tuple(tuple(one.cell(row) for one in columns) for row in rows))


# Of a table of pairs: what something is, and its value.
WHAT = Column("what", value=itemgetter(0))
NUMBERS = (WHAT, Column("value", "", True, value=itemgetter(1)))
TEXTS = (WHAT, Column("value", value=itemgetter(1)))


def _of(value: Any, record: Any) -> Any:
    return value(record) if callable(value) else value
