"""The columns of block tables: what each says, in words, and how a block fills it.

Page and terminal choose among the same columns, so a quantity has one name and one explanation.

The columns that show a block's whole spectrum, in one line or in numbers.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from onnx_relusv.core.results import BlockRow
from onnx_relusv.report.page import Heading, Section, Table
from onnx_relusv.report.words import (
    NOTHING,
    activation_text,
    bracket_text,
    bytes_text,
    change_text,
    count_text,
    decision_text,
    geometry_text,
    number_text,
    printable,
    share_text,
    sparkline,
)


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table of blocks.

    Attributes:
        title: Its heading.
        explanation: What the quantity is, and whether it is certified or estimated.
        cell: The text of a block's cell.
        numeric: Whether it is read from the right.
    """

    title: str
    explanation: str
    cell: Callable[[BlockRow], str]
    numeric: bool = True


def _s_0(row: BlockRow) -> str:
    spectrum = row.spectrum
    bracket = bracket_text(float(spectrum.lower[0]), float(spectrum.upper[0]))
    estimate = float(spectrum.estimate[0])
    return bracket if math.isnan(estimate) else f"{number_text(estimate)} {bracket}"


def _relu_mean_width(row: BlockRow) -> str:
    spectrum = row.spectrum
    bracket = bracket_text(spectrum.relu_mean_width_lower, spectrum.relu_mean_width_upper)
    if math.isnan(spectrum.relu_mean_width):
        return bracket
    error = number_text(spectrum.relu_mean_width_error)
    return f"{number_text(spectrum.relu_mean_width)} (error {error}) {bracket}"


def _decision(row: BlockRow) -> str:
    return decision_text(row.choice)


def _channels(row: BlockRow) -> str:
    choice, geometry = row.choice, row.block.geometry
    if choice is None:
        return NOTHING
    changes = [
        f"{before} -> {after} {name}"
        for name, before, after in (
            ("in", geometry.in_channels, choice.inputs),
            ("out", geometry.out_channels, choice.outputs),
        )
        if after is not None
    ]
    return ", ".join(changes) or NOTHING


def _planned_level(row: BlockRow) -> str:
    choice = row.choice
    is_layer = choice is not None and choice.action == "double_layer"
    return number_text(choice.level) if choice is not None and is_layer else NOTHING


def _planned_damage(row: BlockRow) -> str:
    choice = row.choice
    return NOTHING if choice is None or choice.damage is None else number_text(choice.damage)


def _reached_level(row: BlockRow) -> str:
    choice = row.choice
    return NOTHING if choice is None or choice.action == "keep" else number_text(row.level)


def _bytes_change(row: BlockRow) -> str:
    before, after = row.cost, row.cost_after or row.cost
    return change_text(bytes_text(before.bytes), bytes_text(after.bytes))


def _macs_change(row: BlockRow) -> str:
    before, after = row.cost, row.cost_after or row.cost
    return change_text(count_text(before.macs), count_text(after.macs))


