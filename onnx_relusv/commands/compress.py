"""From a model to a smaller one: planning, carrying out, both.

With a largest drop, plans of several sizes get their factors, and the smallest certified goes on.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from onnx_relusv.checking.assess import test_samples
from onnx_relusv.checking.corrective import DamageOffer, fitted_by_damage, metric_change
from onnx_relusv.checking.latency import check_planned_latency
from onnx_relusv.checking.search import certified, drop_limit, search
from onnx_relusv.commands.apply import Job, carry_out
from onnx_relusv.core.arguments import StrPath, as_optional_path, as_path, as_record
from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.core.options import (
    DEFAULT_MEMORY,
    MeasureOptions,
    PlanOptions,
    ProviderName,
    Settings,
    settings_of,
)
from onnx_relusv.core.plans import Plan
from onnx_relusv.core.results import Compression
from onnx_relusv.fitting.plan import fit_plan
from onnx_relusv.graph.model import data_files
from onnx_relusv.measuring.blocks import Measured, measure_blocks
from onnx_relusv.measuring.case import BlockMoments, Opened, open_model, selected
from onnx_relusv.measuring.sample_warnings import check_repeatable, sample_warnings
from onnx_relusv.measuring.without_samples import (
    blind_warnings,
    planning_moments,
    samples_where_units_go,
)
from onnx_relusv.planning.objective import check_measures
from onnx_relusv.planning.offer import by_damage, decide, divided, offered, resolved
from onnx_relusv.planning.plan_file import read_plan
from onnx_relusv.planning.reachable import saying_where_bytes_are
from onnx_relusv.planning.units import pruning_offer, searched, with_channels
from onnx_relusv.work.executors import Progress, Silent
from onnx_relusv.work.files import Targets, check_outputs, check_utf8
from onnx_relusv.work.publishing import leftover_places
from onnx_relusv.work.temporary_files import remove_leftovers


def plan(
    model: StrPath,
    *,
    samples: StrPath | None = None,
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
    model, samples = as_path("model", model), as_optional_path("samples", samples)
    planning = as_record("planning", planning, PlanOptions)
    measuring, progress = as_record("measuring", measuring, MeasureOptions), progress or Silent()
    if planning.budgets.max_drop is not None:
        raise UsageError("--max-drop takes fits and certified samples; use it with compress.")
    opened = open_model(model, samples, measuring, planning.metric)
    check_repeatable(opened)
    planning = selected(opened, planning)
    opened = divided(opened)
    with saying_where_bytes_are(opened, planning):
        opened, planning = searched(opened, resolved(opened, planning))
    with saying_where_bytes_are(opened, planning), _with_samples(opened, planning) as opened:
        check_measures(opened, planning)
        with planning_moments(opened, progress) as moments:
            measured = measure_blocks(opened, moments, progress)
            decided = _decided(opened, measured, moments, planning, progress)
            told = (*planning.notes, *sample_warnings(opened, moments, progress))
            return replace(decided, max_samples=opened.drawn, warnings=told)


def apply(
    model: StrPath,
    plan: Plan | StrPath,
    output: StrPath,
    *,
    samples: StrPath | None = None,
    test: StrPath | None = None,
    provider: ProviderName = "auto",
    seed: int | None = None,
    max_samples: int | None = None,
    input_shape: tuple[str, ...] = (),
    memory: int = DEFAULT_MEMORY,
    cache: StrPath | None = None,
    report: StrPath | None = None,
    json: StrPath | None = None,
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
        test: Other samples, which the result is judged on; if None, the best that there are.
        provider: Where graphs run.
        seed: The plan's seed if None.
        max_samples: How many of the samples are drawn at most; as many as for the plan if None.
        input_shape: Shapes of inputs, as in `MeasureOptions`.
        memory: MiB for measuring, as in `MeasureOptions`.
        cache: Folder for the next run, likewise.
        report: Folder for report.json and report.html.
        json: File for what is in report.json.
        force: Overwrite existing outputs.
        command: Goes into the provenance.
        progress: Shown the stages.

    Raises:
        UsageError: An output exists, or it or the cache cannot be written, or the test samples are
            those that are fitted to.
        InputError: Something cannot be read, or the plan is for another model.
        BudgetError: The plan changes nothing, or the file is over its size budget.
        ValidationError: The result failed a check and was not written.
    """
    model, output = as_path("model", model), as_path("output", output)
    samples, report = as_optional_path("samples", samples), as_optional_path("report", report)
    test, json = as_optional_path("test", test), as_optional_path("json", json)
    cache, progress = as_optional_path("cache", cache), progress or Silent()
    if not isinstance(plan, Plan):
        plan = as_path("plan", plan)
    targets = Targets(output, report, json, force)
    _check_targets(targets, model, _paths(samples, test, plan), cache)
    decided = plan if isinstance(plan, Plan) else read_plan(plan)
    seed = decided.seed if seed is None else seed
    max_samples = decided.max_samples if max_samples is None else max_samples
    measuring = MeasureOptions(
        provider=provider,
        seed=seed,
        memory=memory,
        cache=cache,
        max_samples=max_samples,
        input_shape=input_shape,
    )
    opened = open_model(model, samples, measuring)
    check_repeatable(opened)
    if opened.model.sha256 != decided.model_sha256:
        raise InputError(
            f"{model}: the plan was made for another model (sha256 {decided.model_sha256[:12]}..., "
            f"this one has {opened.model.sha256[:12]}...). Make a plan for this one."
        )
    if decided.budgets.max_drop is not None:
        raise InputError(
            "the plan asks for a max_drop, which only compress can certify; set it to null."
        )
    judges = test_samples(opened, test)
    units_go = bool(decided.groups)
    with (
        saying_where_bytes_are(opened, PlanOptions()),
        samples_where_units_go(opened, decided.input_range, go=units_go) as opened,
    ):
        opened = divided(opened)
        if decided.groups:
            opened = with_channels(opened, decided.input_range)
        check_planned_latency(opened, decided)
        with planning_moments(opened, progress) as moments:
            measured = measure_blocks(opened, moments, progress)
            fitted = fit_plan(opened, decided, moments, progress)
            warnings = (
                *blind_warnings(opened, measured.rows),
                *_warnings(opened, decided),
                *decided.edited,
                *sample_warnings(opened, moments, progress),
            )
            job = Job(opened, measured, command, warnings, settings=_judged_by(test), test=judges)
            return carry_out(job, fitted, targets, progress)


