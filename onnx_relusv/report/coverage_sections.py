"""Where a model's bytes lie, as a section of reports and as JSON-ready data."""

from typing import Any

from onnx_relusv.coverage_records import Coverage, CoverageRow
from onnx_relusv.report.formatting import bytes_text, printable, share_text
from onnx_relusv.report.page import Heading, Section, Table

TITLE = "Where the bytes are"


def coverage_section(coverage: Coverage | None) -> tuple[Section, ...]:
    """By operator, what blocks hold and what stays; nothing where that is not known."""
    if coverage is None:
        return ()
    total = coverage.total_bytes
    headings = (
        Heading("operator"),
        Heading("count", "Operators that read these constants.", True),
        Heading("bytes", "That their numbers take in the file.", True),
        Heading("share", "Of the file's.", True),
        Heading("in blocks", "Whether ranks or channels of them can go."),
        Heading("why, and what can be done"),
    )
    rows = [_cells(row, total) for row in coverage.rows]
    rest = coverage.other_bytes
    what = "nodes, names, descriptions"
    rows.append(("(the rest)", "-", bytes_text(rest), share_text(rest, total), "-", what))
    rows.append(("(all)", "-", bytes_text(total), share_text(total, total), "-", ""))
    covered = share_text(coverage.covered_bytes, total)
    text = f"Blocks that can be made smaller hold {covered} of the {bytes_text(total)}."
    return (Section(title=TITLE, text=text, table=Table(headings, tuple(rows))),)


def coverage_data(coverage: Coverage | None) -> dict[str, Any] | None:
    """The same as JSON-ready data."""
    if coverage is None:
        return None
    return {
        "total_bytes": coverage.total_bytes,
        "covered_bytes": coverage.covered_bytes,
        "other_bytes": coverage.other_bytes,
        "rows": [
            {
                "operator": row.operator,
                "covered": row.covered,
                "reason": row.reason,
                "advice": row.advice or None,
                "count": row.count,
                "bytes": row.bytes,
                "examples": list(row.examples),
            }
            for row in coverage.rows
        ],
    }


def _cells(row: CoverageRow, total: int) -> tuple[str, ...]:
    why = row.reason if not row.advice else f"{row.reason}; {row.advice}"
    if row.count == 1 and row.examples and not row.covered:
        why = f"{row.examples[0]}: {why}"
    return (
        printable(row.operator),
        str(row.count),
        bytes_text(row.bytes),
        share_text(row.bytes, total),
        "yes" if row.covered else "no",
        printable(why),
    )
