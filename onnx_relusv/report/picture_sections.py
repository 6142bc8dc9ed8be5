"""The pictures of a page; a section with nothing to show is left out."""

from collections.abc import Sequence

from onnx_relusv.report.formatting import printable
from onnx_relusv.report.page import MOST_OPEN, Picture, Section
from onnx_relusv.report.plots import bytes_svg, spectrum_svg
from onnx_relusv.results import BlockRow


def bytes_section(rows: Sequence[BlockRow]) -> tuple[Section, ...]:
    """The bars of bytes by block."""
    if not rows:
        return ()
    return (
        Section(
            title="Bytes by block",
            pictures=(Picture(bytes_svg(rows, name="bytes"), wide=True),),
            legend=(("before", "before"), ("after", "after")),
        ),
    )


def spectra_section(rows: Sequence[BlockRow], level: float | None) -> tuple[Section, ...]:
    """The spectra of all blocks; `level` is the plan's, None without one."""
    if not rows:
        return ()
    legend = [
        ("sigma", "sigma_(k+1) / sigma_1"),
        ("band", "certified bracket of s_k / sigma_1"),
        ("untrained", "an untrained layer of the shape, equal Frobenius norm"),
        ("estimate", "estimates of s_k / sigma_1, neither bound"),
    ]
    if level is not None:
        legend += [("level", "level of the plan"), ("chosen", "rank of the double layer")]
    return (
        Section(
            title="Spectra",
            text="What is left of a block's linear map when its rank is cut to k.",
            pictures=tuple(
                Picture(
                    spectrum_svg(row, level, name=f"spectrum-{number}"), printable(row.block.key)
                )
                for number, row in enumerate(rows)
            ),
            legend=tuple(legend),
            folded=len(rows) > MOST_OPEN,
        ),
    )
