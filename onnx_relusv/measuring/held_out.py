"""What a smaller model loses on samples that were set aside.

Counted: the answers that it changes. Expected: what these changes cost, by the probabilities that
the original gives. By a metric of the original and of smaller models.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.special

from onnx_relusv.core.blocks import Floats, Runnable
from onnx_relusv.core.errors import InputError
from onnx_relusv.core.metric import Metric
from onnx_relusv.measuring.answers import answers_of
from onnx_relusv.measuring.bounds import (
    Discordance,
    ExpectedDrop,
    MetricLoss,
    groups_of,
    standard_error,
)
from onnx_relusv.measuring.case import Case, Workspace
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.runtime.outputs import (
    AnswerOutput,
    answer_output,
    collected,
    output_value,
    picked,
    real_part,
    real_rows,
)
from onnx_relusv.runtime.session import Session
from onnx_relusv.runtime.stacks import run_batch
from onnx_relusv.samples.samples import Samples
from onnx_relusv.work.disk_arrays import ArrayFile

_BATCH = 64


class HeldOut:
    """Samples with the original's answers to them.

    Args:
        case: The original.
        workspace: Where it runs, and what is kept.
        samples: A part of its samples.
        output: Its output with answers, class scores or labels, one a sample.
    """

    def __init__(self, case: Case, workspace: Workspace, samples: Samples, output: str) -> None:
        self._provider = workspace.provider
        self._samples = samples
        self._output = output
        self._before = self._answers(workspace.session(case.model))

    def discordance(self, smaller: Runnable | Path) -> Discordance:
        """Runs a smaller model, or its file, and counts where it differs.

        Raises:
            InputError: It does not give an answer a sample.
        """
        before, known = self._before
        after, also = self._answers(Session(smaller, self._provider, alone=False))
        labels = self._samples.labels
        if labels is None:
            # No answer is the same as no answer, as far as what changes is counted.
            same = ((before == after) & known & also) | (~known & ~also)
            return Discordance(len(before), int(np.sum(~same)), None)
        right, still = known & (before == labels), also & (after == labels)
        return Discordance(
            len(before), int(np.sum(right & ~still)), gained=int(np.sum(still & ~right))
        )

    def _answers(self, session: Session) -> tuple[np.ndarray, np.ndarray]:
        """(samples,) answers, and whether there is one: argmax would name the first NaN."""
        found, output = [], None
        for batch in self._samples.batches(_BATCH, stacked=True):
            ran = run_batch(session, batch, [self._output])
            value = real_part(output_value(ran[self._output]), batch.count, batch.size)
            output = output or answer_output({self._output: value}, batch.count)
            if output is None or not output.fits(value, batch.count):
                raise InputError(
                    f"output {self._output} does not have an answer for every sample in all "
                    "batches, so answers cannot be counted."
                )
            found.append(output.answers(value))
        answers, known = zip(*found, strict=True)
        return np.concatenate(answers), np.concatenate(known)


class HeldOutProbabilities:
    """Samples with the original's probabilities of all classes, which lie on disk.

    Args:
        case: The original.
        workspace: Where it runs, and what is kept.
        samples: A part of its samples.
        output: Its output with class scores.

    Raises:
        InputError: The scores are not those of classes that exclude one another.
        UsageError: There is no room for temporary files.
    """

    def __init__(self, case: Case, workspace: Workspace, samples: Samples, output: str) -> None:
        self._provider = workspace.provider
        self._samples = samples
        self._output = output
        session = workspace.session(case.model)
        batch = next(samples.batches(_BATCH, limit=_BATCH))
        values = session.run(batch.feeds, [output])
        read = answers_of(case.model, values, batch.count, batch.size)
        if read.scores is None or read.independent:
            raise InputError(
                f"{case.model.name}: {output} does not have the scores of classes that exclude one "
                "another, so it tells no probabilities that add up to 1. Leave --drop-by away, and "
                "--max-drop counts the answers that change."
            )
        file, place, answers = ArrayFile(), None, []
        for scores in self._scores(session):
            with np.errstate(invalid="ignore"):  # of infinite scores
                shares = scores if read.probabilities else scipy.special.softmax(scores, axis=1)
            places = scores.argmax(axis=1)
            # These have no shares; what may be lost is then all of it.
            endless = ~np.isfinite(shares).all(axis=1)
            shares[endless] = np.arange(scores.shape[1]) == places[endless, None]
            answers.append(np.where(np.isnan(scores).any(axis=1), _NO_ANSWER, places))
            rows = np.clip(shares, 0, 1).astype(np.float32)
            place = file.put(rows) if place is None else file.added(place, rows)
        assert place is not None  # there is a sample at least
        self._answers, self._shares = np.concatenate(answers), file.mapped(place)

    def expected_drop(self, smaller: Runnable) -> ExpectedDrop:
        """Runs a smaller model, and tells of the answers that it changes what they cost.

        Where it has no answer, the original's probability of its own is lost; what has no answer in
        the original loses nothing.

        Raises:
            InputError: It does not give scores of as many classes.
        """
        found: list[np.ndarray] = []
        start = 0
        for scores in self._scores(Session(smaller, self._provider, alone=False)):
            before = self._answers[start : start + len(scores)]
            shares = np.asarray(self._shares[start : start + len(scores)], np.float64)
            if scores.shape != shares.shape:
                raise InputError(f"output {self._output} does not have scores of the same classes.")
            after = scores.argmax(axis=1)
            numbers = ~np.isnan(scores).any(axis=1)
            changed = np.flatnonzero((before != _NO_ANSWER) & ((before != after) | ~numbers))
            other = np.where(numbers[changed], shares[changed, after[changed]], 0)
            found.append(np.maximum(shares[changed, before[changed]] - other, 0))
            start += len(scores)
        return ExpectedDrop(start, np.concatenate(found))

    def _scores(self, session: Session) -> Iterator[np.ndarray]:
        """(samples, classes) float64, batch by batch."""
        for batch in self._samples.batches(_BATCH, stacked=True):
            values = run_batch(session, batch, [self._output])
            yield np.array(real_rows(values, batch.count, batch.size)[self._output], np.float64)


# Of a sample to which scores that are no numbers give none.
_NO_ANSWER = -1


def answers_output(session: Session, samples: Samples, length: int = _BATCH) -> AnswerOutput | None:
    """A model's output with answers, one a sample; None without one.

    Args:
        session: The model.
        samples: Inputs of it.
        length: How many of them are run.
    """
    batch = next(samples.batches(length, limit=length))
    values = session.run(batch.feeds)
    read = {
        name: real_part(output_value(value), batch.count, batch.size)
        for name, value in values.items()
    }
    return answer_output(read, batch.count)


_STREAM = 11


class HeldOutMetric:
    """Samples with the original's metric, on all of them and without each group of them.

    Args:
        case: The original.
        workspace: Where it runs, and what is kept.
        samples: A part of its samples, two at least.
        metric: What its answers are worth.

    Raises:
        InputError: The metric fails, or an output's first axis is not that of the samples.
    """

    def __init__(self, case: Case, workspace: Workspace, samples: Samples, metric: Metric) -> None:
        self._provider = workspace.provider
        self._names = case.model.output_names
        self._samples = samples
        self._metric = metric
        rng = np.random.default_rng([workspace.options.seed, _STREAM])
        self._group = groups_of(samples.count, rng)
        self._before = self._values(workspace.session(case.model))

    def loss(self, smaller: Runnable) -> MetricLoss:
        """Runs a smaller model.

        Raises:
            InputError: The metric fails.
        """
        before, after = self._before, self._values(Session(smaller, self._provider, alone=False))
        lost, sizes = before - after, np.bincount(self._group)
        return MetricLoss(
            metric=self._metric.name,
            samples=self._samples.count,
            before=float(before[0]),
            after=float(after[0]),
            standard_error=standard_error(float(lost[0]), lost[1:], sizes),
            groups=len(sizes),
        )

    def _values(self, session: Session) -> Floats:
        """(1 + groups,): on all samples, then without each group."""
        outputs, labels = collected(session, self._samples, self._names), self._samples.labels
        found = [self._metric.value(outputs, labels)]
        for group in range(int(self._group.max()) + 1):
            kept = np.flatnonzero(self._group != group)
            some = None if labels is None else labels[kept]
            found.append(self._metric.value(picked(outputs, kept), some))
        return np.array(found)


def original_metric(case: Case, inputs: Inputs, workspace: Workspace) -> float | None:
    """The original's metric on the samples for choosing; None where there is no metric.

    Raises:
        InputError: The metric fails, or an output's first axis is not that of the samples.
    """
    if inputs.metric is None or inputs.split is None or inputs.split.select is None:
        return None
    samples = inputs.split.select
    outputs = collected(workspace.session(case.model), samples, case.model.output_names)
    return inputs.metric.value(outputs, samples.labels)
