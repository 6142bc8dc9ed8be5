"""Writes a figure as an SVG file that is the same at every run."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from onnx_relusv.report.svg import plot_settings

_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_LONG_NUMBER = re.compile(r"\d+\.\d{3,}")


@contextmanager
def drawing() -> Iterator[None]:
    """The settings of the report's plots, without identifiers that are drawn by chance."""
    with plot_settings(), mpl.rc_context({"svg.hashsalt": "onnx-relusv"}):
        yield


def new_figure(height: float) -> Figure:
    """A figure as wide as a page, in inches; white, since a page may be dark."""
    return Figure(figsize=(7.6, height), facecolor="white")


def write_picture(figure: Figure, path: Path) -> None:
    """Writes a figure as SVG."""
    stream = io.StringIO()
    with drawing():
        figure.savefig(stream, format="svg", metadata=_NO_METADATA)
    text = stream.getvalue().replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
    # A hundredth of a point is more than anybody sees, and less than rounding moves.
    text = _LONG_NUMBER.sub(lambda found: f"{float(found.group()):.2f}", text)
    path.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n", encoding="utf-8")