KEY = Column(
    title="block",
    explanation="The tensor that leaves the block.",
    cell=lambda row: printable(row.block.key),
    numeric=False,
)
SHAPE = Column(
    title="shape",
    explanation="Operator, rows x columns of its weight as a matrix, and a Conv's kernel.",
    cell=lambda row: geometry_text(row.block.geometry),
    numeric=False,
)
ACTIVATION = Column(
    title="activation",
    explanation="What follows the linear map.",
    cell=lambda row: activation_text(row.block.activation),
    numeric=False,
)
LAYER = Column(
    title="layer",
    explanation="Operator, weight matrix, kernel, and what follows the linear map.",
    cell=lambda row: f"{SHAPE.cell(row)}, {ACTIVATION.cell(row)}",
    numeric=False,
)
PARAMETERS = Column(
    title="parameters",
    explanation="Numbers in the weight and the bias.",
    cell=lambda row: count_text(row.parameters),
)
BYTES = Column(
    title="bytes",
    explanation="What the block alone occupies in the file.",
    cell=lambda row: bytes_text(row.cost.bytes),
)
MACS = Column(
    title="MACs",
    explanation="Multiply-accumulates for one sample.",
    cell=lambda row: count_text(row.cost.macs),
)
S_0 = Column(
    title="s_0",
    explanation=(
        "ReLU singular value s_0, without bias, on the unit ball. In brackets certified bounds; "
        "before them what an ascent met, at an input that proves the lower bound."
    ),
    cell=_s_0,
)
MEAN_WIDTH = Column(
    title="mean width",
    explanation=(
        "Gaussian mean width of the linear image of the unit ball; certified up to quadrature."
    ),
    cell=lambda row: number_text(row.spectrum.mean_width),
)
RELU_MEAN_WIDTH = Column(
    title="mean width after activation",
    explanation=(
        "Gaussian mean width behind the activation. In brackets certified bounds; before them a "
        "Monte Carlo estimate from below, with the standard error of its sampling alone."
    ),
    cell=_relu_mean_width,
)
STABLE_RANK = Column(
    title="stable rank",
    explanation=(
        "Sum of the squared singular values over the largest one squared; computed, no estimate."
    ),
    cell=lambda row: number_text(row.spectrum.stable_rank),
)
STATISTICS = Column(
    title="measured on",
    explanation=(
        "Where the covariance of the block's input comes from: samples; without them what a "
        "BatchNormalization tells, with correlations of synthetic inputs, or these inputs alone; "
        "none for the identity."
    ),
    cell=lambda row: row.statistics.replace("_", " "),
    numeric=False,
)
DECISION = Column(
    title="decision",
    explanation=(
        "Kept; refitted: other values in the same form; pruned: fewer channels; or a double layer, "
        "its form and its inner width, per group; of a tucker, the one behind its core. The ranks "
        "of forms belong to different unfoldings of a kernel."
    ),
    cell=_decision,
    numeric=False,
)
CHANNELS = Column(
    title="channels",
    explanation="Input and output channels before and after; a dash where none goes.",
    cell=_channels,
    numeric=False,
)
PLANNED_LEVEL = Column(
    title="planned level",
    explanation=(
        "|(W - L) C^(1/2)| / |W C^(1/2)|, spectral norms, as the plan computed it; C is the "
        "input's covariance, or the identity: see 'measured on'."
    ),
    cell=_planned_level,
)
PLANNED_DAMAGE = Column(
    title="damage",
    explanation=(
        "What this form, with every other block as it was, does to the outputs: mean divergence "
        "of the class scores in nats, or squared relative L2 error; measured on held-out samples "
        "at a few ranks and interpolated between them. Refining is not in it."
    ),
    cell=_planned_damage,
)
REACHED_LEVEL = Column(
    title="reached level",
    explanation="The same level, computed from the factors as they are written.",
    cell=_reached_level,
)
BYTES_CHANGE = Column(
    title="bytes",
    explanation="What the block alone occupies in the file, before and after.",
    cell=_bytes_change,
)
MACS_CHANGE = Column(
    title="MACs",
    explanation="Multiply-accumulates for one sample, before and after.",
    cell=_macs_change,
)
WHY = Column(
    title="why",
    explanation="The reason of the decision.",
    cell=lambda row: NOTHING if row.choice is None else printable(row.choice.why),
    numeric=False,
)


def filled(columns: Iterable[Column], rows: Sequence[BlockRow]) -> tuple[Column, ...]:
    """Those of some columns that have something to say of a block at least."""
    return tuple(one for one in columns if any(one.cell(row) != NOTHING for row in rows))


def saving_columns(rows: Sequence[BlockRow], *, with_form: bool) -> tuple[Column, ...]:
    """One column for each tolerance at which savings were computed.

    Args:
        rows: The blocks.
        with_form: Whether cells name the form too; the terminal has no room for it.
    """
    tolerances = sorted({saving.tolerance for row in rows for saving in row.savings})
    return tuple(_saving_column(tolerance, with_form) for tolerance in tolerances)


def _saving_column(tolerance: float, with_form: bool) -> Column:
    def cell(row: BlockRow) -> str:
        for saving in row.savings:
            if saving.tolerance == tolerance and saving.rank is not None:
                form = f"{saving.form} " if with_form else ""
                saved = share_text(saving.saved_bytes, row.cost.bytes)
                return f"{form}{saving.rank} ({saved})"
        return NOTHING

    return Column(
        title=f"at {number_text(tolerance)}",
        explanation=(
            f"The cheapest form at level {number_text(tolerance)}: its rank, and the share of the "
            "block's bytes it saves, a lower bound; a dash where none makes the block smaller."
        ),
        cell=cell,
    )


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
