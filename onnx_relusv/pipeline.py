"""The six things the package does, each with its stages in order; the only place that knows it.

read -> blocks -> moments of the samples -> spectra and candidates -> plan -> factors -> surgery ->
validation -> report -> the file
"""

from dataclasses import dataclass, replace
from pathlib import Path

from onnx_relusv.allocation import Origin, make_plan
from onnx_relusv.candidates import item_size
from onnx_relusv.cost import candidate_cost
from onnx_relusv.damage import damage_curves, with_damage
from onnx_relusv.decisions import Choice, Cost, Plan
from onnx_relusv.errors import InputError, UsageError
from onnx_relusv.evaluate import evaluate
from onnx_relusv.graph.model import Model, read_model
from onnx_relusv.multiplier import make_damage_plan
from onnx_relusv.opened import (
    BlockMoments,
    Opened,
    block_moments,
    facts_of,
    open_model,
    provenance,
)
from onnx_relusv.options import DEFAULT_MEMORY, MeasureOptions, PlanOptions, ProviderName
from onnx_relusv.outputs import check_output, check_report_folder
from onnx_relusv.plan_file import read_plan
from onnx_relusv.progress import Progress, Silent
from onnx_relusv.report.folder import write_compression
from onnx_relusv.results import BlockRow, Comparison, Compression, Inspection, Verdict
from onnx_relusv.rewriting import write_planned
from onnx_relusv.rows import Measured, measure_blocks
from onnx_relusv.runtime.session import Session, choose_provider
from onnx_relusv.samples import Samples, open_samples
from onnx_relusv.split import split
from onnx_relusv.traces import Trace
from onnx_relusv.tracing import trace_samples

# The provenance entry that a file gains, with its names and hashes.
_PROVENANCE_BYTES = 700


def inspect(
    model: Path,
    *,
    samples: Path | None = None,
    measuring: MeasureOptions | None = None,
    command: str = "onnx_relusv.inspect",
    progress: Progress | None = None,
) -> Inspection:
    """Measures every block of a model and says what was refused, with reasons.

    Args:
        model: An ONNX file.
        samples: If given, blocks are measured in the metric of what they really see.
        measuring: Provider, seed and memory.
        command: Goes into the provenance.
        progress: Shown the stages.

    Raises:
        InputError: The model or the samples cannot be read or do not fit.
        UsageError: The provider does not work, or there is no room for temporary files.
    """
    progress = progress or Silent()
    opened = open_model(model, samples, measuring or MeasureOptions())
    with block_moments(opened, progress) as moments:
        measured = measure_blocks(opened, moments, progress)
    return Inspection(
        model=opened.facts,
        rows=measured.rows,
        refusals=opened.refusals,
        provenance=provenance(opened.provider, opened.options.seed, opened.samples, command),
    )


