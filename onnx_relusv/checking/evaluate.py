"""Compares two models on samples: agreement, accuracy, change of every output, latency.

How sure a model is of its answers: the largest class probability, and the entropy of all.

Whether an output holds probabilities or logits is decided when all of it was seen: it holds
probabilities if every row is non-negative and sums to 1 within 1e-3. Until then both readings of
every sample are kept, and no scores. An output of logarithms of probabilities reads rightly as
logits, whose softmax they are.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special

from onnx_relusv.core.blocks import Floats
from onnx_relusv.core.errors import InputError
from onnx_relusv.core.measures import ConfidenceInterval, Latency
from onnx_relusv.core.metric import Metric, MetricChange
from onnx_relusv.core.results import Evaluation
from onnx_relusv.measuring.bounds import Discordance
from onnx_relusv.runtime.differences import OutputDifference
from onnx_relusv.runtime.latency import interleaved_latency
from onnx_relusv.runtime.outputs import (
    AnswerOutput,
    CollectedOutputs,
    OutputValue,
    answer_output,
    output_value,
    real_part,
)
from onnx_relusv.runtime.session import Session
from onnx_relusv.runtime.stacks import run_batch
from onnx_relusv.samples.samples import Batch, Samples

_SUM_TOLERANCE = 1e-3
# Of the intervals of agreement and drop, each by itself.
_ERROR = 0.05


@dataclass(frozen=True, eq=False)
class Confidence:
    """Of all samples.

    Attributes:
        top: (samples,) int64, the class with the largest score.
        max_softmax: (samples,) float64, the largest class probability.
        entropy: (samples,) float64, of the class probabilities, in nats.
    """

    top: np.ndarray
    max_softmax: Floats
    entropy: Floats


class ConfidenceReader:
    """Reads class scores batch by batch."""

    def __init__(self) -> None:
        self._top: list[np.ndarray] = []
        # (samples, 2): the scores taken as probabilities, and as logits.
        self._largest: list[Floats] = []
        self._entropy: list[Floats] = []
        self._are_probabilities = True

    def add(self, scores: np.ndarray) -> None:
        """Reads a batch's scores, (samples, classes)."""
        exact = scores.astype(np.float64)
        self._top.append(exact.argmax(axis=1))
        self._are_probabilities &= bool(
            (exact >= 0).all() and (np.abs(exact.sum(axis=1) - 1) <= _SUM_TOLERANCE).all()
        )
        with np.errstate(invalid="ignore"):  # infinite scores become NaN, which the reader sees
            readings = (exact, scipy.special.softmax(exact, axis=1))
        self._largest.append(np.stack([one.max(axis=1) for one in readings], axis=1))
        entropies = [scipy.special.entr(one).sum(axis=1) for one in readings]
        self._entropy.append(np.stack(entropies, axis=1))

    def result(self) -> Confidence:
        """What was read, of at least one batch."""
        reading = 0 if self._are_probabilities else 1
        return Confidence(
            top=np.concatenate(self._top),
            max_softmax=np.concatenate(self._largest)[:, reading],
            entropy=np.concatenate(self._entropy)[:, reading],
        )


_BATCH = 64
_LATENCY_BATCHES = (1, 32)

Feed = Mapping[str, np.ndarray]


def evaluate(
    before: Session,
    after: Session,
    samples: Samples | Sequence[Feed],
    outputs: tuple[str, ...],
    *,
    advance: Callable[[int], None],
    metric: Metric | None = None,
    lists: Mapping[str, int] | None = None,
    latency: bool = True,
) -> Evaluation:
    """Runs both models on all samples.

    A model's answers are taken from the first output of shape (samples, classes) with two classes
    or more, or of maps with two keys or more, one a sample. Without such an output they are taken
    from the first that holds a whole number, a truth value or a text a sample.

    Args:
        before: The original.
        after: The smaller model.
        samples: The samples, with or without labels; or synthetic feeds, which may differ in their
            lengths.
        outputs: The outputs that both models have.
        advance: Told after every batch how many samples it had.
        metric: If given, what the labels are for in place of the accuracy; it takes samples.
        lists: The outputs whose lengths depend on values, and the axis along which they do.
        latency: Whether runs are timed.

    Raises:
        InputError: Labels are out of the range of the classes, or the metric fails.
    """
    axes = lists or {}
    differences = {name: OutputDifference(name, axes.get(name)) for name in outputs}
    collected = () if metric is None else (CollectedOutputs(outputs), CollectedOutputs(outputs))
    answers, count = _Answers(), 0
    batches = (
        samples.batches(_BATCH, stacked=True) if isinstance(samples, Samples) else _runs(samples)
    )
    for batch in batches:
        ran = run_batch(before, batch, outputs), run_batch(after, batch, outputs)
        for one, values in zip(collected, ran, strict=False):
            one.add(values, batch.count, batch.size)
        first, second = (_read(values, batch, samples) for values in ran)
        for name, difference in differences.items():
            difference.add(first[name], second[name], batch.count)
        answers.add(first, second, batch.count)
        count += batch.count
        advance(batch.count)
    accuracies, change, same, drop = None, None, None, None
    if isinstance(samples, Samples):
        answers.check(before, samples, outputs)
        accuracies = answers.accuracies(samples) if metric is None else None
        if samples.groups is None:  # the intervals are of samples that do not depend on each other
            same = answers.agreement_interval
            drop = None if accuracies is None else answers.drop_interval(samples)
        change = None if metric is None else _metric_change(metric, collected, samples)
    return Evaluation(
        samples=count,
        agreement=answers.agreement,
        accuracy_before=None if accuracies is None else accuracies[0],
        accuracy_after=None if accuracies is None else accuracies[1],
        outputs=tuple(
            difference.change(top_1=answers.agreement if name == answers.scores else None)
            for name, difference in differences.items()
        ),
        latencies=measured_latencies(before, after, samples) if latency else (),
        provider=before.provider,
        metric=change,
        agreement_interval=same,
        drop_interval=drop,
    )