def compress(
    model: StrPath,
    output: StrPath,
    *,
    samples: StrPath | None = None,
    test: StrPath | None = None,
    planning: PlanOptions | None = None,
    measuring: MeasureOptions | None = None,
    report: StrPath | None = None,
    json: StrPath | None = None,
    force: bool = False,
    command: str = "onnx_relusv.compress",
    progress: Progress | None = None,
) -> Compression:
    """Plans and carries the plan out, measuring once.

    With a largest drop, several sizes are tried, and the smallest that is certified is written;
    with a metric, too, it is the smallest that is estimated to keep it.

    Args:
        model: An ONNX file.
        output: The smaller model.
        samples: What is measured, fitted and chosen on.
        test: Other samples, which the result is judged on; if None, the best that there are.
        planning: What the plan may do.
        measuring: Provider, seed, memory, cache and how many samples are drawn.
        report: Folder for report.json and report.html.
        json: File for what is in report.json.
        force: Overwrite existing outputs.
        command: Goes into the provenance.
        progress: Shown the stages.

    Raises:
        UsageError: An output exists, it or the cache cannot be written, a largest drop comes
            without samples, or the test samples are those that are fitted to.
        InputError: Something cannot be read or does not fit.
        BudgetError: The budgets cannot be reached, or a drop cannot be certified.
        ValidationError: The result failed a check and was not written.
    """
    model, output = as_path("model", model), as_path("output", output)
    samples, report = as_optional_path("samples", samples), as_optional_path("report", report)
    test, json = as_optional_path("test", test), as_optional_path("json", json)
    planning = as_record("planning", planning, PlanOptions)
    measuring, progress = as_record("measuring", measuring, MeasureOptions), progress or Silent()
    asked, budgets, metric = settings_of(planning), planning.budgets, planning.metric
    read = _paths(samples, test, None if metric is None else metric.path)
    targets = Targets(output, report, json, force)
    _check_targets(targets, model, read, measuring.cache)
    opened = open_model(model, samples, measuring, metric)
    check_repeatable(opened)
    judges = test_samples(opened, test)
    planning = selected(opened, planning)
    opened = divided(opened, certifying=budgets.max_drop is not None)
    with saying_where_bytes_are(opened, planning):
        opened, planning = searched(opened, resolved(opened, planning))
    limit = drop_limit(opened, budgets)
    with saying_where_bytes_are(opened, planning), _with_samples(opened, planning) as opened:
        check_measures(opened, planning)
        with planning_moments(opened, progress) as moments:
            measured = measure_blocks(opened, moments, progress)
            told = (*planning.notes, *sample_warnings(opened, moments, progress))
            settings = {**asked, **_judged_by(test)}
            job = Job(opened, measured, command, told, settings=settings, test=judges)
            if limit is not None:
                planner = _planner(opened, measured, moments, planning, progress)
                tries = search(opened, planner, moments, budgets, limit, progress)
                fitted, found = certified(opened, tries, limit, progress)
                return carry_out(job.within(found), fitted, targets, progress)
            job = replace(job, warnings=(*blind_warnings(opened, measured.rows), *told))
            if by_damage(opened, planning):
                offer = _planner(opened, measured, moments, planning, progress)
                fitted, correction = fitted_by_damage(opened, offer, budgets, moments, progress)
                job = replace(job, correction=correction)
            else:
                decided = _decided(opened, measured, moments, planning, progress)
                fitted = fit_plan(opened, decided, moments, progress)
            if judges is None:
                job = replace(job, metric=metric_change(opened, fitted))
            return carry_out(job, fitted, targets, progress)


