"""The sections about all blocks and groups of units: what was found, measured and decided."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from onnx_relusv.core.plans import Plan
from onnx_relusv.core.results import Compression, GroupReport, Inspection
from onnx_relusv.report.blocks import BlockTable, block_columns, saving_columns
from onnx_relusv.report.page import Column, Fact, Legend, Part, Picture
from onnx_relusv.report.plots import bytes_svg, spectrum_svg, strip_svg
from onnx_relusv.report.words import (
    NOTHING,
    bracket_text,
    change_text,
    printable,
    ranges_text,
    reasons_note,
)

Found = Inspection | Compression


_NONE = "No block was found."
BLOCKS: Part[Inspection] = Part(
    title="Blocks",
    of=lambda found: found.rows,
    columns=lambda found: block_columns(found.rows, BlockTable.FOUND),
    empty=_NONE,
)
DECISIONS: Part[Compression] = Part(
    title="Blocks",
    of=lambda found: found.rows,
    columns=lambda found: block_columns(found.rows, BlockTable.DECISIONS),
    empty=_NONE,
)
SHORT_DECISIONS: Part[Compression] = Part(
    title="Blocks",
    of=lambda found: found.rows,
    columns=lambda found: block_columns(
        found.rows,
        BlockTable.TERMINAL_DECISIONS,
        *(() if found.latency is None else (BlockTable.TERMINAL_TIMES,)),
    ),
    empty=_NONE,
    note=lambda found: reasons_note(row.choice.why for row in found.rows if row.choice),
)
SHORT_MEASURES: Part[Inspection] = Part(
    title="Blocks",
    of=lambda found: found.rows,
    columns=lambda found: (
        *block_columns(found.rows, BlockTable.TERMINAL_MEASURES),
        *saving_columns(found.rows, with_form=False),
    ),
    empty=_NONE,
    note=(
        "Largest response: length of the longest output to inputs of length 1, found by ascent, "
        "and [certified bounds]. At a relative error: rank of the cheapest form, and the share of "
        "the block's bytes that it saves."
    ),
)
MEASURES: Part[Found] = Part(
    title="Measures",
    of=lambda found: found.rows,
    columns=lambda found: block_columns(found.rows, BlockTable.MEASURES),
    text=(
        "Brackets are certified bounds; numbers before a bracket are estimates and prove nothing. "
        "Three digits are shown, seven are in the JSON report."
    ),
)
SHORT_SPECTRA: Part[Inspection] = Part(
    title="Spectra",
    of=lambda found: found.rows,
    columns=lambda found: block_columns(found.rows, BlockTable.TERMINAL_SPECTRA),
    note=(
        "Bars are values at a geometric ladder of ranks k, logarithmic: a full bar is the block's "
        "largest singular value, the lowest a hundredth of it. Untrained: random weights of the "
        "same shape and Frobenius norm. ReLU singular values, what is left behind the activation, "
        "are estimates."
    ),
)
SAVINGS: Part[Found] = Part(
    title="Savings by relative error",
    of=lambda found: [row for row in found.rows if any(one.savings for one in found.rows)],
    columns=lambda found: (
        block_columns(found.rows, BlockTable.MEASURES)[0],
        *saving_columns(found.rows, with_form=True),
    ),
)
BYTES: Part[Compression] = Part(
    title="Bytes by block",
    of=lambda found: found.rows,
    pictures=lambda found: [Picture(bytes_svg(found.rows, name="bytes"), wide=True)],
    legend=(("before", "before"), ("after", "after")),
)


def _common_error(found: Found) -> float | None:
    """The relative error that all blocks share; None without a plan, or where each has its own."""
    return found.level if isinstance(found, Compression) and found.damage is None else None


def _spectra(found: Found) -> Iterator[Picture]:
    for number, row in enumerate(found.rows):
        svg = spectrum_svg(row, _common_error(found), name=f"spectrum-{number}")
        yield Picture(svg, printable(row.block.key))


def _spectra_legend(found: Found) -> Legend:
    legend: Legend = (
        ("sigma", "singular values, sigma_(k+1)"),
        ("band", "certified bounds of the ReLU singular values s_k"),
        ("estimate", "estimates of s_k, neither bound"),
        ("untrained", "singular values of an untrained layer of the shape, equal Frobenius norm"),
    )
    if isinstance(found, Compression):
        legend += (("chosen", "rank of the double layer"),)
    if _common_error(found) is not None:
        legend += (("level", "relative error of the plan"),)
    return legend


SPECTRA: Part[Found] = Part(
    title="Spectra",
    of=lambda found: found.rows,
    text=(
        "What is left of a block when the rank of its linear map is cut to k, as a share of its "
        "largest singular value: sigma_(k+1) of the linear map itself, s_k behind the activation."
    ),
    pictures=_spectra,
    legend=_spectra_legend,
)


class _Rung(NamedTuple):
    key: str
    k: int
    estimate: float
    bracket: str
    sigma: float
    untrained: float
    converged: str


def _rungs(found: Found) -> tuple[_Rung, ...]:
    return tuple(
        _Rung(
            row.block.key,
            k,
            float(spectrum.estimate[k]),
            bracket_text(float(spectrum.lower[k]), float(spectrum.upper[k])),
            float(spectrum.sigma[k]),
            float(spectrum.untrained[k]),
            "yes" if converged else "no",
        )
        for row in found.rows
        for spectrum in [row.spectrum]
        for k, converged in zip(spectrum.ranks, spectrum.converged, strict=True)
    )


_AGREED = "Whether the ascent had stopped growing and a second start agreed to 1 %."
LADDER: Part[Inspection] = Part(
    title="ReLU singular values",
    of=_rungs,
    text=(
        "How far the best stand-in of rank k must stray behind the activation, for inputs of "
        "length 1 at most, without bias. The bracket is certified for every k; the JSON report has "
        "it for all of them, this table for a ladder of k."
    ),
    columns=(
        Column("block", "The tensor that leaves the block.", value="key"),
        Column("k", "The rank of the stand-in.", True, value="k"),
        Column(
            "estimate", "By ascent at the truncated SVD; neither bound.", True, value="estimate"
        ),
        Column("certified bracket", "Lower and upper bound of s_k.", True, value="bracket"),
        Column("sigma_(k+1)", "The ordinary singular value.", True, value="sigma"),
        Column("untrained", "The same of an untrained layer.", True, value="untrained"),
        Column("converged", _AGREED, value="converged"),
    ),
)


# Characters of a list of units; the JSON report has all of it.
_LONGEST, _SHORT = 400, 24


def _names(names: Sequence[str]) -> str:
    return printable(", ".join(names)) or NOTHING


def _removed(row: GroupReport) -> list[int]:
    return sorted(set(range(row.choice.units)) - set(row.choice.kept))


def _units(row: GroupReport) -> str:
    return change_text(str(row.choice.units), str(len(row.choice.kept)))


def _losing(rows: Sequence[GroupReport]) -> list[GroupReport]:
    return [row for row in rows if len(row.choice.kept) < row.choice.units]


_GROUP = Column("group", "The tensor that its first producer writes.", value="choice.key")
_PRODUCERS = Column(
    "written by",
    "Tensors whose weighted nodes lose rows: their channels go together.",
    value="choice.producers",
    text=_names,
)
_OPERATORS = Column(
    "in between", "Operators that its units run through, each once.", value="operators", text=_names
)
_CONSUMERS = Column(
    "read by", "Tensors whose weighted nodes lose columns.", value="choice.consumers", text=_names
)
_UNITS = Column("units", "Before and after.", True, value=_units)
_ERROR = Column(
    "relative error",
    "Also called level: w(W R^(1/2)) / w(W C^(1/2)), Gaussian mean widths: what the kept units "
    "cannot reproduce of the removed ones, as the consumers' weights W see it. C is the units' "
    "covariance, R what is left of it given the kept ones.",
    True,
    value="choice.level",
)
_CHANGE = Column(
    "expected change",
    "What the removal, with everything else as it was, does to the outputs, also called damage; "
    "measured at a few numbers of units on held-out samples and interpolated between them.",
    True,
    value="choice.damage",
)
_WHY = Column(
    "why", "The reason of the decision; damage is the expected change.", value="choice.why"
)


def _removed_column(longest: int) -> Column:
    return Column(
        "removed",
        "Which units went, numbered from 0 in the order of the first producer's channels.",
        value=_removed,
        text=lambda units: ranges_text(units, longest),
    )


def _page_columns(found: Compression) -> tuple[Column, ...]:
    measured = any(row.choice.damage is not None for row in found.groups)
    changes = (_CHANGE,) if measured else ()
    removed = (_removed_column(_LONGEST),) if _losing(found.groups) else ()
    written = (_GROUP, _PRODUCERS, _OPERATORS, _CONSUMERS, _UNITS)
    return (*written, *removed, _ERROR, *changes, _WHY)


def _strips(found: Compression) -> Iterator[Picture]:
    for row in _losing(found.groups):
        choice, key = row.choice, printable(row.choice.key)
        svg = strip_svg(choice.units, choice.kept, f"Kept and removed units of {key}")
        yield Picture(svg, f"{key}, {len(choice.kept)} of {choice.units} kept", wide=True)


GROUPS: Part[Compression] = Part(
    title="Groups of units",
    of=lambda found: found.groups,
    columns=_page_columns,
    text="Neurons and channels that share tensors are removed together or not at all.",
    pictures=_strips,
    legend=lambda found: (
        (("after", "kept"), ("before", "removed")) if _losing(found.groups) else ()
    ),
)


def _groups(found: Compression | Plan) -> Sequence[GroupReport]:
    if isinstance(found, Compression):
        return found.groups
    return [GroupReport(choice=choice) for choice in found.groups]


# The same in one table, as short as the terminal is narrow; of a plan, too. The first producer is
# the group's key.
SHORT_GROUPS: Part[Compression | Plan] = Part(
    title="Groups of units",
    of=_groups,
    columns=(
        Column("group", value=lambda row: row.choice.producers or [row.choice.key], text=_names),
        _CONSUMERS,
        _UNITS,
        _removed_column(_SHORT),
        _ERROR,
        _WHY,
    ),
    note=lambda found: reasons_note(row.choice.why for row in _groups(found)),
)
CHANNELS_THAT_STAY: Part[Compression] = Part(
    title="Channels that stay",
    of=lambda found: found.channel_refusals,
    columns=(
        Column("layer", "The tensor that it writes.", value="key"),
        Column("operator", value="operator"),
        Column("reason", value="reason"),
    ),
    text="All output channels of these layers stay, whatever becomes of their inputs.",
)


def groups_facts(found: Compression) -> Iterator[Fact]:
    """How many units went."""
    if found.groups:
        units = sum(row.choice.units for row in found.groups)
        removed = sum(len(_removed(row)) for row in found.groups)
        groups = f"in {len(_losing(found.groups))} of {len(found.groups)} groups"
        yield Fact("units removed", f"{removed} of {units}", groups)
