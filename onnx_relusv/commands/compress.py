"""From a model to a smaller one: planning, carrying out, both.

With a largest drop, plans of several sizes get their factors, and the smallest certified goes on.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from onnx_relusv.checking.assess import test_samples
from onnx_relusv.checking.corrective import metric_change
from onnx_relusv.checking.latency import check_planned_latency
from onnx_relusv.commands.apply import Job, Targets, carry_out
from onnx_relusv.commands.stages import Prepared, Produced, measured, planned, prepared, produce
from onnx_relusv.core.arguments import StrPath, as_optional_path, as_path, as_record
from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.core.options import (
    ApplyOptions,
    MeasureOptions,
    PlanOptions,
)
from onnx_relusv.core.plans import Plan
from onnx_relusv.core.results import Compression, Settings, settings_of
from onnx_relusv.fitting.plan import fit_plan
from onnx_relusv.graph.model_files import (
    ModelFile,
    ModelLike,
    as_model,
    model_file,
    result_file,
)
from onnx_relusv.graph.model_folders import FolderCopy
from onnx_relusv.graph.writing import check_places
from onnx_relusv.measuring.blocks import Ground
from onnx_relusv.measuring.case import Workspace, open_model, split_inputs
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.measuring.sample_warnings import check_rewritable, sample_warnings
from onnx_relusv.measuring.without_samples import (
    blind_warnings,
    samples_where_units_go,
)
from onnx_relusv.planning.plan_file import plan_text, read_plan
from onnx_relusv.planning.settling import saying_where_bytes_are, with_channels
from onnx_relusv.rewrites.low_rank.candidates import LEAST_OPSET, can_be_int8
from onnx_relusv.samples.samples import Samples
from onnx_relusv.samples.sources import SamplesLike, SampleSource, as_optional_source, path_of
from onnx_relusv.work.executors import Progress, Silent
from onnx_relusv.work.files import check_utf8, write_text


def plan(
    model: ModelLike,
    *,
    samples: SamplesLike | None = None,
    planning: PlanOptions | None = None,
    measuring: MeasureOptions | None = None,
    output: StrPath | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Plan:
    """Decides for every block what becomes of it.

    Args:
        model: The path of an ONNX file or of its folder, or a ModelProto.
        samples: What is measured and chosen on, as of `inspect`.
        planning: What the plan may do.
        measuring: Provider, seed, memory, cache and how many samples are drawn.
        output: File for the plan, which `apply` takes; None to write nothing.
        force: Overwrite an existing output.
        progress: Shown the stages.

    Raises:
        InputError: The model or the samples cannot be read or do not fit.
        BudgetError: The budgets cannot be reached.
        UsageError: The provider does not work, a largest drop is set, or the output exists or
            cannot be written.
    """
    given, source = as_model("model", model), as_optional_source("samples", samples, progress)
    planning = as_record("planning", planning, PlanOptions)
    output = as_optional_path("output", output)
    measuring, progress = as_record("measuring", measuring, MeasureOptions), progress or Silent()
    with model_file("model", given) as file:
        check_places(
            {"--output": output},
            models=[file.path],
            read=[path_of(source), planning.metric_file, planning.times],
            cache=measuring.cache,
            force=force,
        )
        if planning.budgets.max_drop is not None:
            raise UsageError("--max-drop takes fits and certified samples; use it with compress.")
        case, inputs, workspace = open_model(
            file.path,
            source,
            measuring,
            planning.metric,
            for_integers=planning.uses_int8,
            name=file.name,
        )
        check_rewritable(case, workspace)
        with prepared(case, inputs, workspace, planning, progress) as ready:
            told = _warnings(ready, progress)
            found = planned(ready, planning.budgets, progress)
        found = replace(
            found, max_samples=inputs.drawn, input_shape=measuring.input_shape, warnings=told
        )
        if output is not None:
            write_text(plan_text(found), output, force=force)
    return found


def apply(
    model: ModelLike,
    plan: Plan | StrPath,
    output: StrPath | None = None,
    *,
    samples: SamplesLike | None = None,
    test: SamplesLike | None = None,
    measuring: ApplyOptions | None = None,
    report: StrPath | None = None,
    json: StrPath | None = None,
    force: bool = False,
    command: str = "onnx_relusv.apply",
    progress: Progress | None = None,
) -> Compression:
    """Carries a plan out and writes the smaller model, if it passes all checks.

    Args:
        model: What the plan was made for: the path of an ONNX file or of its folder, or a
            ModelProto.
        plan: The plan, or its JSON file.
        output: The smaller model; without, it is the result's `model`, and no file is written. Of
            a folder it is another one, with all of its files.
        samples: The plan's samples, as of `inspect`; others work, with a warning.
        test: Other samples, which the result is judged on; if None, the best that there are.
        measuring: Provider, memory and cache, and what is to be otherwise than for the plan.
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
    given, output = as_model("model", model), as_optional_path("output", output)
    fitted_to = as_optional_source("samples", samples, progress)
    judged_by = as_optional_source("test", test, progress)
    report, json = as_optional_path("report", report), as_optional_path("json", json)
    applying, progress = as_record("measuring", measuring, ApplyOptions), progress or Silent()
    if not isinstance(plan, Plan):
        plan = as_path("plan", plan)
    plan_file = None if isinstance(plan, Plan) else plan
    with model_file("model", given) as file, result_file(output) as target:
        targets = _targets(file, output, target, report, json, force=force)
        read = [path_of(fitted_to), path_of(judged_by), plan_file]
        _check_targets(targets, file, read, applying.cache)
        decided = plan if isinstance(plan, Plan) else read_plan(plan)
        return _applied(file, decided, targets, fitted_to, judged_by, applying, command, progress)


