"""A report as a folder: report.json for machines and report.html for people.

Pages are imported where one is made: matplotlib takes a third of a second to load, and most runs
draw nothing.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from onnx_relusv.json_text import json_text
from onnx_relusv.outputs import REPORT_FILES
from onnx_relusv.publishing import Publication, not_written, staged
from onnx_relusv.report.data import (
    Data,
    comparison_data,
    compression_data,
    inspection_data,
)
from onnx_relusv.report.files import make_text
from onnx_relusv.report.sweep_data import sweep_data
from onnx_relusv.report.trace_data import trace_data
from onnx_relusv.results import Comparison, Compression, Inspection
from onnx_relusv.sweeps import Sweep
from onnx_relusv.traces import Trace


def write_inspection(
    inspection: Inspection, folder: Path | None, json_path: Path | None = None, *, force: bool
) -> None:
    """Writes the report of an inspection and its figures, all or nothing.

    Args:
        inspection: What it is of.
        folder: Place of the report; a folder that is there keeps all other files. None for none.
        json_path: Place of the figures alone; None for none.
        force: Whether files that are there may be replaced.

    Raises:
        UsageError: Something cannot be written, or may not be replaced.
    """

    def page() -> str:
        from onnx_relusv.report.html import inspection_html

        return inspection_html(inspection)

    _write(inspection_data(inspection), page, folder, json_path, force=force)


def write_comparison(
    comparison: Comparison, folder: Path | None, json_path: Path | None = None, *, force: bool
) -> None:
    """Writes the report of a comparison; arguments and errors as of `write_inspection`."""

    def page() -> str:
        from onnx_relusv.report.html import comparison_html

        return comparison_html(comparison)

    _write(comparison_data(comparison), page, folder, json_path, force=force)


def write_trace(
    trace: Trace, folder: Path | None, json_path: Path | None = None, *, force: bool
) -> None:
    """Writes the report of a trace; arguments and errors as of `write_inspection`."""

    def page() -> str:
        from onnx_relusv.report.trace_html import trace_html

        return trace_html(trace)

    _write(trace_data(trace), page, folder, json_path, force=force)


def make_compression(compression: Compression, made: Path, folder: Path) -> None:
    """Makes the report of a compression where nobody sees it yet, to be published with the model.

    Args:
        compression: What it is of.
        made: A folder that is made for it.
        folder: Its place later on, which an error names.

    Raises:
        UsageError: There is no room for it.
    """
    from onnx_relusv.report.html import compression_html

    _make(compression_data(compression), compression_html(compression), made, folder)


def make_figures(compression: Compression, made: Path, file: Path) -> None:
    """Makes the figures of a compression alone; arguments and errors as of `make_compression`."""
    make_text(json_text(compression_data(compression)) + "\n", made, file)


def make_sweep(sweep: Sweep, made: Path, folder: Path) -> None:
    """Makes the report of a sweep; arguments and errors as of `make_compression`."""
    from onnx_relusv.report.sweep_html import sweep_html

    _make(sweep_data(sweep), sweep_html(sweep), made, folder)


def _write(
    data: Data,
    page: Callable[[], str],
    folder: Path | None,
    json_path: Path | None,
    *,
    force: bool,
) -> None:
    publication = Publication(force=force)
    with ExitStack() as stack:
        if folder is not None:
            made = stack.enter_context(staged(folder)) / "report"
            _make(data, page(), made, folder)
            publication.add(made, folder)
        if json_path is not None:
            made = stack.enter_context(staged(json_path)) / "figures"
            make_text(json_text(data) + "\n", made, json_path)
            publication.add(made, json_path)
        publication.commit()


def _make(data: Data, page: str, made: Path, folder: Path) -> None:
    try:
        made.mkdir()
    except OSError as error:
        raise not_written(folder, error) from error
    for name, text in zip(REPORT_FILES, (json_text(data) + "\n", page), strict=True):
        make_text(text, made / name, folder / name)