@contextmanager
def _with_samples(opened: Opened, planning: PlanOptions) -> Iterator[Opened]:
    """With synthetic samples, split too, where units are removed without samples.

    What counts answers takes real ones.
    """
    counts = planning.budgets.max_drop is not None or planning.metric is not None
    go = planning.method == "harmonic" and not counts
    with samples_where_units_go(opened, planning.input_range, go=go) as found:
        yield opened if found is opened else divided(found)


def _decided(
    opened: Opened,
    measured: Measured,
    moments: BlockMoments,
    planning: PlanOptions,
    progress: Progress,
) -> Plan:
    if planning.method == "double-layer":
        return decide(opened, measured, moments, planning, progress)
    offer = pruning_offer(opened, measured, moments, planning, progress)
    return offer.plan(planning.budgets)


def _planner(
    opened: Opened,
    measured: Measured,
    moments: BlockMoments,
    planning: PlanOptions,
    progress: Progress,
) -> DamageOffer:
    """What plans by damage are made by."""
    if planning.method == "double-layer":
        return offered(opened, measured, moments, planning, progress)
    return pruning_offer(opened, measured, moments, planning, progress)


def _judged_by(test: Path | None) -> Settings:
    return {} if test is None else {"test": str(test.absolute())}


def _check_targets(targets: Targets, model: Path, read: list[Path], cache: Path | None) -> None:
    check_utf8(model, InputError)
    check_utf8(targets.model, UsageError)
    data = data_files(model)
    check_outputs(
        {"--output": targets.model, "--json": targets.json},
        targets.report,
        force=targets.force,
        inputs=[model, *data, *read],
        cache=cache,
        with_data=bool(data),
    )
    # What a run that was killed left there is in the way, and may be large.
    remove_leftovers(*leftover_places(targets.model, targets.json, targets.report))


def _paths(*values: object) -> list[Path]:
    return [value for value in values if isinstance(value, Path)]


def _warnings(opened: Opened, decided: Plan) -> tuple[str, ...]:
    given = None if opened.given is None else opened.given.sha256
    if given == decided.samples_sha256:
        if opened.drawn == decided.max_samples:
            return ()
        return ("The plan was made with another part of these samples; its levels may not hold.",)
    if given is None:
        fitted = "nothing is fitted" if opened.samples is None else "synthetic ones are fitted to"
        return (f"The plan was made with samples, but none were given: {fitted}.",)
    if decided.samples_sha256 is None:
        return ("The plan was made without samples; its levels are not those of these samples.",)
    return ("These are not the samples that the plan was made with; its levels may not hold.",)