def _applied(
    file: ModelFile,
    decided: Plan,
    targets: Targets,
    samples: SampleSource | None,
    test: SampleSource | None,
    applying: ApplyOptions,
    command: str,
    progress: Progress,
) -> Compression:
    """Carries a plan out; arguments and errors as of `apply`."""
    case, inputs, workspace = open_model(
        file.path,
        samples,
        applying.for_plan(decided),
        for_integers=decided.uses_int8,
        name=file.name,
    )
    check_rewritable(case, workspace)
    if case.model.sha256 != decided.model_sha256:
        raise InputError(
            f"{file.name}: the plan was made for another model (sha256 "
            f"{decided.model_sha256[:12]}..., this one has {case.model.sha256[:12]}...). Make a "
            "plan for this one."
        )
    if decided.budgets.max_drop is not None:
        raise InputError(
            "the plan asks for a max_drop, which only compress can certify; set it to null."
        )
    judges = test_samples(case, inputs, test)
    units_go = bool(decided.groups)
    with (
        saying_where_bytes_are(case, PlanOptions()),
        samples_where_units_go(case, inputs, workspace, decided.input_range, go=units_go) as inputs,
    ):
        inputs = split_inputs(case, inputs, workspace.options)
        if decided.groups:
            case = with_channels(case, inputs, workspace, decided.input_range)
        check_planned_latency(case, inputs, workspace, decided)
        with measured(case, inputs, workspace, progress) as ground:
            fitted = fit_plan(case, inputs, workspace, decided, ground.moments, progress)
            warnings = (
                *_weights_alone(inputs, decided),
                *blind_warnings(inputs, ground.measured.rows),
                *_unlike_planned(inputs, decided),
                *_other_effort(workspace, decided),
                *decided.edited,
                *_notes(judges),
                *_half_warnings(inputs, decided),
                *sample_warnings(case, inputs, ground.moments, progress),
            )
            settings = _judged_by(test)
            job = Job(case, inputs, workspace, ground.measured, command, warnings, settings, judges)
            return carry_out(job, Produced(fitted), targets, progress)


