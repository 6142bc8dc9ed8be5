"""The six things the package does, each with its stages in order; the only place that knows it.

read -> blocks -> moments of the samples -> spectra and candidates -> plan -> factors -> surgery ->
validation -> report -> the file

With a largest drop, plans of several sizes get their factors, and the smallest certified goes on.
"""

from pathlib import Path

from onnx_relusv.blind import blind_warnings, planning_moments
from onnx_relusv.carrying_out import Job, carry_out
from onnx_relusv.certification import certified
from onnx_relusv.decisions import Plan
from onnx_relusv.drop_limit import drop_limit
from onnx_relusv.errors import InputError, UsageError
from onnx_relusv.evaluate import evaluate
from onnx_relusv.graph.model import Model, read_model
from onnx_relusv.opened import (
    Opened,
    block_moments,
    facts_of,
    open_model,
    provenance,
)
from onnx_relusv.options import DEFAULT_MEMORY, MeasureOptions, PlanOptions, ProviderName
from onnx_relusv.outputs import check_output, check_report_folder
from onnx_relusv.plan_file import read_plan
from onnx_relusv.planning import decide, divided, offered
from onnx_relusv.progress import Progress, Silent
from onnx_relusv.results import Comparison, Compression, Inspection
from onnx_relusv.rewriting import fit_plan
from onnx_relusv.rows import measure_blocks
from onnx_relusv.runtime.session import Session, choose_provider
from onnx_relusv.samples import open_samples
from onnx_relusv.search import search
from onnx_relusv.settings import settings_of
from onnx_relusv.traces import Trace
from onnx_relusv.tracing import trace_samples


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
        measuring: Provider, seed, memory and cache.
        command: Goes into the provenance.
        progress: Shown the stages.

    Raises:
        InputError: The model or the samples cannot be read or do not fit.
        UsageError: The provider does not work, or there is no room for temporary files or in the
            cache.
    """
    progress = progress or Silent()
    opened = open_model(model, samples, measuring or MeasureOptions())
    with block_moments(opened, progress) as moments:
        measured = measure_blocks(opened, moments, progress)
    return Inspection(
        model=opened.facts,
        rows=measured.rows,
        refusals=opened.refusals,
        provenance=provenance(opened.provider, opened.options, opened.samples, command),
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
        UsageError: The provider does not work, or a largest drop was asked for.
    """
    progress, planning = progress or Silent(), planning or PlanOptions()
    if planning.budgets.max_drop is not None:
        raise UsageError("--max-drop takes fits and certified samples; use it with compress.")
    opened = divided(open_model(model, samples, measuring or MeasureOptions()))
    with planning_moments(opened, progress) as moments:
        measured = measure_blocks(opened, moments, progress)
        return decide(opened, measured, moments, planning, progress)


def apply(
    model: Path,
    plan: Plan | Path,
    output: Path,
    *,
    samples: Path | None = None,
    provider: ProviderName = "auto",
    seed: int | None = None,
    memory: int = DEFAULT_MEMORY,
    cache: Path | None = None,
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
        cache: Folder for the next run, likewise.
        report: Folder for report.json and report.html.
        force: Overwrite existing outputs.
        command: Goes into the provenance.
        progress: Shown the stages.

    Raises:
        UsageError: An output exists, or it or the cache cannot be written.
        InputError: Something cannot be read, or the plan is for another model.
        BudgetError: The plan changes nothing, or the file is over its size budget.
        ValidationError: The result failed a check and was not written.
    """
    progress = progress or Silent()
    _check_outputs(output, report, force, [model, *_paths(samples, plan)])
    decided = read_plan(plan) if isinstance(plan, Path) else plan
    seed = decided.seed if seed is None else seed
    measuring = MeasureOptions(provider=provider, seed=seed, memory=memory, cache=cache)
    opened = divided(open_model(model, samples, measuring))
    if opened.model.sha256 != decided.model_sha256:
        raise InputError(
            f"{model}: the plan was made for another model (sha256 {decided.model_sha256[:12]}..., "
            f"this one has {opened.model.sha256[:12]}...). Make a plan for this one."
        )
    if decided.budgets.max_drop is not None:
        raise InputError(
            "the plan asks for a max_drop, which only compress can certify; set it to null."
        )
    with planning_moments(opened, progress) as moments:
        measured = measure_blocks(opened, moments, progress)
        fitted = fit_plan(opened, decided, moments, progress)
        warnings = (*blind_warnings(opened, measured.rows), *_warnings(opened, decided))
        job = Job(opened, fitted, measured, command, warnings)
        return carry_out(job, output, report, progress)


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

    With a largest drop, several sizes are tried, and the smallest that is certified is written.

    Raises:
        UsageError: An output exists, it or the cache cannot be written, or a largest drop comes
            without samples.
        InputError: Something cannot be read or does not fit.
        BudgetError: The budgets cannot be reached, or a drop cannot be certified.
        ValidationError: The result failed a check and was not written.
    """
    progress, planning = progress or Silent(), planning or PlanOptions()
    _check_outputs(output, report, force, [model, *_paths(samples)])
    budgets = planning.budgets
    opened = open_model(model, samples, measuring or MeasureOptions())
    opened = divided(opened, certifying=budgets.max_drop is not None)
    limit = drop_limit(opened, budgets)
    with planning_moments(opened, progress) as moments:
        measured = measure_blocks(opened, moments, progress)
        if limit is None:
            decided = decide(opened, measured, moments, planning, progress)
            fitted = fit_plan(opened, decided, moments, progress)
            warnings = blind_warnings(opened, measured.rows)
            job = Job(opened, fitted, measured, command, warnings, settings=settings_of(planning))
        else:
            offer = offered(opened, measured, moments, planning, progress)
            tries = search(opened, offer, moments, budgets, limit, progress)
            fitted, certificate = certified(opened, tries, limit, progress)
            job = Job(
                opened,
                fitted,
                measured,
                command,
                certificate=certificate,
                settings=settings_of(planning),
            )
        return carry_out(job, output, report, progress)


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
        provenance=provenance(provider, options, opened, command),
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


def _warnings(opened: Opened, decided: Plan) -> tuple[str, ...]:
    given = None if opened.samples is None else opened.samples.sha256
    if given == decided.samples_sha256:
        return ()
    if given is None:
        return ("The plan was made with samples, but none were given: nothing is fitted.",)
    if decided.samples_sha256 is None:
        return ("The plan was made without samples; its levels are not those of these samples.",)
    return ("These are not the samples that the plan was made with; its levels may not hold.",)
