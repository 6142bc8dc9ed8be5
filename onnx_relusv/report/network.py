"""The network of a report: its blocks in order, drawn, and ranked; and those of 8-bit integers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import inf

from onnx_relusv.core.results import BlockReport, Compression, Inspection
from onnx_relusv.report import words
from onnx_relusv.report.blocks import BlockTable, block_columns
from onnx_relusv.report.decision import most_sensitive_first
from onnx_relusv.report.page import Column, Legend, Number, Part, Segment

# By what became of a block the role of its colour and what the legend says, in its order.
_DONE: dict[words.Fate, tuple[str, str]] = {
    "kept": ("every", "kept"),
    "values": ("band", "other values, same form"),
    "channels": ("largest", "fewer channels"),
    "double layer": ("after", "double layer"),
    "numbers": ("active", "8-bit integers or half precision alone"),
}
# At the least, the next and the largest relative error at which savings are known: the role of a
# block of which half would go.
_REDUCIBLE = ("largest", "after", "band")
_NOT_REDUCIBLE = "every"


def _segments(
    rows: Sequence[BlockReport],
    left: Callable[[BlockReport], float],
    role: Callable[[BlockReport], str],
) -> Iterator[Segment]:
    """Blocks in order, each with the bytes that are left of it and the role of its colour."""
    whole = sum(row.cost.bytes for row in rows)
    for number, row in enumerate(rows, 1):
        yield Segment(
            number=number,
            name=words.printable(row.block.key),
            width=row.cost.bytes / whole if whole else 1 / len(rows),
            left=min(left(row) / row.cost.bytes, 1.0) if row.cost.bytes else 1.0,
            role=role(row),
        )


def _done(found: Compression) -> Iterator[Segment]:
    return _segments(
        found.rows,
        lambda row: (row.cost_after or row.cost).bytes,
        lambda row: _DONE[words.fate(row.choice)][0],
    )


def _legend(found: Compression) -> Legend:
    fates = {words.fate(row.choice) for row in found.rows}
    return tuple(meaning for fate, meaning in _DONE.items() if fate in fates)


NETWORK: Part[Compression] = Part(
    title="The network",
    of=lambda found: found.rows,
    text="Blocks in order, numbered as in the table below. Width is size before; the filled part "
    "of the height is what is left of it.",
    strip=_done,
    legend=_legend,
)


def _errors(found: Inspection) -> list[float]:
    """The relative errors at which savings are known, the least first."""
    return sorted({saving.tolerance for row in found.rows for saving in row.savings})


def _reducible(found: Inspection) -> Iterator[Segment]:
    steps = dict(zip(_errors(found), _REDUCIBLE, strict=False))

    def left(row: BlockReport) -> float:
        return row.cost.bytes - max((one.saved_bytes for one in row.savings), default=0)

    def role(row: BlockReport) -> str:
        halved = (one.tolerance for one in row.savings if 2 * one.saved_bytes >= row.cost.bytes)
        return steps.get(min(halved, default=inf), _NOT_REDUCIBLE)

    return _segments(found.rows, left, role)


def _reducible_legend(found: Inspection) -> Legend:
    present = {one.role for one in _reducible(found)}
    steps = (
        (role, f"half or more goes at a relative error of {words.number(error)}")
        for error, role in zip(_errors(found), _REDUCIBLE, strict=False)
    )
    least = (_NOT_REDUCIBLE, "less than half goes at any of these errors")
    return tuple(one for one in (*steps, least) if one[0] in present)


REDUCIBLE: Part[Inspection] = Part(
    title="The network",
    of=lambda found: found.rows if _errors(found) else (),
    text=lambda found: (
        "Blocks in the order of the table below. Width is size; the filled "
        "part of the height is what the cheapest double layer with a relative error of "
        f"{words.number(_errors(found)[-1])} leaves of it. Colour says at which error half of the "
        "block would go."
    ),
    strip=_reducible,
    legend=_reducible_legend,
)


def _of_row(column: Column) -> Column:
    """A column of blocks for rows that have a block's place too."""
    return replace(column, value=lambda numbered: column.read(numbered[1]))


def _measured(found: Compression) -> bool:
    return any(row.sensitivity is not None for row in found.rows)


def _ranked_columns(found: Compression) -> tuple[Column, ...]:
    first, *others = block_columns(found.rows, BlockTable.RANKED)
    place = Number("place", "In the network, as in the strip above.", 0, str)
    return (_of_row(first), place, *map(_of_row, others))


RANKED: Part[Compression] = Part(
    title=lambda found: f"Blocks{', most sensitive first' * _measured(found)}",
    of=lambda found: most_sensitive_first(found.rows),
    columns=_ranked_columns,
    empty="No block was found.",
    text=lambda found: (
        f"Changes are measured as {words.printable(found.plan.damage_measure or '')}."
        if _measured(found)
        else "What blocks do to the outputs was not measured: that takes "
        "samples, and a budget on size, MACs or time."
    ),
)


def _integers(found: Compression) -> list[tuple[str, float, BlockReport]]:
    rows = {row.block.key: row for row in found.rows}
    return [(one.key, one.damage, rows[one.key]) for one in found.plan.int8_damages]


INTEGERS: Part[Compression] = Part(
    title="8-bit integers",
    of=_integers,
    columns=(
        Column("block", "", 0),
        Number(
            "expected change",
            "What integers in this block and its input, with all else as it was, do to the "
            "outputs; measured on held-out samples.",
            1,
        ),
        Column("becomes", "What was decided.", 2, lambda row: words.decision(row.choice)),
        Number(
            "bytes",
            "Before and after.",
            2,
            lambda row: words.change(
                row.cost.bytes, (row.cost_after or row.cost).bytes, words.size
            ),
        ),
    ),
    text="The blocks that integers hurt most come first.",
)


def _size(bytes_: int) -> str:
    return words.size(bytes_) if bytes_ else ""


STORED: Part[Compression] = Part(
    title="Bytes by format",
    of=lambda found: found.stored,
    columns=(
        Column("block", "", lambda row: row.key or "all else"),
        Number("integers", "Weights of 8-bit integers.", "integers", _size),
        Number(
            "scales",
            "Scales and zero points, of tensors that several blocks read at the first of them.",
            "scales",
            _size,
        ),
        Number("floats", "Biases, and weights that are floats.", "floats", _size),
        Number(
            "other",
            "Scales of tensors between blocks, other constants, nodes and names.",
            "others",
            _size,
        ),
        Number("all", "", "bytes", words.size),
    ),
    text="What the numbers of the written file occupy.",
)
