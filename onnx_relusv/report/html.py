"""Reports as HTML pages that load nothing from anywhere, and as folders of a page and figures."""

from contextlib import ExitStack
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from onnx_relusv.core.codec import json_text
from onnx_relusv.report.data import Report, report_data
from onnx_relusv.report.pages import page_of
from onnx_relusv.report.plots import COLOURS
from onnx_relusv.work.files import REPORT_FILES
from onnx_relusv.work.publishing import Publication, make_text, not_written, staged


def write_report(
    report: Report, folder: Path | None, json_path: Path | None = None, *, force: bool
) -> None:
    """Writes a report and its figures, all or nothing.

    Args:
        report: What a command found.
        folder: Place of the report; a folder that is there keeps all other files. None for none.
        json_path: Place of the figures alone; None for none.
        force: Whether files that are there may be replaced.

    Raises:
        UsageError: Something cannot be written, or may not be replaced.
    """
    publication = Publication(force=force)
    with ExitStack() as stack:
        if folder is not None:
            made = stack.enter_context(staged(folder)) / "report"
            make_report(report, made, folder)
            publication.add(made, folder)
        if json_path is not None:
            made = stack.enter_context(staged(json_path)) / "figures"
            make_figures(report, made, json_path)
            publication.add(made, json_path)
        publication.commit()


def make_report(report: Report, made: Path, folder: Path) -> None:
    """Makes a report in a hidden folder, to be published with something else.

    Args:
        report: What a command found.
        made: A folder that is made for it.
        folder: Its place later on, which an error names.

    Raises:
        UsageError: There is no room for it.
    """
    page = report_html(report)
    try:
        made.mkdir()
    except OSError as error:
        raise not_written(folder, error) from error
    figures, shown = REPORT_FILES
    make_figures(report, made / figures, folder / figures)
    make_text(page, made / shown, folder / shown)


def make_figures(report: Report, made: Path, file: Path) -> None:
    """Makes the figures of a report alone; arguments and errors as of `make_report`."""
    make_text(json_text(report_data(report)) + "\n", made, file)


def report_html(report: Report) -> str:
    """What a command found, as a page."""
    # Keys and paths come from untrusted files: everything is escaped but SVG that we drew
    # ourselves.
    environment = Environment(
        loader=PackageLoader("onnx_relusv.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    page = page_of(report)
    return environment.get_template("report.html.j2").render(page=page, colours=COLOURS)