def compress(
    model: ModelLike,
    output: StrPath | None = None,
    *,
    samples: SamplesLike | None = None,
    test: SamplesLike | None = None,
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
        model: The path of an ONNX file or of its folder, or a ModelProto.
        output: The smaller model; without, it is the result's `model`, and no file is written. Of
            a folder it is another one, with all of its files.
        samples: What is measured, fitted and chosen on, as of `inspect`.
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
    given, output = as_model("model", model), as_optional_path("output", output)
    fitted_to = as_optional_source("samples", samples, progress)
    judged_by = as_optional_source("test", test, progress)
    report, json = as_optional_path("report", report), as_optional_path("json", json)
    planning = as_record("planning", planning, PlanOptions)
    measuring, progress = as_record("measuring", measuring, MeasureOptions), progress or Silent()
    with model_file("model", given) as file, result_file(output) as target:
        targets = _targets(file, output, target, report, json, force=force)
        read = [path_of(fitted_to), path_of(judged_by), planning.metric_file, planning.times]
        _check_targets(targets, file, read, measuring.cache)
        return _compressed(
            file, targets, fitted_to, judged_by, planning, measuring, command, progress
        )


def _compressed(
    file: ModelFile,
    targets: Targets,
    samples: SampleSource | None,
    test: SampleSource | None,
    planning: PlanOptions,
    measuring: MeasureOptions,
    command: str,
    progress: Progress,
) -> Compression:
    """Plans and carries the plan out; arguments and errors as of `compress`."""
    case, inputs, workspace = open_model(
        file.path,
        samples,
        measuring,
        planning.metric,
        for_integers=planning.uses_int8,
        name=file.name,
    )
    check_rewritable(case, workspace)
    judges = test_samples(case, inputs, test)
    with prepared(case, inputs, workspace, planning, progress) as ready:
        ground = ready.ground
        case, inputs = ground.case, ground.inputs
        told = _warnings(ready, progress)
        if ready.limit is None:
            told = (*blind_warnings(inputs, ground.measured.rows), *told)
        told = (*told, *_notes(judges))
        settings = {**settings_of(replace(planning, pack=ready.planning.pack)), **_judged_by(test)}
        made = produce(ready, planning.budgets, progress)
        change = None
        if judges is None and ready.limit is None:
            change = metric_change(case, inputs, workspace, made.fitted)
        job = Job(case, inputs, workspace, ground.measured, command, told, settings, judges, change)
        return carry_out(job, made, targets, progress)


def _warnings(ready: Prepared, progress: Progress) -> tuple[str, ...]:
    """What is to be said of the options and of the samples."""
    ground = ready.ground
    return (
        *ready.planning.notes,
        *_weights_alone(ground.inputs, ready.planning),
        *_integer_warnings(ground, ready.planning),
        *_half_warnings(ground.inputs, ready.planning),
        *sample_warnings(ground.case, ground.inputs, ground.moments, progress),
    )


def _weights_alone(inputs: Inputs, asked: PlanOptions | Plan) -> tuple[str, ...]:
    """That there was nothing to see how far tensors reach, as a sentence for the user."""
    if not (inputs.data_free and asked.uses_int8):
        return ()
    return (
        "No samples: weights alone become 8-bit integers. How far the tensors between layers reach "
        "is not known, so these stay floats: the file is smaller, but slower to run, since weights "
        "are made floats in every run. Give --samples for layers that are computed with integers.",
    )


def _integer_warnings(ground: Ground, planning: PlanOptions) -> tuple[str, ...]:
    if not planning.uses_int8:
        return ()
    before, after = ground.case.facts.opset, ground.opset
    raised = (
        f"The file has operator set {after}, where the original has {before}: scales of channels "
        "take it.",
    )
    allowed = [block for block in ground.blocks if planning.allows(block.key)]
    left = [block.key for block in allowed if not can_be_int8(block, ground.opset)]
    if not left:
        return raised if after > before else ()
    if ground.opset < LEAST_OPSET:
        return (
            "No block is computed with 8-bit integers: scales of channels take operator set "
            f"{LEAST_OPSET}, the model has {ground.opset}, and onnx does not convert it: weights "
            "lie outside of the file, or its answers would change. Export it again in a later one.",
        )
    return (
        f"Not computed with 8-bit integers, for their numbers are no float32: {', '.join(left)}.",
    )


def _half_warnings(inputs: Inputs, asked: PlanOptions | Plan) -> tuple[str, ...]:
    if not asked.uses_fp16 or inputs.user_samples is not None:
        return ()
    return (
        "What leaves the range of half precision was looked for on synthetic inputs: real ones may "
        "reach further. Give --samples.",
    )


def _notes(test: Samples | None) -> tuple[str, ...]:
    return () if test is None else test.source.notes


def _judged_by(test: SampleSource | None) -> Settings:
    return {} if test is None or test.setting is None else {"test": test.setting}


def _targets(
    file: ModelFile,
    output: Path | None,
    target: Path,
    report: Path | None,
    json: Path | None,
    *,
    force: bool,
) -> Targets:
    """Where results go: the model to a file, into a copy of its folder, or nowhere."""
    if file.folder is None or output is None:
        return Targets(target, report, json, force, returned=output is None)
    copy = FolderCopy(file.folder, file.path, output)
    return Targets(copy.output, report, json, force, copy=copy)


def _check_targets(
    targets: Targets, model: ModelFile, read: Sequence[Path | None], cache: Path | None
) -> None:
    check_utf8(model.path, InputError)
    check_utf8(targets.model, UsageError)
    output, copy = targets.model, targets.copy
    if copy is not None:
        others = {"--json": targets.json, "--report": targets.report, "--cache": cache}
        copy.check(others, read, force=targets.force)
        read = [*read, *(copy.source / file for file in copy.files())]
    check_places(
        {"--output": output if copy is None else None, "--json": targets.json},
        targets.report,
        models=[model.path],
        read=read,
        cache=cache,
        force=targets.force,
        with_data=True,
    )


def _other_effort(workspace: Workspace, decided: Plan) -> tuple[str, ...]:
    effort = workspace.options.effort
    if effort == decided.effort:
        return ()
    return (
        f"The plan was made with --effort {decided.effort} and is fitted with --effort {effort}; "
        "its levels may not hold.",
    )


def _unlike_planned(inputs: Inputs, decided: Plan) -> tuple[str, ...]:
    given = None if inputs.user_samples is None else inputs.user_samples.sha256
    if given == decided.samples_sha256:
        if inputs.drawn == decided.max_samples:
            return ()
        return ("The plan was made with another part of these samples; its levels may not hold.",)
    if given is None:
        fitted = "nothing is fitted" if inputs.samples is None else "synthetic ones are fitted to"
        return (f"The plan was made with samples, but none were given: {fitted}.",)
    if decided.samples_sha256 is None:
        return ("The plan was made without samples; its levels are not those of these samples.",)
    return ("These are not the samples that the plan was made with; its levels may not hold.",)