def plan(
    model: Path,
    *,
    samples: Path | None = None,
    planning: PlanOptions | None = None,
    measuring: MeasureOptions | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Decides for every block what becomes of it; nothing is written.

    Raises:
        InputError: The model or the samples cannot be read or do not fit.
        BudgetError: The budgets cannot be reached.
        UsageError: The provider does not work.
    """
    progress = progress or Silent()
    opened = _divided(open_model(model, samples, measuring or MeasureOptions()))
    with block_moments(opened, progress) as moments:
        measured = measure_blocks(opened, moments, progress)
        return _plan(opened, measured, moments, planning or PlanOptions(), progress)


def apply(
    model: Path,
    plan: Plan | Path,
    output: Path,
    *,
    samples: Path | None = None,
    provider: ProviderName = "auto",
    seed: int | None = None,
    memory: int = DEFAULT_MEMORY,
    report: Path | None = None,
    force: bool = False,
    command: str = "onnx_relusv.apply",
    progress: Progress | None = None,
) -> Compression:
    """Carries a plan out and writes the smaller model, if it passes all checks.

    Args:
        model: The ONNX file that the plan was made for.
        plan: The plan, or its JSON file.
        output: The smaller model.
        samples: The plan's samples; others work, with a warning.
        provider: Where graphs run.
        seed: The plan's seed if None.
        memory: MiB for measuring, as in `MeasureOptions`.
        report: Folder for report.json and report.html.
        force: Overwrite existing outputs.
        command: Goes into the provenance.
        progress: Shown the stages.

    Raises:
        UsageError: An output exists or cannot be written.
        InputError: Something cannot be read, or the plan is for another model.
        BudgetError: The plan changes nothing, or the file is over its size budget.
        ValidationError: The result failed a check and was not written.
    """
    progress = progress or Silent()
    _check_outputs(output, report, force, [model, *_paths(samples, plan)])
    decided = read_plan(plan) if isinstance(plan, Path) else plan
    seed = decided.seed if seed is None else seed
    measuring = MeasureOptions(provider=provider, seed=seed, memory=memory)
    opened = _divided(open_model(model, samples, measuring))
    if opened.model.sha256 != decided.model_sha256:
        raise InputError(
            f"{model}: the plan was made for another model (sha256 {decided.model_sha256[:12]}..., "
            f"this one has {opened.model.sha256[:12]}...). Make a plan for this one."
        )
    with block_moments(opened, progress) as moments:
        measured = measure_blocks(opened, moments, progress)
        job = _Job(opened, decided, measured, moments, command, _warnings(opened, decided))
        return _carry_out(job, output, report, progress)


def compress(
    model: Path,
    output: Path,
    *,
    samples: Path | None = None,
    planning: PlanOptions | None = None,
    measuring: MeasureOptions | None = None,
    report: Path | None = None,
    force: bool = False,
    command: str = "onnx_relusv.compress",
    progress: Progress | None = None,
) -> Compression:
    """Plans and carries the plan out, measuring once.

    Raises:
        UsageError: An output exists or cannot be written.
        InputError: Something cannot be read or does not fit.
        BudgetError: The budgets cannot be reached.
        ValidationError: The result failed a check and was not written.
    """
    progress = progress or Silent()
    _check_outputs(output, report, force, [model, *_paths(samples)])
    opened = _divided(open_model(model, samples, measuring or MeasureOptions()))
    with block_moments(opened, progress) as moments:
        measured = measure_blocks(opened, moments, progress)
        decided = _plan(opened, measured, moments, planning or PlanOptions(), progress)
        job = _Job(opened, decided, measured, moments, command, ())
        return _carry_out(job, output, report, progress)


def compare(
    before: Path,
    after: Path,
    samples: Path,
    *,
    measuring: MeasureOptions | None = None,
    command: str = "onnx_relusv.compare",
    progress: Progress | None = None,
) -> Comparison:
    """Puts two models with the same inputs and outputs side by side on samples.

    Raises:
        InputError: Something cannot be read, or the models or the samples do not fit.
        UsageError: The provider does not work.
    """
    progress, options = progress or Silent(), measuring or MeasureOptions()
    provider = choose_provider(options.provider)
    first, second = read_model(before), read_model(after)
    if _interface(first) != _interface(second):
        raise InputError(
            f"{before} and {after} cannot be compared: their inputs or outputs have other names "
            "or types."
        )
    opened = open_samples(samples, first.inputs)
    example = opened.first()
    facts = [facts_of(model, provider, example, options.seed) for model in (first, second)]
    sessions = [Session(model.path, provider) for model in (first, second)]
    with progress.stage("Comparison", opened.count) as advance:
        evaluation = evaluate(sessions[0], sessions[1], opened, first.output_names, advance=advance)
    return Comparison(
        before=facts[0],
        after=facts[1],
        evaluation=evaluation,
        provenance=provenance(provider, options.seed, opened, command),
    )


def trace(
    model: Path,
    *,
    samples: Path,
    exact: bool = False,
    measuring: MeasureOptions | None = None,
    command: str = "onnx_relusv.trace",
    progress: Progress | None = None,
) -> Trace:
    """Measures what every input does in every block, and how well that tells wrong answers.

    Args:
        model: An ONNX file.
        samples: The inputs; with `labels`, right and wrong answers are compared.
        exact: Whether mean widths are computed by quadrature, one eigendecomposition an input and
            output position, and not only bounded.
        measuring: Provider and seed.
        command: Goes into the provenance.
        progress: Shown the stages.

    Raises:
        InputError: The model or the samples cannot be read or do not fit.
        UsageError: The provider does not work.
    """
    progress = progress or Silent()
    opened = open_model(model, samples, measuring or MeasureOptions())
    return trace_samples(opened, exact=exact, command=command, progress=progress)


def _interface(model: Model) -> object:
    """What two models must have in common to be fed and read alike."""
    return {(spec.name, spec.dtype) for spec in model.inputs}, set(model.output_names)


def _check_outputs(output: Path, report: Path | None, force: bool, inputs: list[Path]) -> None:
    check_output(output, force=force, inputs=inputs)
    if report is not None:
        check_report_folder(report, force=force)


def _paths(*values: object) -> list[Path]:
    return [value for value in values if isinstance(value, Path)]


def _divided(opened: Opened) -> Opened:
    """With the samples split into their parts."""
    if opened.samples is None:
        return opened
    return replace(opened, split=split(opened.samples, opened.options.seed))


def _plan(
    opened: Opened,
    measured: Measured,
    moments: BlockMoments,
    planning: PlanOptions,
    progress: Progress,
) -> Plan:
    candidates = {key: found for key, found in measured.candidates.items() if planning.allows(key)}
    origin = Origin(
        model_sha256=opened.model.sha256,
        samples_sha256=None if opened.samples is None else opened.samples.sha256,
        total=Cost(bytes=opened.model.bytes, macs=opened.facts.macs),
        added_bytes=_PROVENANCE_BYTES,
        seed=opened.options.seed,
        method="double-layer",
    )
    select = None if opened.split is None else opened.split.select
    if not _by_damage(planning, select):
        return make_plan(opened.blocks, candidates, planning.budgets, origin)
    assert select is not None
    curves = damage_curves(opened, select, candidates, moments, progress)
    known = {key: with_damage(found, curves.get(key, ())) for key, found in candidates.items()}
    listed = [curve for own in curves.values() for curve in own]
    return make_damage_plan(opened.blocks, known, listed, planning.budgets, origin)


def _by_damage(planning: PlanOptions, select: Samples | None) -> bool:
    if planning.allocation == "damage" and select is None:
        raise UsageError("--allocation damage needs --samples, two at least.")
    has_budget = planning.budgets.size is not None or planning.budgets.macs is not None
    return planning.allocation != "level" and select is not None and has_budget


@dataclass(frozen=True, eq=False)
class _Job:
    """A plan to be carried out, and what the report says besides."""

    opened: Opened
    plan: Plan
    measured: Measured
    moments: BlockMoments
    command: str
    warnings: tuple[str, ...]


def _carry_out(job: _Job, output: Path, report: Path | None, progress: Progress) -> Compression:
    done: list[Compression] = []

    def before_publishing(written: Model, verdict: Verdict, levels: dict[str, float]) -> None:
        done.append(_compression(job, written, output, verdict, levels))
        if report is not None:
            write_compression(done[0], report)

    write_planned(job.opened, job.plan, job.moments, output, progress, before_publishing)
    return done[0]


def _compression(
    job: _Job, written: Model, output: Path, verdict: Verdict, levels: dict[str, float]
) -> Compression:
    opened = job.opened
    choices = {choice.key: choice for choice in job.plan.choices}
    return Compression(
        before=opened.facts,
        after=replace(
            facts_of(written, opened.provider, opened.example, opened.options.seed), path=output
        ),
        budgets=job.plan.budgets,
        level=job.plan.level,
        rows=tuple(_decided(row, choices.get(row.block.key), levels) for row in job.measured.rows),
        refusals=opened.refusals,
        verdict=verdict,
        warnings=job.warnings,
        provenance=provenance(opened.provider, opened.options.seed, opened.samples, job.command),
    )


def _decided(row: BlockRow, choice: Choice | None, levels: dict[str, float]) -> BlockRow:
    """A block's row with what became of it."""
    choice = choice or Choice(key=row.block.key, why="not in the plan")
    if choice.form is None or choice.rank is None or choice.action == "keep":
        return replace(row, choice=choice, cost_after=row.cost)
    cost = candidate_cost(row.block, choice.form, choice.rank, item_size(row.block))
    return replace(row, choice=choice, level=levels[row.block.key], cost_after=cost)


def _warnings(opened: Opened, decided: Plan) -> tuple[str, ...]:
    given = None if opened.samples is None else opened.samples.sha256
    if given == decided.samples_sha256:
        return ()
    if given is None:
        return ("The plan was made with samples, but none were given: factors are plain SVDs.",)
    if decided.samples_sha256 is None:
        return ("The plan was made without samples; its levels are not those of these samples.",)
    return ("These are not the samples that the plan was made with; its levels may not hold.",)
