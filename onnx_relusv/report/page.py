"""A page as data: what it says, before anything says how it looks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fact:
    """A quantity, its value, and what puts it into perspective."""

    name: str
    value: str
    note: str = ""


# Up to here pictures are open; a longer grid would push the rest of the page out of reach.
MOST_OPEN = 24


@dataclass(frozen=True)
class Heading:
    """A column's heading, what it means, and whether its cells are numbers, or code to copy."""

    title: str
    explanation: str = ""
    numeric: bool = False
    code: bool = False


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


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page.

    Attributes:
        title: Its heading.
        text: A sentence or two in front.
        points: Sentences, one a line.
        table: A table, or None.
        pictures: In a grid, below the table.
        picture_rows: Further pictures, row by row.
        legend: Roles of colours in the pictures with what they show.
        folded: Whether the pictures are shown on request only.
        file: Text of a file that a reader may save, shown on request only.
        file_name: What it is called.
    """

    title: str
    text: str = ""
    points: tuple[str, ...] = ()
    table: Table | None = None
    pictures: tuple[Picture, ...] = ()
    picture_rows: tuple[PictureRow, ...] = ()
    legend: tuple[tuple[str, str], ...] = ()
    folded: bool = False
    file: str = ""
    file_name: str = ""


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
