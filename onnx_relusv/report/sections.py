"""The sections that most reports have, of blocks, groups of units, files and where bytes are."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.plans import Plan
from onnx_relusv.core.results import (
    BlockReport,
    Comparison,
    Compression,
    GroupReport,
    Inspection,
    ModelFacts,
    Provenance,
)
from onnx_relusv.core.traces import Trace
from onnx_relusv.report import words
from onnx_relusv.report.blocks import COLUMNS, BlockTable, block_columns, saving_columns
from onnx_relusv.report.page import Column, Legend, Number, Part, Picture
from onnx_relusv.report.plots import spectrum_svg, strip_svg

Found = Inspection | Compression


def _table(title: str, tables: BlockTable, text: str = "", note: str = "") -> Part[Found]:
    """The section of a table of blocks."""
    return Part(
        title=title,
        of=lambda found: found.rows,
        columns=lambda found: block_columns(found.rows, tables),
        empty="No block was found." if title == "Blocks" else "",
        text=text,
        note=note,
    )


BLOCKS = _table("Blocks", BlockTable.FOUND)
DECISIONS = _table("Decisions", BlockTable.DECISIONS)
MEASURES = _table(
    "Measures",
    BlockTable.MEASURES,
    "Brackets are certified bounds; numbers before a bracket are estimates and prove nothing. "
    "Three digits are shown, seven are in the JSON report.",
)
SHORT_SPECTRA = _table(
    "Spectra",
    BlockTable.TERMINAL_SPECTRA,
    note="Bars are values at a geometric ladder of ranks k, logarithmic: a full bar is the block's "
    "largest singular value, the lowest a hundredth of it. Untrained: random weights of the "
    "same shape and Frobenius norm. ReLU singular values, what is left behind the activation, "
    "are estimates.",
)
SHORT_DECISIONS: Part[Compression] = Part(
    title="Blocks",
    of=lambda found: found.rows,
    empty=BLOCKS.empty,
    columns=lambda found: block_columns(
        found.rows,
        BlockTable.TERMINAL_DECISIONS
        | (BlockTable.TERMINAL_TIMES if found.latency else BlockTable(0)),
    ),
    note=lambda found: words.terms(row.choice.why for row in found.rows if row.choice),
)
CHOICES: Part[Plan] = Part(
    title="Plan",
    of=lambda plan: plan.choices,
    columns=(
        Column("block", "", "key"),
        Column("decision", "", lambda choice: words.decision(choice)),
        Number("relative error", "", lambda choice: None if choice.is_kept else choice.level),
        Number("expected change", "", "damage"),
        Column("why"),
    ),
    note=lambda plan: words.terms(choice.why for choice in plan.choices),
)
SHORT_MEASURES: Part[Inspection] = replace(
    BLOCKS,
    columns=lambda found: (
        *block_columns(found.rows, BlockTable.TERMINAL_MEASURES),
        *saving_columns(found.rows, with_form=False),
    ),
    note="Largest response: length of the longest output to inputs of length 1, found by ascent, "
    "and [certified bounds]. At a relative error: rank of the cheapest form, and the share of "
    "the block's bytes that it saves.",
)
SAVINGS: Part[Found] = Part(
    title="Savings by relative error",
    of=lambda found: found.rows if any(row.savings for row in found.rows) else (),
    columns=lambda found: (COLUMNS[0], *saving_columns(found.rows, with_form=True)),
)


def _common_error(found: Found) -> float | None:
    """The relative error that all blocks share; None without a plan, or where each has its own."""
    if isinstance(found, Compression) and found.plan.damage is None:
        return found.plan.level
    return None


def _spectra(found: Found) -> Iterator[Picture]:
    for number, row in enumerate(found.rows):
        svg = spectrum_svg(row, _common_error(found), name=f"spectrum-{number}")
        yield Picture(svg, words.printable(row.block.key))


def _spectra_legend(found: Found) -> Legend:
    chosen = (("chosen", "rank of the double layer"),)
    common = (("level", "relative error of the plan"),)
    return (
        ("sigma", "singular values, sigma_(k+1)"),
        ("band", "certified bounds of the ReLU singular values s_k"),
        ("estimate", "estimates of s_k, neither bound"),
        ("untrained", "singular values of an untrained layer of the shape, equal Frobenius norm"),
        *(chosen if isinstance(found, Compression) else ()),
        *(() if _common_error(found) is None else common),
    )


SPECTRA: Part[Found] = Part(
    title="Spectra",
    of=lambda found: found.rows,
    text=(
        "The error of a block whose linear map is cut to the rank k, as a share of its largest "
        "singular value: sigma_(k+1) of the linear map itself, s_k behind the activation."
    ),
    pictures=_spectra,
    legend=_spectra_legend,
)


def _at(name: str) -> Callable[[tuple[BlockReport, int, bool]], float]:
    """A value of a spectrum at one k of the ladder."""
    return lambda rung: float(getattr(rung[0].spectrum, name)[rung[1]])


LADDER: Part[Inspection] = Part(
    title="ReLU singular values",
    of=lambda found: (
        (row, k, converged)
        for row in found.rows
        for k, converged in zip(row.spectrum.ranks, row.spectrum.converged, strict=True)
    ),
    text=(
        "How far the best stand-in of rank k must stray behind the activation, for inputs of "
        "length 1 at most, without bias. The bracket is certified for every k; the JSON report has "
        "it for all of them, this table for a ladder of k."
    ),
    columns=(
        Column("block", "The tensor that leaves the block.", lambda rung: rung[0].block.key),
        Number("k", "The rank of the stand-in.", 1),
        Number("estimate", "By ascent at the truncated SVD; neither bound.", _at("estimate")),
        Number(
            "certified bracket",
            "Lower and upper bound of s_k.",
            lambda rung: words.bracket(_at("lower")(rung), _at("upper")(rung)),
        ),
        Number("sigma_(k+1)", "The ordinary singular value.", _at("sigma")),
        Number("untrained", "The same of an untrained layer.", _at("untrained")),
        Column(
            "converged",
            "Whether the ascent had stopped growing and a second start agreed to 1 %.",
            2,
            lambda converged: "yes" if converged else "no",
        ),
    ),
)


def _names(names: Sequence[str]) -> str:
    return words.printable(", ".join(names)) or words.NOTHING


def removed_units(row: GroupReport) -> list[int]:
    """Which units of a group went."""
    return sorted(set(range(row.choice.units)) - set(row.choice.kept))


def _losing(found: Compression) -> list[GroupReport]:
    return [row for row in found.groups if len(row.choice.kept) < row.choice.units]


def _removed(longest: int) -> Column:
    """Which units went, in so many characters at most; the JSON report has all of them."""
    return Column(
        "removed",
        "Which units went, numbered from 0 in the order of the first producer's channels.",
        removed_units,
        lambda units: words.ranges(units, longest),
    )


_READ_BY = Column(
    "read by", "Tensors whose weighted nodes lose columns.", "choice.consumers", _names
)
_UNITS = Number(
    "units",
    "Before and after.",
    lambda row: words.change(row.choice.units, len(row.choice.kept)),
)
_ERROR = Number(
    "relative error",
    "Also called level: w(W R^(1/2)) / w(W C^(1/2)), Gaussian mean widths: what the kept units "
    "cannot reproduce of the removed ones, as the consumers' weights W see it. C is the units' "
    "covariance, R what is left of it given the kept ones.",
    "choice.level",
)
_WHY = Column("why", "The reason of the decision; damage is the expected change.", "choice.why")


def _group_columns(found: Compression) -> Iterator[Column]:
    yield Column("group", "The tensor that its first producer writes.", "choice.key")
    yield Column(
        "written by",
        "Tensors whose weighted nodes lose rows: their channels go together.",
        "choice.producers",
        _names,
    )
    between = "Operators that its units run through, each once."
    yield Column("in between", between, "operators", _names)
    yield from (_READ_BY, _UNITS)
    if _losing(found):
        yield _removed(400)
    yield _ERROR
    if any(row.choice.damage is not None for row in found.groups):
        yield Number(
            "expected change",
            "What the removal, with everything else as it was, does to the outputs, also called "
            "damage; measured at a few numbers of units on held-out samples and interpolated "
            "between them.",
            "choice.damage",
        )
    yield _WHY


def _strips(found: Compression) -> Iterator[Picture]:
    for row in _losing(found):
        choice, key = row.choice, words.printable(row.choice.key)
        svg = strip_svg(choice.units, choice.kept, f"Kept and removed units of {key}")
        yield Picture(svg, f"{key}, {len(choice.kept)} of {choice.units} kept", stretched=True)


GROUPS: Part[Compression] = Part(
    title="Groups of units",
    of=lambda found: found.groups,
    columns=lambda found: tuple(_group_columns(found)),
    text="Neurons and channels that share tensors are removed together or not at all.",
    pictures=_strips,
    legend=lambda found: (("after", "kept"), ("before", "removed")) if _losing(found) else (),
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
        Column("group", "", lambda row: row.choice.producers or [row.choice.key], _names),
        _READ_BY,
        _UNITS,
        _removed(24),
        _ERROR,
        _WHY,
    ),
    note=lambda found: words.terms(row.choice.why for row in _groups(found)),
)
CHANNELS_THAT_STAY: Part[Compression] = Part(
    title="Channels that stay",
    of=lambda found: found.channel_refusals,
    columns=(
        Column("layer", "The tensor that it writes.", "key"),
        Column("operator"),
        Column("reason"),
    ),
    text="All output channels of these layers stay, whatever becomes of their inputs.",
)
LATENCIES: Part[Comparison] = Part(
    title="Latency",
    of=lambda found: found.evaluation.latencies,
    columns=(
        Column("batch size", "", "batch"),
        Number("first", "Median of one run.", "before", words.seconds),
        Number(
            "second", "Median of one run, measured in turns with the first.", "after", words.seconds
        ),
        Number(
            "ratio",
            "Time of the second over time of the first.",
            lambda one: words.ratio(one.after, one.before),
        ),
    ),
    text=lambda found: f"On {found.evaluation.provider}, measured in turns.",
)


def refused(text: str) -> Part[Inspection | Compression | Trace]:
    """What was left alone, with reasons; `text` says what that means."""
    return Part(
        title="Refused",
        of=lambda found: found.refusals,
        columns=(Column("block", "", "key"), Column("reason")),
        text=text,
    )


REFUSED = refused("These look like blocks and stay as they are.")


VALIDATION: Part[Compression] = Part(
    title="Validation",
    of=lambda found: found.verdict.checks,
    columns=(Column("check", "", "name"), Column("what was found", "", "detail")),
    text="All checks passed. A level is a relative error.",
)
# The models of a report, by role.
Files = Mapping[str, ModelFacts]
_FACTS: tuple[Column, ...] = (
    Column("file", "", "path"),
    Number("bytes", "Of the file and its external data.", text=words.size),
    Number(
        "parameters",
        "Floating-point numbers in initializers and Constant nodes.",
        text=words.count,
    ),
    Number(
        "MACs",
        "Of all Conv, ConvTranspose, Gemm and MatMul nodes for one sample.",
        "macs",
        words.count,
    ),
    Number("opset", "Version of the default operator set."),
)


def _of_file(column: Column) -> Column:
    return replace(column, value=lambda named: column.read(named[1]))


FILES: Part[Files] = Part(
    title="Files",
    of=lambda files: files.items(),
    columns=(Column("model", "", 0), *map(_of_file, _FACTS)),
)


def provenance(files: Files) -> Part[Provenance]:
    """Who made the result, and from what; `files` are the models by role."""

    def rows(made: Provenance) -> Iterator[tuple[str, str]]:
        yield "provider", made.provider
        yield "seed", str(made.seed)
        groups = "" if made.sample_groups is None else f" in {made.sample_groups} groups"
        if made.samples is None:
            yield "samples", "none"
        else:
            yield "samples", f"{made.sample_count}{groups} from {made.samples}"
            yield "SHA-256 of the samples", made.samples_sha256 or words.NOTHING
        yield from ((f"SHA-256 of the {role}", facts.sha256) for role, facts in files.items())
        yield from sorted(made.versions.items())

    return Part(
        title="Provenance",
        of=rows,
        columns=(Column("what", "", 0), Column("value", "", 1)),
        file=lambda made: words.settings(made.settings),
        file_name="relusv.toml",
    )


Covered = Inspection | BudgetError


def _coverage_rows(found: Covered) -> Iterator[tuple[str, str, int, str, str]]:
    """By operator, what blocks hold and what stays; nothing where that is not known."""
    coverage = found.coverage
    if coverage is None:
        return
    for row in coverage.rows:
        why = f"{row.reason}; {row.advice}" if row.advice else row.reason
        if row.count == 1 and row.examples and not row.covered:
            why = f"{row.examples[0]}: {why}"
        yield row.operator, str(row.count), row.bytes, "yes" if row.covered else "no", why
    names = "nodes, names, descriptions"
    yield "(the rest)", words.NOTHING, coverage.other_bytes, words.NOTHING, names
    yield "(all)", words.NOTHING, coverage.total_bytes, words.NOTHING, ""


def _covered(found: Covered) -> str:
    if found.coverage is None:
        return ""
    share = words.share(found.coverage.covered_bytes, found.coverage.total_bytes)
    total = words.size(found.coverage.total_bytes)
    return f"Blocks that can be made smaller hold {share} of the {total}."


def _coverage_columns(found: Covered) -> tuple[Column, ...]:
    total = found.coverage.total_bytes if found.coverage else 0
    return (
        Column("operator", "", 0),
        Number("count", "Operators that read these constants.", 1),
        Number("bytes", "That their numbers take in the file.", 2, words.size),
        Number("share", "Of the file's.", 2, lambda part: words.share(part, total)),
        Column("in blocks", "Whether ranks or channels of them can go.", 3),
        Column("why, and what can be done", "", 4),
    )


COVERAGE: Part[Covered] = Part(
    title="Where the bytes are",
    of=_coverage_rows,
    text=_covered,
    note=_covered,
    columns=_coverage_columns,
)
