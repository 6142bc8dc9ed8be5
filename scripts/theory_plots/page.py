"""Puts tables into a Markdown page, between comments that nobody sees."""

import re
from collections.abc import Sequence


def fill(text: str, name: str, table: str) -> str:
    """The page with what stands between a table's two comments replaced.

    Raises:
        ValueError: The page has no such place, or several.
    """
    place = re.compile(rf"(<!-- scripts/theory: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    filled, count = place.subn(lambda found: f"{found[1]}\n{table}\n\n{found[2]}", text)
    if count != 1:
        raise ValueError(f"The page has {count} places for the table {name!r}; it needs one.")
    return filled


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, rule, *rows))
