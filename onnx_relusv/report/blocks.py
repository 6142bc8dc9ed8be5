"""What reports say of every block: `COLUMNS` declares each quantity once, for all of them.

A column has its value, and from that its field in the JSON report and its text in the tables of
page and terminal; a new one is an entry in `COLUMNS`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Flag, auto
from typing import Any

import numpy as np

from onnx_relusv.core.measures import Spectrum
from onnx_relusv.core.results import BlockReport
from onnx_relusv.report import words
from onnx_relusv.report.page import Column, Number


class BlockTable(Flag):
    """The tables with a row for each block; a terminal is narrow and shows less."""

    FOUND = auto()
    MEASURES = auto()
    TERMINAL_MEASURES = auto()
    TERMINAL_SPECTRA = auto()
    RANKED = auto()
    DECISIONS = auto()
    TERMINAL_DECISIONS = auto()
    # Joins the terminal's decisions where there is a budget on latency.
    TERMINAL_TIMES = auto()


_MEASURES = BlockTable.MEASURES | BlockTable.TERMINAL_MEASURES
_DECISIONS = BlockTable.DECISIONS | BlockTable.TERMINAL_DECISIONS
# What was done, and why, with what it changes.
_DONE = BlockTable.RANKED | _DECISIONS


@dataclass(frozen=True)
class BlockColumn(Number):
    """A quantity of a block.

    Attributes:
        tables: Which tables have it; one of them leaves it out where no block has a value.
        json: Its name in the JSON report, which has the value; empty for none.
    """

    tables: BlockTable = field(default=BlockTable(0), kw_only=True)
    json: str = field(default="", kw_only=True)


def block_columns(rows: Sequence[BlockReport], tables: BlockTable) -> tuple[Column, ...]:
    """The columns of some tables that have something to say of these blocks."""
    return tuple(
        one
        for one in COLUMNS
        if tables & one.tables and any(one.cell(row) != words.NOTHING for row in rows)
    )


def _largest_response(spectrum: Spectrum) -> str:
    bracket = words.bracket(float(spectrum.lower[0]), float(spectrum.upper[0]))
    estimate = spectrum.s_0_estimate
    return bracket if math.isnan(estimate) else f"{words.number(estimate)} {bracket}"


def _relu_mean_width(spectrum: Spectrum) -> str:
    bracket = words.bracket(spectrum.relu_mean_width_lower, spectrum.relu_mean_width_upper)
    if math.isnan(spectrum.relu_mean_width):
        return bracket
    error = words.number(spectrum.relu_mean_width_error)
    return f"{words.number(spectrum.relu_mean_width)} (error {error}) {bracket}"


def _bars(name: str) -> Callable[[Spectrum], str]:
    """Values of a spectrum at its ladder of k, as bars."""

    def bars(spectrum: Spectrum) -> str:
        return words.sparkline(
            getattr(spectrum, name)[list(spectrum.ranks)], float(spectrum.sigma[0])
        )

    return bars


def _channels(row: BlockReport) -> str | None:
    choice, geometry = row.choice, row.block.geometry
    changes = (
        (geometry.in_channels, choice and choice.inputs, "in"),
        (geometry.out_channels, choice and choice.outputs, "out"),
    )
    said = (f"{before} -> {after} {name}" for before, after, name in changes if after is not None)
    return ", ".join(said) or None


def _chosen(value: Callable[[BlockReport], Any], *actions: str) -> Callable[[BlockReport], Any]:
    """A value that only blocks have of which these are the actions."""
    return lambda row: value(row) if row.choice and row.choice.action in actions else None


def _cost(text: Callable[[float], str], name: str) -> Callable[[BlockReport], str]:
    """A cost, before and after where there is a plan."""

    def change(row: BlockReport) -> str:
        return words.change(
            getattr(row.cost, name), getattr(row.cost_after or row.cost, name), text
        )

    return change


def _time(row: BlockReport) -> str | None:
    before, after = row.latency_before, row.latency_after
    if before is None or after is None:
        return None
    return f"{words.change(before, after, words.seconds)} ({words.ratio(after, before)})"


def _fields(paths: str) -> tuple[BlockColumn, ...]:
    """What is in the JSON report alone, named as in the record."""
    return tuple(BlockColumn("", "", path, json=path.rpartition(".")[2]) for path in paths.split())


# In the order of the JSON report and of all tables.
COLUMNS: tuple[BlockColumn, ...] = (
    BlockColumn(
        "block",
        "The tensor that leaves the block.",
        "block.key",
        json="key",
        numeric=False,
        tables=~BlockTable.TERMINAL_TIMES,
    ),
    *_fields(
        "block.source block.pre_activation block.weight block.nodes block.consumers "
        "block.source_shape block.output_shape block.element_type block.original_bytes "
        "block.geometry block.activation"
    ),
    BlockColumn(
        "layer",
        "Operator, rows x columns of its weight as a matrix, a Conv's kernel, and the activation; "
        "behind a linear block in brackets.",
        lambda row: (
            f"{words.geometry(row.block.geometry)}, {words.activation(row.block.activation)}"
            + (f" ({row.behind.name})" if row.behind else "")
        ),
        numeric=False,
        tables=BlockTable.FOUND | _MEASURES,
    ),
    BlockColumn(
        "decision",
        "Kept; refitted: other values in the same form; pruned: fewer channels; or a double "
        "layer, its form and its inner width, per group; of a tucker, the one behind its core. "
        "The ranks of forms belong to different unfoldings of a kernel.",
        lambda row: words.decision(row.choice),
        numeric=False,
        tables=_DONE,
    ),
    BlockColumn(
        "channels",
        "Input and output channels before and after; a dash where none goes.",
        _channels,
        numeric=False,
        tables=_DECISIONS,
    ),
    BlockColumn(
        "parameters",
        "Numbers in the weight and the bias.",
        text=words.count,
        json="parameters",
        tables=BlockTable.FOUND | _MEASURES,
    ),
    BlockColumn(
        "bytes",
        "What the block alone occupies in the file; where it changes, before and after.",
        _cost(words.size, "bytes"),
        tables=BlockTable.FOUND | _DONE,
    ),
    BlockColumn(
        "MACs",
        "Multiply-accumulates for one sample; where they change, before and after.",
        _cost(words.count, "macs"),
        tables=BlockTable.FOUND
        | BlockTable.RANKED
        | BlockTable.DECISIONS
        | BlockTable.TERMINAL_MEASURES,
    ),
    BlockColumn("", value="cost", json="cost_before"),
    *_fields("spectrum savings"),
    BlockColumn(
        "singular values",
        "At a geometric ladder of k, logarithmic: a full bar is the largest, the lowest a "
        "hundredth of it.",
        "spectrum",
        _bars("sigma"),
        numeric=False,
        tables=BlockTable.TERMINAL_SPECTRA,
    ),
    BlockColumn(
        "untrained layer",
        "One layer of this shape with independent Gaussian weights and an equal Frobenius norm, "
        "on the scale of this block.",
        "spectrum",
        _bars("untrained"),
        numeric=False,
        tables=BlockTable.TERMINAL_SPECTRA,
    ),
    BlockColumn(
        "ReLU singular values",
        "Estimates of the ReLU singular values s_k at the same k, neither bound.",
        "spectrum",
        _bars("estimate"),
        numeric=False,
        tables=BlockTable.TERMINAL_SPECTRA,
    ),
    BlockColumn(
        "converged",
        "At how many of these k the ascent had stopped growing and a second start agreed to 1 %; "
        "elsewhere the estimate may be too low.",
        "spectrum.converged",
        lambda converged: f"{int(np.sum(converged))} of {len(converged)}",
        tables=BlockTable.TERMINAL_SPECTRA,
    ),
    BlockColumn(
        "largest response",
        "Length of the longest output to inputs of length 1, without bias: the ReLU singular "
        "value s_0. In brackets certified bounds; before them what an ascent met, at an input "
        "that proves the lower bound.",
        "spectrum",
        _largest_response,
        tables=_MEASURES,
    ),
    BlockColumn(
        "with the activation behind it",
        "Of a linear block with an activation that is not homogeneous: certified bounds of its "
        "s_0, with its bias, for inputs on one ball around their mean, in the metric of their "
        "covariance, whose radius R is such that half of the samples at least lie within; without "
        "samples that is not known, without statistics R is 1.",
        "behind",
        lambda behind: (
            f"{behind.name}, R {words.number(behind.radius)}: "
            f"{words.bracket(float(behind.lower[0]), float(behind.upper[0]))}"
        ),
        numeric=False,
        tables=BlockTable.MEASURES,
    ),
    BlockColumn(
        "stable rank",
        "Sum of the squared singular values over the largest one squared; computed, no estimate.",
        "spectrum.stable_rank",
        tables=_MEASURES,
    ),
    BlockColumn(
        "mean width",
        "Gaussian mean width of the linear image of the unit ball; certified up to quadrature.",
        "spectrum.mean_width",
        tables=_MEASURES,
    ),
    BlockColumn(
        "mean width after activation",
        "Gaussian mean width behind the activation. In brackets certified bounds; before them a "
        "Monte Carlo estimate from below, with the standard error of its sampling alone.",
        "spectrum",
        _relu_mean_width,
        tables=BlockTable.MEASURES | BlockTable.TERMINAL_SPECTRA,
    ),
    BlockColumn(
        "operator norm",
        "Largest singular value of a Conv as an operator on whole feature maps, on a torus as "
        "long as the padded input: another and larger number than that of its patches. Without "
        "the covariance of the inputs.",
        "spectrum.operator_norm",
        tables=BlockTable.MEASURES | BlockTable.TERMINAL_SPECTRA,
    ),
    BlockColumn(
        "measured on",
        "Where the covariance of the block's input comes from: samples; without them what a "
        "BatchNormalization tells, with correlations of synthetic inputs, or these inputs alone; "
        "none for the identity.",
        "statistics",
        lambda source: str(source).replace("_", " "),
        json="statistics",
        numeric=False,
        tables=BlockTable.MEASURES,
    ),
    *_fields("behind"),
    *_fields("choice"),
    BlockColumn(
        "planned error",
        "Relative error, also called level: |(W - L) C^(1/2)| / |W C^(1/2)| in spectral norms, as "
        "the plan computed it. L takes the place of the weight W; C is the input's covariance, or "
        "the identity: see 'measured on'.",
        _chosen(lambda row: row.choice and row.choice.level, "double_layer"),
        tables=BlockTable.DECISIONS,
    ),
    BlockColumn(
        "expected change",
        "What this form, with every other block as it was, does to the outputs, also called "
        "damage: mean divergence of the class scores in nats, or squared relative L2 error; "
        "measured on held-out samples at a few ranks and interpolated between them. Refinement "
        "is not included.",
        lambda row: row.choice and row.choice.damage,
        tables=BlockTable.DECISIONS,
    ),
    BlockColumn("", value=lambda row: row.choice and row.level, json="reached_level"),
    BlockColumn(
        "relative error",
        "As the planned error, but computed from the factors that are written.",
        _chosen(lambda row: row.level, "double_layer", "prune", "refit"),
        tables=_DECISIONS,
    ),
    *_fields("cost_after latency_before latency_after"),
    BlockColumn(
        "sensitivity",
        "What half of the block's weights, gone in the way that does least, would do to the "
        "outputs with every other block as it was, in the unit of the expected change; estimated "
        "from what was measured at a few ranks or numbers of units.",
        "sensitivity",
        json="sensitivity",
        tables=BlockTable.RANKED,
    ),
    BlockColumn(
        "time",
        "Of one run of the block by itself at the batch size of --batch, before and after, and "
        "their ratio; measured. Only blocks that changed were timed.",
        _time,
        tables=BlockTable.RANKED | BlockTable.DECISIONS | BlockTable.TERMINAL_TIMES,
    ),
    BlockColumn(
        "why",
        "The reason of the decision. Damage is the expected change of the outputs, joint damage "
        "that with all other changes made.",
        lambda row: row.choice and row.choice.why,
        numeric=False,
        tables=_DONE,
    ),
)


def saving_columns(rows: Sequence[BlockReport], *, with_form: bool) -> tuple[Column, ...]:
    """One column for each tolerance at which savings were computed.

    Args:
        rows: The blocks.
        with_form: Whether cells name the form too; the terminal has no room for it.
    """
    tolerances = sorted({saving.tolerance for row in rows for saving in row.savings})

    def column(tolerance: float) -> Column:
        def value(row: BlockReport) -> str | None:
            for saving in row.savings:
                if saving.tolerance == tolerance and saving.rank is not None:
                    share = words.share(saving.saved_bytes, row.cost.bytes)
                    return f"{saving.form} " * with_form + f"{saving.rank} ({share})"
            return None

        return Number(
            f"at {words.number(tolerance)}",
            f"The cheapest form with a relative error of {words.number(tolerance)} at most: its "
            "rank, and the share of the block's bytes it saves, a lower bound; a dash where none "
            "makes the block smaller.",
            value,
        )

    return tuple(map(column, tolerances))