def _runs(feeds: Sequence[Feed]) -> Iterator[Batch]:
    for feed in feeds:
        length = _length(feed)
        yield Batch(dict(feed), length, 0, length)


def _length(feed: Feed) -> int:
    return next((len(values) for values in feed.values() if values.ndim), 1)


def _read(
    values: Mapping[str, object], batch: Batch, samples: Samples | Sequence[Feed]
) -> dict[str, OutputValue]:
    read = {name: output_value(value) for name, value in values.items()}
    if not isinstance(samples, Samples):
        return read
    return {name: real_part(value, batch.count, batch.size) for name, value in read.items()}


class _Answers:
    """Both models' answers, one a sample, if all batches have them."""

    def __init__(self) -> None:
        self._output: AnswerOutput | None = None
        self._seen = False
        self._found: list[tuple[tuple[np.ndarray, np.ndarray], ...]] = []

    def add(
        self, first: Mapping[str, OutputValue], second: Mapping[str, OutputValue], count: int
    ) -> None:
        """Reads a batch of `count` samples."""
        if not self._seen:
            self._output, self._seen = answer_output(first, count), True
        output = self._output
        if output is None:
            return
        if not all(output.fits(values[output.name], count) for values in (first, second)):
            # It had a row a sample by chance, or the other model has other classes.
            self._output = None
            return
        self._found.append(tuple(output.answers(one[output.name]) for one in (first, second)))

    def check(self, before: Session, samples: Samples, outputs: tuple[str, ...]) -> None:
        """Looks whether a single sample has one row too, where it can be run by itself."""
        if self._output is None or samples.fixed_batch is not None:
            return
        batch = next(samples.batches(1, limit=1))
        try:
            values = before.run(batch.feeds, outputs)
        except InputError:
            return
        if not self._output.fits(output_value(values[self._output.name]), 1):
            self._output = None

    def accuracies(self, samples: Samples) -> tuple[float, float] | None:
        """The shares of right answers, where samples have labels that tell.

        Raises:
            InputError: A label is none of the classes.
        """
        if self._output is None or not self._output.check_labels(samples):
            return None
        first, second = self._right(samples)
        return float(np.mean(first)), float(np.mean(second))

    def drop_interval(self, samples: Samples) -> ConfidenceInterval:
        """An exact interval of the lost accuracy in points, of samples that `accuracies` read."""
        first, second = self._right(samples)
        lost, gained = int(np.sum(first & ~second)), int(np.sum(second & ~first))
        lower, upper = Discordance(len(first), lost, gained).interval(_ERROR)
        return ConfidenceInterval(100 * lower, 100 * upper)

    def _right(self, samples: Samples) -> tuple[np.ndarray, np.ndarray]:
        (first, one), (second, other) = (self._joined(place) for place in (0, 1))
        return one & (first == samples.labels), other & (second == samples.labels)

    @property
    def scores(self) -> str | None:
        """The output with class scores."""
        return self._output.name if self._output is not None and self._output.scores else None

    @property
    def agreement(self) -> float | None:
        """Share of samples with equal answers; None without answers."""
        return None if self._output is None else float(np.mean(self._same()))

    @property
    def agreement_interval(self) -> ConfidenceInterval | None:
        """An exact interval of that share."""
        if self._output is None:
            return None
        same = self._same()
        lower, upper = Discordance(len(same), int(np.sum(~same)), None).interval(_ERROR)
        return ConfidenceInterval(1 - upper, 1 - lower)

    def _same(self) -> np.ndarray:
        (first, one), (second, other) = (self._joined(place) for place in (0, 1))
        same: np.ndarray = (first == second) & one & other
        return same

    def _joined(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        answers, known = zip(*(pair[place] for pair in self._found), strict=True)
        return np.concatenate(answers), np.concatenate(known)


def _metric_change(
    metric: Metric, collected: Sequence[CollectedOutputs], samples: Samples
) -> MetricChange:
    before, after = (metric.value(one.arrays(), samples.labels) for one in collected)
    return MetricChange(
        name=metric.name, samples=samples.count, part="all", before=before, after=after
    )


def measured_latencies(
    before: Session, after: Session, samples: Samples | Sequence[Feed]
) -> tuple[Latency, ...]:
    """Times of a run of both models in turns, one a batch size; arguments as of `evaluate`."""
    if isinstance(samples, Samples):
        batches = (next(samples.batches(size, limit=size)) for size in _LATENCY_BATCHES)
        feeds = {batch.size: batch.feeds for batch in batches}
    else:
        feeds = {_length(feed): dict(feed) for feed in samples[:1]}
    measured = []
    for size, feed in feeds.items():
        seconds = interleaved_latency(before, after, feed)
        measured.append(Latency(batch=size, before=seconds[0], after=seconds[1]))
    return tuple(measured)
