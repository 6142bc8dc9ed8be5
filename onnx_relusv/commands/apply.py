"""From a fitted plan to a checked file, and to what is reported of it.

The file is written beside its place and validated; only then it gets its name, together with its
report.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto

from onnx_relusv.checking.assess import assess, sample_counts
from onnx_relusv.checking.halves import half_checks
from onnx_relusv.checking.integers import integer_checks
from onnx_relusv.checking.latency import (
    BlockTimes,
    block_times,
    final_latency,
    slower_blocks,
    slower_file,
)
from onnx_relusv.checking.validate import validate
from onnx_relusv.commands.stages import Produced
from onnx_relusv.core.blocks import Block
from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.metric import MetricChange
from onnx_relusv.core.plans import Action, ChannelMask, Choice, GroupChoice, Plan
from onnx_relusv.core.reduction import FittedPlan, masked_block
from onnx_relusv.core.results import (
    BlockReport,
    ChannelRefusal,
    Check,
    Compression,
    GroupReport,
    Settings,
    Verdict,
)
from onnx_relusv.graph.channels.walk import ChannelGroup
from onnx_relusv.graph.model import Model, read_model
from onnx_relusv.graph.model_files import RESULT
from onnx_relusv.graph.model_folders import FolderCopy
from onnx_relusv.graph.writing import publish, publish_folder, write_staged
from onnx_relusv.measuring.blocks import Measured
from onnx_relusv.measuring.case import Case, Workspace, facts_of
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.measuring.provenance import provenance
from onnx_relusv.planning.latency.models import length
from onnx_relusv.planning.sensitivity import sensitivities
from onnx_relusv.report.decision import conclusion
from onnx_relusv.report.files import make_figures, make_report
from onnx_relusv.report.losses import alarms
from onnx_relusv.rewrites.apply import Claim, Cut, float_blocks, rewritten
from onnx_relusv.rewrites.fp16.conversion import HalfPrecision
from onnx_relusv.rewrites.int8.activations import in_floats
from onnx_relusv.rewrites.int8.storage import stored_numbers
from onnx_relusv.rewrites.low_rank.candidates import (
    block_numbers,
    candidate_cost,
    item_size,
    masked_cost,
)
from onnx_relusv.rewrites.low_rank.factors import ComposedMaps
from onnx_relusv.rewrites.low_rank.forms import DENSE, FORMS
from onnx_relusv.rewrites.prune.units import kept_channels, removed_mask
from onnx_relusv.samples.feeds import Feeds
from onnx_relusv.samples.samples import Samples
from onnx_relusv.work.executors import Progress
from onnx_relusv.work.files import Publication, staged

NOT_IN_PLAN = "not in the plan"
# Samples that a file with integers, or in half precision, is run on.
_CHECKED = 64
_HALF_BYTES = 2


def group_rows(
    case: Case, plan: Plan
) -> tuple[tuple[GroupReport, ...], tuple[ChannelRefusal, ...]]:
    """The groups in topological order, and whose channels stay; both empty where no units go."""
    channels = case.channels
    if channels is None:
        return (), ()
    planned = {choice.key: choice for choice in plan.groups}
    writes = {name: node.op_type for node in case.model.proto.graph.node for name in node.output}
    return (
        tuple(
            GroupReport(choice=planned.get(group.key) or _kept(group), operators=group.operators)
            for group in channels.groups
        ),
        tuple(
            ChannelRefusal(key=one.key, operator=writes[one.key], reason=one.reason)
            for one in channels.refusals
        ),
    )


def _kept(group: ChannelGroup) -> GroupChoice:
    """What becomes of a group that a plan does not name."""
    return GroupChoice(
        key=group.key,
        units=len(group.units),
        kept=tuple(range(len(group.units))),
        level=0.0,
        producers=group.producers,
        consumers=group.consumers,
        why=NOT_IN_PLAN,
    )


def write_fitted(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    fitted: FittedPlan,
    output: Path,
    progress: Progress,
    before_publishing: Callable[[Model, Verdict, Publication], None],
    *,
    force: bool = False,
    copy: FolderCopy | None = None,
) -> None:
    """Writes a plan that was fitted.

    Args:
        case: The model.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        fitted: The plan and its factors.
        output: Where the file goes, once it has passed all checks.
        progress: Shows the validation.
        before_publishing: Called with the staged model, its verdict, and what is published with
            it, in front of it: all of that or none. An error leaves no model behind.
        force: Whether files that are there may be replaced.
        copy: The folder that is written, with the output in it; None for the file alone.

    Raises:
        BudgetError: The file is over its size budget.
        ValidationError: A check failed.
        UsageError: Something cannot be written, or may not be replaced.
    """
    with staged(output if copy is None else copy.target, beside=copy is not None) as folder:
        path = write_staged(
            rewritten(case, inputs, workspace, fitted), case.model, folder, output.name
        )
        with progress.stage("Validation", 1) as advance:
            written, compared, floats = read_model(path), path, case.model.proto
            if fitted.has_integers or fitted.plan.uses_fp16:
                base = written if fitted.has_integers else case.model
                floats = _in_floats(case, inputs, workspace, fitted, written)
                beside = folder / "floats"
                beside.mkdir()
                compared = write_staged(floats, base, beside, output.name)
            verdict = validate(
                case.model,
                compared,
                _claim(case, workspace, fitted),
                inputs.samples,
                provider=workspace.provider,
                rng=np.random.default_rng(workspace.options.seed),
                lean=workspace.is_lean(case.model),
                bytes_=written.bytes,
            )
            more: list[Check] = []
            if fitted.has_integers:
                more = integer_checks(
                    written,
                    compared,
                    fitted.factors,
                    _checked_on(case, inputs),
                    workspace.provider,
                    fitted.plan.int8_format,
                )
            elif fitted.plan.uses_fp16:
                untouched = float_blocks(case, fitted.plan)
                half = HalfPrecision(floats, case.model, fitted.float_nodes, untouched)
                more = half_checks(
                    path, compared, half.reasons, _checked_on(case, inputs), workspace.provider
                )
            verdict = replace(verdict, checks=(*verdict.checks, *more))
            advance(1)
        _check_size(case, fitted.plan, written)
        publication = Publication(force=force)
        whole = folder / "whole"
        if copy is not None:
            copy.fill(whole)
        before_publishing(written, verdict, publication)
        if copy is None:
            publish(path, output, publication)
        else:
            publish_folder(path, whole, copy, publication, force=force)


def _in_floats(
    case: Case, inputs: Inputs, workspace: Workspace, fitted: FittedPlan, written: Model
) -> ModelProto:
    """The floats that a file with other numbers stands for."""
    if fitted.has_integers:
        return in_floats(written)
    return rewritten(case, inputs, workspace, fitted.in_floats())


def _checked_on(case: Case, inputs: Inputs) -> Feeds:
    """What a file with other numbers is run on: some of the selection set, or the example."""
    if not inputs.has_selection:
        return dict(case.example)
    return next(inputs.selection.batches(_CHECKED, limit=_CHECKED)).feeds


def _claim(case: Case, workspace: Workspace, fitted: FittedPlan) -> Claim:
    maps = ComposedMaps(case.blocks, fitted.factors)
    # Composed anew for each use where all together would be too large, else once.
    claim = Claim(case.blocks, maps if workspace.is_lean(case.model) else dict(maps), fitted.levels)
    if not fitted.plan.groups or case.channels is None:
        return claim
    return replace(claim, cut=Cut(case.channels, removed_mask(case.channels, fitted.plan)))


def _check_size(case: Case, plan: Plan, written: Model) -> None:
    limit = plan.budgets.size
    if limit is not None and written.bytes > limit * case.model.bytes:
        raise BudgetError(
            f"the file has {written.bytes / case.model.bytes:.4g} of the bytes, "
            f"over the budget of {limit:.4g}; nothing was written."
        )


# Where an edited plan says otherwise than its groups do.
_WHY = {
    "keep": "none of its channels goes",
    "refit": "fitted to what changed blocks deliver",
    "prune": "its channels go with their groups",
}


@dataclass(frozen=True)
class Targets:
    """Where the results of a run go.

    Attributes:
        model: The smaller model.
        report: The folder of its report.
        json: Its figures.
        force: Whether regular files that are there may be replaced.
        returned: Whether the model is read again and returned, for its file is gone afterwards.
        copy: The folder that the model is written in, with all that its original lies in; None
            where it is a file alone.
    """

    model: Path
    report: Path | None = None
    json: Path | None = None
    force: bool = False
    returned: bool = False
    copy: FolderCopy | None = None


@dataclass(frozen=True, eq=False)
class Job:
    """What the report says besides the plan that is written, and what that is judged on.

    Attributes:
        case: The original, with its groups of units where these go.
        inputs: Its samples.
        workspace: Where it runs.
        measured: Its blocks.
        command: Goes into the provenance.
        warnings: What is to be said before anything was written.
        settings: Goes into the provenance.
        test: What the file is judged on; the best that there is if None.
        metric: Of the metric on the selection set; None where it is not looked at.
    """

    case: Case
    inputs: Inputs
    workspace: Workspace
    measured: Measured
    command: str
    warnings: tuple[str, ...] = ()
    settings: Settings = field(default_factory=dict)
    test: Samples | None = None
    metric: MetricChange | None = None


def carry_out(job: Job, produced: Produced, targets: Targets, progress: Progress) -> Compression:
    """Writes the smaller model and what is reported of it, all or nothing; returns it if wanted.

    Raises:
        BudgetError: The file is over its size or latency budget.
        ValidationError: The result failed a check and was not written.
        UsageError: Something cannot be written, or may not be replaced.
    """
    done: list[Compression] = []
    output, report = targets.model, targets.report
    with ExitStack() as stack:

        def before_publishing(written: Model, verdict: Verdict, with_it: Publication) -> None:
            shown = Path(RESULT) if targets.returned else output
            done.append(_compression(job, produced, written, shown, verdict, progress))
            if report is not None:
                made = stack.enter_context(staged(report)) / "report"
                make_report(done[0], made, report)
                with_it.add(made, report)
            if targets.json is not None:
                made = stack.enter_context(staged(targets.json)) / "figures"
                make_figures(done[0], made, targets.json)
                with_it.add(made, targets.json)

        write_fitted(
            job.case,
            job.inputs,
            job.workspace,
            produced.fitted,
            output,
            progress,
            before_publishing,
            force=targets.force,
            copy=targets.copy,
        )
    if targets.returned:
        return replace(done[0], model=onnx.load(output))
    return done[0]


def _compression(
    job: Job,
    produced: Produced,
    written: Model,
    output: Path,
    verdict: Verdict,
    progress: Progress,
) -> Compression:
    case, inputs, workspace, fitted = job.case, job.inputs, job.workspace, produced.fitted
    plan, levels = fitted.plan, fitted.levels
    nodes = case.model.proto.graph.node
    sensitive = sensitivities(
        plan, case.blocks, {block.key: nodes[block.nodes[0]].output[0] for block in case.blocks}
    )
    latency = final_latency(case, inputs, workspace, plan, written)
    times = block_times(case, inputs, workspace, plan, progress)
    batch = length(case, plan.batch)
    choices = {choice.key: choice for choice in plan.choices}
    left = kept_channels(case, plan)
    groups, channel_refusals = group_rows(case, plan)
    after = replace(
        facts_of(written, workspace.provider, case.example, case.example_batch), path=output
    )
    timed = None if latency is None else latency.measured
    bound = produced.bound
    bounded = None if bound is None else bound.metric
    found, warnings = assess(case, inputs, workspace, fitted, written, job.test, timed, progress)
    assessment = replace(
        found, alarms=alarms(found), conclusion=conclusion(found, case.facts, after, plan.budgets)
    )
    return Compression(
        before=case.facts,
        after=after,
        plan=plan,
        rows=tuple(
            replace(
                _timed(
                    _decided(row, choices.get(row.block.key), levels, left.get(row.block.key)),
                    times,
                ),
                sensitivity=sensitive.get(row.block.key),
            )
            for row in job.measured.rows
        ),
        refusals=case.refusals,
        groups=groups,
        channel_refusals=channel_refusals,
        stored=stored_numbers(written.proto.graph, case.blocks, written.bytes)
        if fitted.has_integers
        else (),
        verdict=verdict,
        bound=bound,
        correction=produced.correction,
        metric=found.evaluation.metric or bounded or job.metric,
        batch=batch,
        latency=latency,
        assessment=assessment,
        samples=sample_counts(inputs, job.test),
        warnings=(
            *assessment.alarms,
            *job.warnings,
            *warnings,
            *slower_file(case, inputs, workspace, plan.batch, written.path, found.latency),
            *slower_blocks(times, batch),
        ),
        provenance=provenance(
            workspace.provider, workspace.options, inputs.user_samples, job.command, job.settings
        ),
    )


def _decided(
    row: BlockReport, choice: Choice | None, levels: Mapping[str, float], kept: ChannelMask | None
) -> BlockReport:
    """A block's row with what became of it."""
    choice = choice or Choice(key=row.block.key, why=NOT_IN_PLAN)
    left = masked_block(row.block, kept)
    choice = _done(choice, row.block, left, fitted=row.block.key in levels)
    level = levels.get(row.block.key, 0.0)
    halved = choice.is_fp16 and left.weight_type == TensorProto.FLOAT
    size = _HALF_BYTES if halved else item_size(left)
    if choice.form is None or choice.rank is None or not _is_other_layer(choice):
        cost = masked_cost(row.block, left)
        saved = (item_size(left) - size) * block_numbers(left)
        cost = replace(cost, bytes=max(cost.bytes - saved, 0))
        return replace(row, choice=choice, level=level, cost_after=cost)
    cost = candidate_cost(left, choice.form, choice.rank, size, integers=choice.is_int8)
    unfolding = FORMS[choice.form].unfolding
    return replace(row, choice=choice, level=level, cost_after=cost, unfolding=unfolding)


def _is_other_layer(choice: Choice) -> bool:
    """Whether a block costs something else than its share of what it did."""
    return choice.is_double_layer or choice.is_int8


def _done(choice: Choice, block: Block, left: Block, *, fitted: bool) -> Choice:
    """A choice as it was carried out: channels go as the groups say, however a plan was edited."""
    before, after = block.geometry, left.geometry
    inputs = None if after.in_channels == before.in_channels else after.in_channels
    outputs = None if after.out_channels == before.out_channels else after.out_channels
    choice = replace(choice, inputs=inputs, outputs=outputs)
    if choice.is_double_layer:
        return choice
    action: Action = "refit" if fitted else "keep"
    if inputs is not None or outputs is not None:
        action = "prune"
    why = choice.why if action == choice.action else _WHY[action]
    choice = replace(choice, action=action, why=why)
    if choice.is_kept:
        return replace(choice, form=None, rank=None)
    return replace(choice, form=DENSE.name, rank=after.largest_rank)


def _timed(row: BlockReport, times: BlockTimes) -> BlockReport:
    """A block's row with what it takes by itself, where it changed."""
    before, after = times.get(row.block.key, (None, None))
    return replace(row, latency_before=before, latency_after=after)
