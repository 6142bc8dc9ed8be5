import io

import pytest
from rich.console import Console

from onnx_relusv.report.page import Column, Table
from onnx_relusv.report.terminal import TerminalTable, column_widths

TABLE = Table(
    (Column("block"), Column("stable rank", numeric=True), Column("why")),
    (
        ("[bold]fc1[/bold]", "2.78", "smallest rank with a relative error at most 0.1"),
        ("\u5377\u5377", "12", "no form makes it smaller"),
    ),
)


def shown(width: int) -> list[str]:
    output = io.StringIO()
    Console(file=output, width=width, color_system=None).print(TerminalTable(TABLE))
    return output.getvalue().splitlines()


def test_with_room_every_row_is_one_line() -> None:
    assert [line.rstrip() for line in shown(80)] == [
        "                  stable",
        "block               rank  why",
        "\u2500" * 73,
        "[bold]fc1[/bold]    2.78  smallest rank with a relative error at most 0.1",
        "\u5377\u5377                  12  no form makes it smaller",
    ]


def test_without_room_lines_break_between_words() -> None:
    assert [line.rstrip() for line in shown(40)] == [
        "                  stable",
        "block               rank  why",
        "\u2500" * 40,
        "[bold]fc1[/bold]    2.78  smallest rank",
        "                          with a",
        "                          relative error",
        "                          at most 0.1",
        "\u5377\u5377                  12  no form makes",
        "                          it smaller",
    ]


def test_where_not_even_words_fit_nothing_is_lost() -> None:
    # Rows are below one another, each value with its heading.
    assert [line.rstrip() for line in shown(20)] == [
        "[bold]fc1[/bold]",
        "  stable rank: 2.78",
        "  why: smallest rank",
        "    with a relative",
        "    error at most",
        "    0.1",
        "\u5377\u5377",
        "  stable rank: 12",
        "  why: no form makes",
        "    it smaller",
    ]


@pytest.mark.parametrize(
    ("room", "widths"),
    [
        (100, [4, 11, 6]),  # headings break for free, cells do not
        (20, [4, 10, 6]),
        (13, [4, 5, 4]),
        (5, [4, 5, 3]),  # the longest words
    ],
)
def test_the_widest_gives_way_down_to_its_longest_word(room: int, widths: list[int]) -> None:
    columns = [("a b", "abcd"), ("x", "first third"), ("c", "a b cd", "efg")]
    assert column_widths(columns, room) == widths


def test_a_long_name_does_not_push_the_rest_aside() -> None:
    assert column_widths([("key", "x" * 100), ("n", "12")], 40) == [38, 2]
    assert column_widths([("key", "x" * 100), ("n", "12 34")], 10) == [16, 2]
