"""What a written file costs: both models side by side, on samples that nothing was fitted to.

Which samples these are, the best that there are:

    those of --test         nothing was fitted to them or chosen on them
    those for certifying    likewise, with --max-drop
    those for choosing      nothing was fitted to them; sizes, forms and factors were chosen on them
    those for fitting       where one sample, or one group, leaves nothing for choosing
    synthetic feeds         without samples: several kinds and scales, which is no data

No part is set aside for it where nothing is certified: fits and choices would be others.

What a smaller model changes on synthetic inputs: all there is to see without samples.

It is no data, and what it says of real inputs is little. So it is looked at on several kinds and
scales of inputs, and where the original's own outputs are the same for all of them, or nothing at
all changes though blocks did, no figure is given.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np

from onnx_relusv.checking.evaluate import evaluate
from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.core.measures import FeedChange, Latency, OutputChange, SampleCounts
from onnx_relusv.core.reduction import FittedPlan
from onnx_relusv.core.results import Assessment, Evaluation, JudgedPart
from onnx_relusv.graph.channels.operators import normalisation
from onnx_relusv.graph.deciding import value_lengths
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.nodes import view
from onnx_relusv.graph.reference import runnable
from onnx_relusv.measuring.case import Case, Workspace
from onnx_relusv.measuring.held_out import answers_output
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.runtime.differences import OutputDifference
from onnx_relusv.runtime.latency import interleaved_latency
from onnx_relusv.runtime.outputs import output_value
from onnx_relusv.runtime.session import Session
from onnx_relusv.samples.feeds import Drawing, Feeds, VariedFeed, repeatable, varied_feeds
from onnx_relusv.samples.samples import Samples, open_samples
from onnx_relusv.samples.sources import SampleSource
from onnx_relusv.work.executors import Progress

# Samples in a feed, where the model's batch is open.
_REPEATS = 4
# Seconds after which two feeds are enough.
_LONG, _ENOUGH = 30.0, 2
_SAME_FOR_ALL = "constant: the original's output is the same for all of these inputs"
_UNCHANGED = "exactly the same, though blocks changed: these inputs tell nothing of them"
_NOTHING = "no numbers: the original gives no finite ones on any of these inputs"

Ran = Mapping[str, Any]


def synthetic_assessment(
    case: Case,
    workspace: Workspace,
    before: Session,
    after: Session,
    input_range: tuple[float, float] | None,
    timed: Latency | None,
    progress: Progress,
    *,
    changes: bool,
) -> tuple[Assessment, tuple[str, ...]]:
    """Puts both models side by side on several synthetic feeds.

    Args:
        case: The original.
        workspace: Where it runs, and what is kept.
        before: The same, open.
        after: The smaller model.
        input_range: What was declared of the inputs, or None.
        timed: What both models take, where that was measured.
        progress: Told when it is done.
        changes: Whether a block is not what it was, beyond rounding.

    Returns:
        What it costs, not yet in words, and warnings.
    """
    run = _Run(case, before, after, changes=changes)
    with progress.stage("Assessment on synthetic inputs", 1) as advance:
        run.all(_feeds(case, workspace, before, input_range))
        advance(1)
    if timed is None:
        seconds = interleaved_latency(before, after, dict(case.example), brief=True)
        timed = Latency(batch=case.example_batch, before=seconds[0], after=seconds[1])
    found = Assessment(
        part="synthetic",
        evaluation=Evaluation(
            samples=sum(feed.samples for feed in run.feeds),
            agreement=None,
            accuracy_before=None,
            accuracy_after=None,
            outputs=tuple(run.worst.values()),
            latencies=(),
            provider=before.provider,
        ),
        feeds=tuple(run.feeds),
        withheld=run.withheld(),
        latency=timed,
    )
    return found, _warnings(found)


class _Run:
    """Both models on synthetic feeds.

    Attributes:
        feeds: How far outputs changed on each.
        worst: By output, the change on the feed on which it changes most.
    """

    def __init__(self, case: Case, before: Session, after: Session, *, changes: bool) -> None:
        self.feeds: list[FeedChange] = []
        self.worst: dict[str, OutputChange] = {}
        self._after, self._changes = after, changes
        self._names = case.model.output_names
        self._lists = value_lengths(case.model)
        self._together = self._differences()

    def _differences(self) -> dict[str, OutputDifference]:
        return {name: OutputDifference(name, self._lists.get(name)) for name in self._names}

    def all(self, feeds: Iterator[tuple[VariedFeed, Ran]]) -> None:
        """Takes feeds with what the original gives for them, for as long as that does not take."""
        begun = perf_counter()
        for feed, first in feeds:
            second, alone = self._after.run(feed.feeds, self._names), self._differences()
            for name in self._names:
                values = output_value(first[name]), output_value(second[name])
                for difference in (alone[name], self._together[name]):
                    difference.add(*values, feed.samples)
            changes = {name: difference.change() for name, difference in alone.items()}
            for name, one in changes.items():
                if name not in self.worst or one.change > self.worst[name].change:
                    self.worst[name] = one
            most = max((one.change for one in changes.values()), default=0.0) or None
            if most is None and not self._changes:
                most = 0.0
            self.feeds.append(FeedChange(inputs=feed.words, samples=feed.samples, change=most))
            if len(self.feeds) >= _ENOUGH and perf_counter() - begun > _LONG:
                break

    def withheld(self) -> dict[str, str]:
        """The outputs whose change tells nothing, with the reason."""
        if not self.feeds:
            return dict.fromkeys(self._names, _NOTHING)
        found = {}
        for name, one in self.worst.items():
            if not self._together[name].change().varies:
                found[name] = _SAME_FOR_ALL
            elif self._changes and one.change == 0:
                found[name] = _UNCHANGED
        return found


def _warnings(found: Assessment) -> tuple[str, ...]:
    reasons = set(found.withheld.values())
    if not reasons:
        return ()
    names, count = ", ".join(found.withheld), len(found.feeds)
    if found.change is None:
        why = {
            _SAME_FOR_ALL: f"the outputs are constant on all {count} kinds of them that were tried",
            _UNCHANGED: "the outputs are exactly the same on them, though blocks changed",
            _NOTHING: "on none of those that were tried are the outputs finite numbers",
        }
        said = "; ".join(text for reason, text in why.items() if reason in reasons)
        return (
            f"Random inputs tell nothing here: {said}. How far the result is from the original "
            "is not known: give --samples.",
        )
    return (
        f"Random inputs tell nothing of {names}, which is constant or exactly the same on all "
        f"{count} kinds of them that were tried: how far it changes is not known. Give --samples.",
    )


def _feeds(
    case: Case,
    workspace: Workspace,
    before: Session,
    input_range: tuple[float, float] | None,
) -> Iterator[tuple[VariedFeed, Ran]]:
    """Feeds with what the original gives for them, finite numbers."""
    model, seen = case.model, view(case.model)
    normalised = {spec.name: normalisation(model, seen, spec.name) for spec in model.inputs}
    ran: list[Ran] = []

    def runs(feeds: Feeds) -> bool:
        try:
            ran[:] = [before.run(feeds, model.output_names)]
        except InputError:
            return False
        return all(map(_is_finite, ran[0].values()))

    several = Drawing(
        inputs=model.inputs,
        example=case.example,
        normalisations=normalised,
        input_range=input_range,
        seed=workspace.options.seed,
        repeats=_REPEATS if repeatable(model.inputs) else 1,
    )
    # What is declared to take any number of samples may take one alone.
    for drawing in (several, replace(several, repeats=1)):
        found = False
        for feed in varied_feeds(drawing, runs):
            found = True
            yield feed, ran[0]
        if found:
            return


def _is_finite(found: object) -> bool:
    arrays = output_value(found).arrays
    return all(
        bool(np.isfinite(array.astype(np.float64)).all())
        for array in arrays
        if array.dtype.kind in "fV"
    )


_CONSTANT = "the original's output is the same for all of these samples"
# Samples that show whether labels are classes of the model.
_BATCH = 4


def sample_counts(inputs: Inputs, test: Samples | None) -> SampleCounts | None:
    """How many samples there are, and what for; None without any.

    Args:
        inputs: The model, its samples split.
        test: What the result is judged on, where that is a file of its own.
    """
    given, parts, tested = inputs.user_samples, inputs.split, 0 if test is None else test.count
    if given is None or parts is None:
        return SampleCounts(given=0, taken=0, fit=0, select=0, test=tested) if tested else None
    return SampleCounts(
        given=given.total,
        taken=given.count,
        fit=parts.fit.count,
        select=0 if parts.select is None else parts.select.count,
        certify=0 if parts.certify is None else parts.certify.count,
        test=tested,
    )


def test_samples(case: Case, inputs: Inputs, test: SampleSource | None) -> Samples | None:
    """Opens samples that a result is to be judged on.

    Raises:
        InputError: They cannot be read or do not fit.
        UsageError: They are those that are fitted to.
    """
    if test is None:
        return None
    labels = inputs.metric is not None
    samples = case.knowing(open_samples(test, case.model.inputs, any_labels=labels))
    if inputs.user_samples is not None and samples.sha256 == inputs.user_samples.sha256:
        raise UsageError(
            f"--test {test.name}: these are the samples that are fitted to. Give others, or leave "
            "--test away."
        )
    return samples


def judged_on(inputs: Inputs, test: Samples | None) -> tuple[JudgedPart, Samples | None]:
    """Which samples a result is judged on; None where that is synthetic feeds.

    Args:
        inputs: The model, its samples split.
        test: Samples of a file of their own, or None.
    """
    parts = inputs.split
    if test is not None:
        return "test", test
    if inputs.user_samples is None or parts is None:
        return "synthetic", None
    if parts.certify is not None:
        return "certifying", parts.certify
    if parts.select is not None:
        return "choosing", parts.judge or parts.select
    return "fitting", parts.fit


def assess(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    fitted: FittedPlan,
    written: Model,
    test: Samples | None,
    timed: Latency | None,
    progress: Progress,
) -> tuple[Assessment, tuple[str, ...]]:
    """Judges a file that is about to get its name.

    Args:
        case: The original, its samples split.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        fitted: What the file was made of.
        written: The file.
        test: Samples to judge on, or None.
        timed: What both models take, where that was measured.
        progress: Shows the samples.

    Returns:
        What it costs, not yet in words, and warnings.
    """
    part, samples = judged_on(inputs, test)
    before = Session(runnable(case.model), workspace.provider, lean=workspace.is_lean(case.model))
    after = Session(written.path, workspace.provider, lean=workspace.is_lean(case.model))
    if samples is None:
        halved = fitted.plan.uses_fp16
        changes = halved or any(level > 0 for level in fitted.levels.values())
        input_range = fitted.plan.input_range
        return synthetic_assessment(
            case, workspace, before, after, input_range, timed, progress, changes=changes
        )
    samples, warnings = _with_known_labels(inputs, before, samples, test or inputs.user_samples)
    with progress.stage("Assessment", samples.count) as advance:
        evaluation = evaluate(
            before,
            after,
            samples,
            case.model.output_names,
            advance=advance,
            metric=inputs.metric if part == "test" else None,
            lists=value_lengths(case.model),
            latency=False,
        )
    if evaluation.metric is not None:
        evaluation = replace(evaluation, metric=replace(evaluation.metric, part="test"))
    if timed is None:
        batch = next(samples.batches(fitted.plan.batch, limit=fitted.plan.batch))
        seconds = interleaved_latency(before, after, batch.feeds, brief=True)
        timed = Latency(batch=batch.size, before=seconds[0], after=seconds[1])
    constant = {one.name: _CONSTANT for one in evaluation.outputs if not one.varies}
    found = Assessment(
        part=part,
        evaluation=evaluation,
        withheld=constant if samples.count > 1 else {},
        latency=timed,
    )
    return found, (*warnings, *_constant_warnings(found))


def _constant_warnings(found: Assessment) -> tuple[str, ...]:
    if not found.withheld:
        return ()
    names, count = ", ".join(found.withheld), found.evaluation.samples
    return (
        f"On all {count} samples that are judged on, the original gives the same {names}: how far "
        "that changes on others is not known. Give samples that differ.",
    )


def _with_known_labels(
    inputs: Inputs, before: Session, samples: Samples, whole: Samples | None
) -> tuple[Samples, tuple[str, ...]]:
    """Samples without labels where these are none of the model's classes, and warnings of them."""
    if whole is None or whole.labels is None or inputs.metric is not None:
        return samples, ()
    labels, found = whole.labels, []
    if len(labels) > 1 and len(np.unique(labels)) == 1:
        found.append(
            f"All {len(labels)} labels are {labels[0]}: accuracy on one class alone tells little."
        )
    classes = _classes(before, samples)
    foreign = 0 if classes is None else int(np.sum((labels < 0) | (labels >= classes)))
    if classes is None or not foreign:
        return samples, tuple(found)
    found.append(
        f"{foreign} of {len(labels)} labels are no class of the model, which has {classes}, 0 to "
        f"{classes - 1}; labels go from {labels.min()} to {labels.max()}. No accuracy is counted."
    )
    return replace(samples, labels=None), tuple(found)


def _classes(before: Session, samples: Samples) -> int | None:
    """How many classes labels are numbers of; None where that is not known."""
    output = answers_output(before, samples, _BATCH)
    if output is None or output.text or (output.keys and isinstance(output.keys[0], int)):
        return None
    return output.classes
