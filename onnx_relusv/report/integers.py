"""The sections on blocks that are computed with 8-bit integers."""

from onnx_relusv.core.results import BlockReport, Compression
from onnx_relusv.report import words
from onnx_relusv.report.page import Column, Number, Part


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
