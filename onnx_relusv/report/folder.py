"""A report as a folder: report.json for machines and report.html for people.

Pages are imported where one is made: matplotlib takes a third of a second to load, and most runs
draw nothing.
"""

from pathlib import Path

from onnx_relusv.errors import UsageError
from onnx_relusv.report.data import (
    Data,
    comparison_data,
    compression_data,
    inspection_data,
    write_json,
)
from onnx_relusv.report.files import write_text
from onnx_relusv.report.sweep_data import sweep_data
from onnx_relusv.report.trace_data import trace_data
from onnx_relusv.results import Comparison, Compression, Inspection
from onnx_relusv.sweeps import Sweep
from onnx_relusv.traces import Trace


def write_inspection(inspection: Inspection, folder: Path) -> None:
    """Writes the report of an inspection.

    Raises:
        UsageError: The folder cannot be written.
    """
    from onnx_relusv.report.html import inspection_html

    _write(inspection_data(inspection), inspection_html(inspection), folder)


def write_compression(compression: Compression, folder: Path) -> None:
    """Writes the report of a compression.

    Raises:
        UsageError: The folder cannot be written.
    """
    from onnx_relusv.report.html import compression_html

    _write(compression_data(compression), compression_html(compression), folder)


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Writes the report of a comparison.

    Raises:
        UsageError: The folder cannot be written.
    """
    from onnx_relusv.report.html import comparison_html

    _write(comparison_data(comparison), comparison_html(comparison), folder)


def write_trace(trace: Trace, folder: Path) -> None:
    """Writes the report of a trace.

    Raises:
        UsageError: The folder cannot be written.
    """
    from onnx_relusv.report.trace_html import trace_html

    _write(trace_data(trace), trace_html(trace), folder)


def write_sweep(sweep: Sweep, folder: Path) -> None:
    """Writes the report of a sweep.

    Raises:
        UsageError: The folder cannot be written.
    """
    from onnx_relusv.report.sweep_html import sweep_html

    _write(sweep_data(sweep), sweep_html(sweep), folder)


def _write(data: Data, page: str, folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made ({error.strerror}).") from error
    write_json(data, folder / "report.json")
    write_text(page, folder / "report.html")
