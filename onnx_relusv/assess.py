"""What a written file costs: both models side by side, on samples that nothing was fitted to.

Which samples these are, the best that there are:

    those of --test         nothing was fitted to them or chosen on them
    those for certifying    likewise, with --max-drop
    those for choosing      nothing was fitted to them; sizes, forms and factors were chosen on them
    those for fitting       where one sample, or one group, leaves nothing for choosing
    synthetic feeds         without samples: several kinds and scales, which is no data

No part is set aside for it where nothing is certified: fits and choices would be others.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from onnx_relusv.class_scores import answer_output
from onnx_relusv.errors import UsageError
from onnx_relusv.evaluate import evaluate
from onnx_relusv.fitted import FittedPlan
from onnx_relusv.graph.expose import runnable
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.value_lengths import value_lengths
from onnx_relusv.opened import Opened
from onnx_relusv.outcomes import Latency, SampleCounts
from onnx_relusv.output_values import output_value, real_part
from onnx_relusv.progress import Progress
from onnx_relusv.results import Assessment, JudgedPart
from onnx_relusv.runtime.latency import brief_latency
from onnx_relusv.runtime.session import Session
from onnx_relusv.samples import Samples, open_samples
from onnx_relusv.synthetic_assessment import synthetic_assessment

_CONSTANT = "the original's output is the same for all of these samples"
# Samples that show whether labels are classes of the model.
_BATCH = 4


def sample_counts(opened: Opened, test: Samples | None) -> SampleCounts | None:
    """How many samples there are, and what for; None without any.

    Args:
        opened: The model, its samples split.
        test: What the result is judged on, where that is a file of its own.
    """
    given, parts, tested = opened.given, opened.split, 0 if test is None else test.count
    if given is None or parts is None:
        return SampleCounts(given=0, taken=0, fit=0, select=0, test=tested) if tested else None
    return SampleCounts(
        given=given.given,
        taken=given.count,
        fit=parts.fit.count,
        select=0 if parts.select is None else parts.select.count,
        certify=0 if parts.certify is None else parts.certify.count,
        test=tested,
    )


def test_samples(opened: Opened, test: Path | None) -> Samples | None:
    """Opens samples that a result is to be judged on.

    Raises:
        InputError: They cannot be read or do not fit.
        UsageError: They are those that are fitted to.
    """
    if test is None:
        return None
    samples = open_samples(test, opened.model.inputs, any_labels=opened.metric is not None)
    if opened.given is not None and samples.sha256 == opened.given.sha256:
        raise UsageError(
            f"--test {test}: these are the samples that are fitted to. Give others, or leave "
            "--test away."
        )
    return samples


def judged_on(opened: Opened, test: Samples | None) -> tuple[JudgedPart, Samples | None]:
    """Which samples a result is judged on; None where that is synthetic feeds.

    Args:
        opened: The model, its samples split.
        test: Samples of a file of their own, or None.
    """
    parts = opened.split
    if test is not None:
        return "test", test
    if opened.given is None or parts is None:
        return "synthetic", None
    if parts.certify is not None:
        return "certifying", parts.certify
    if parts.select is not None:
        return "choosing", parts.select
    return "fitting", parts.fit


def assess(
    opened: Opened,
    fitted: FittedPlan,
    written: Model,
    test: Samples | None,
    timed: Latency | None,
    progress: Progress,
) -> tuple[Assessment, tuple[str, ...]]:
    """Judges a file that is about to get its name.

    Args:
        opened: The original, its samples split.
        fitted: What the file was made of.
        written: The file.
        test: Samples to judge on, or None.
        timed: What both models take, where that was measured.
        progress: Told of the samples.

    Returns:
        What it costs, not yet in words, and warnings.
    """
    part, samples = judged_on(opened, test)
    before = Session(runnable(opened.model), opened.provider, lean=opened.lean)
    after = Session(written.path, opened.provider, lean=opened.lean)
    if samples is None:
        changes = any(level > 0 for level in fitted.levels.values())
        input_range = fitted.plan.input_range
        return synthetic_assessment(
            opened, before, after, input_range, timed, progress, changes=changes
        )
    samples, warnings = _with_known_labels(opened, before, samples, test or opened.given)
    with progress.stage("Assessment", samples.count) as advance:
        evaluation = evaluate(
            before,
            after,
            samples,
            opened.model.output_names,
            advance=advance,
            metric=opened.metric if part == "test" else None,
            lists=value_lengths(opened.model),
            latency=False,
        )
    if evaluation.metric is not None:
        evaluation = replace(evaluation, metric=replace(evaluation.metric, part="test"))
    if timed is None:
        batch = next(samples.batches(fitted.plan.batch, limit=fitted.plan.batch))
        seconds = brief_latency(before, after, batch.feeds)
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
    opened: Opened, before: Session, samples: Samples, whole: Samples | None
) -> tuple[Samples, tuple[str, ...]]:
    """Samples without labels where these are none of the model's classes, and warnings of them."""
    if whole is None or whole.labels is None or opened.metric is not None:
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
    return samples.without_labels(), tuple(found)


def _classes(before: Session, samples: Samples) -> int | None:
    """How many classes labels are numbers of; None where that is not known."""
    batch = next(samples.batches(_BATCH, limit=_BATCH))
    ran: Mapping[str, object] = before.run(batch.feeds)
    values = {
        name: real_part(output_value(value), batch.count, batch.size) for name, value in ran.items()
    }
    output = answer_output(values, batch.count)
    if output is None or output.text or (output.keys and isinstance(output.keys[0], int)):
        return None
    return output.classes
