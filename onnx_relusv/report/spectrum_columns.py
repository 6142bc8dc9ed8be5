"""The columns that show a block's whole spectrum, in one line or in numbers."""

import math

import numpy as np

from onnx_relusv.report.columns import Column
from onnx_relusv.report.formatting import NOTHING, bracket_text, number_text, printable
from onnx_relusv.report.page import Heading, Section, Table
from onnx_relusv.report.sparklines import sparkline
from onnx_relusv.results import BlockRow


def _trained(row: BlockRow) -> str:
    spectrum = row.spectrum
    return sparkline(spectrum.sigma[list(spectrum.ranks)], float(spectrum.sigma[0]))


def _untrained(row: BlockRow) -> str:
    spectrum = row.spectrum
    return sparkline(spectrum.untrained[list(spectrum.ranks)], float(spectrum.sigma[0]))


def _estimates(row: BlockRow) -> str:
    spectrum = row.spectrum
    return sparkline(spectrum.estimate[list(spectrum.ranks)], float(spectrum.sigma[0]))


def _converged(row: BlockRow) -> str:
    converged = row.spectrum.converged
    return f"{int(np.sum(converged))} of {len(converged)}"


def _operator_norm(row: BlockRow) -> str:
    norm = row.spectrum.operator_norm
    return NOTHING if math.isnan(norm) else number_text(norm)


RELU_WIDTH = Column(
    title="ReLU width",
    explanation="Gaussian mean width behind the activation; a Monte Carlo estimate from below.",
    cell=lambda row: number_text(row.spectrum.relu_mean_width),
)
SPECTRUM = Column(
    title="sigma",
    explanation=(
        "Singular values at a geometric ladder of k, logarithmic: a full bar is sigma_1, the "
        "lowest a hundredth of it."
    ),
    cell=_trained,
    numeric=False,
)
UNTRAINED = Column(
    title="untrained",
    explanation=(
        "The same of one layer of this shape with independent Gaussian weights and an equal "
        "Frobenius norm, on the scale of this block's sigma_1."
    ),
    cell=_untrained,
    numeric=False,
)
ESTIMATES = Column(
    title="s_k",
    explanation="Estimates of the ReLU singular values at the same k, neither bound.",
    cell=_estimates,
    numeric=False,
)
CONVERGED = Column(
    title="converged",
    explanation=(
        "At how many of these k the ascent had stopped growing and a second start agreed to 1 %; "
        "elsewhere the estimate may be too low."
    ),
    cell=_converged,
)
OPERATOR_NORM = Column(
    title="operator norm",
    explanation=(
        "Largest singular value of a Conv as an operator on whole feature maps, on a torus as "
        "long as the padded input: another and larger number than sigma_1 of its patches. Without "
        "the samples' metric."
    ),
    cell=_operator_norm,
)


def ladder_section(rows: tuple[BlockRow, ...]) -> tuple[Section, ...]:
    """Certified bounds and the estimate at every k of the ladder, a line each."""
    if not rows:
        return ()
    headings = (
        Heading("block", "The tensor that leaves the block."),
        Heading("k", "The rank that L may have.", True),
        Heading("estimate", "Found by ascent at the truncated SVD; neither bound.", True),
        Heading("certified bracket", "Lower and upper bound of s_k.", True),
        Heading("sigma_(k+1)", "The ordinary singular value.", True),
        Heading("untrained", "The same of an untrained layer of this shape.", True),
        Heading(
            "converged", "Whether the ascent had stopped growing and a second start agreed to 1 %."
        ),
    )
    lines = []
    for row in rows:
        spectrum = row.spectrum
        for k, converged in zip(spectrum.ranks, spectrum.converged, strict=True):
            lines.append(
                (
                    printable(row.block.key),
                    str(k),
                    number_text(float(spectrum.estimate[k])),
                    bracket_text(float(spectrum.lower[k]), float(spectrum.upper[k])),
                    number_text(float(spectrum.sigma[k])),
                    number_text(float(spectrum.untrained[k])),
                    "yes" if converged else "no",
                )
            )
    return (
        Section(
            title="ReLU singular values",
            text=(
                "On the unit ball, without bias. The bracket is certified for every k; the JSON "
                "report has it for all of them, this table for a ladder of k."
            ),
            table=Table(headings, tuple(lines)),
        ),
    )
