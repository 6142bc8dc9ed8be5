"""Compares two models on samples: agreement, accuracy, error of every output, latency."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnx_relusv.class_scores import check_labels, class_scores, real_rows
from onnx_relusv.collected import CollectedOutputs
from onnx_relusv.metric import Metric
from onnx_relusv.metric_results import MetricChange
from onnx_relusv.outcomes import Latency
from onnx_relusv.records import Floats
from onnx_relusv.results import Evaluation
from onnx_relusv.runtime.latency import interleaved_latency
from onnx_relusv.runtime.session import Session
from onnx_relusv.samples import Samples

_BATCH = 64
_LATENCY_BATCHES = (1, 32)


def evaluate(
    before: Session,
    after: Session,
    samples: Samples,
    outputs: tuple[str, ...],
    *,
    advance: Callable[[int], None],
    metric: Metric | None = None,
) -> Evaluation:
    """Runs both models on all samples.

    Top-1 is taken from the first output of shape (samples, classes) with two classes or more.

    Args:
        before: The original.
        after: The smaller model.
        samples: The samples, with or without labels.
        outputs: The outputs that both models have.
        advance: Told after every batch how many samples it had.
        metric: If given, what the labels are for in place of the accuracy.

    Raises:
        InputError: Labels are out of the range of the classes, or the metric fails.
    """
    sums = {name: _Difference() for name in outputs}
    scores: str | None = None
    answers: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    labels = samples.labels if metric is None else None
    collected = () if metric is None else (CollectedOutputs(outputs), CollectedOutputs(outputs))
    for batch in samples.batches(_BATCH):
        ran = before.run(batch.feeds, outputs), after.run(batch.feeds, outputs)
        for one, values in zip(collected, ran, strict=False):
            one.add(values, batch.count, batch.size)
        first, second = (real_rows(values, batch.count, batch.size) for values in ran)
        for name, difference in sums.items():
            difference.add(first[name], second[name])
        scores = scores or class_scores(first, batch.count)
        if scores is not None:
            answers[0].append(first[scores].argmax(axis=1))
            answers[1].append(second[scores].argmax(axis=1))
            if labels is not None:
                check_labels(samples, first[scores].shape[1])
        advance(batch.count)
    top = None if scores is None else tuple(np.concatenate(part) for part in answers)
    return Evaluation(
        samples=samples.count,
        agreement=None if top is None else float(np.mean(top[0] == top[1])),
        accuracy_before=None if top is None or labels is None else _share(top[0], labels),
        accuracy_after=None if top is None or labels is None else _share(top[1], labels),
        relative_error={name: difference.relative for name, difference in sums.items()},
        mean_difference={name: difference.mean for name, difference in sums.items()},
        largest_difference={name: difference.largest for name, difference in sums.items()},
        latencies=tuple(_latencies(before, after, samples)),
        provider=before.provider,
        metric=None if metric is None else _metric_change(metric, collected, samples),
    )


def _metric_change(
    metric: Metric, collected: Sequence[CollectedOutputs], samples: Samples
) -> MetricChange:
    before, after = (metric.value(one.arrays(), samples.labels) for one in collected)
    return MetricChange(
        name=metric.name, samples=samples.count, part="all", before=before, after=after
    )


@dataclass
class _Difference:
    """Running sums over batches of how far two outputs are apart."""

    gap: float = 0.0
    norm: float = 0.0
    absolute: float = 0.0
    count: int = 0
    largest: float = field(default=0.0)

    def add(self, first: np.ndarray, second: np.ndarray) -> None:
        exact = first.astype(np.float64)
        gap: Floats = np.abs(second.astype(np.float64) - exact)
        self.gap += float(np.sum(gap**2))
        self.norm += float(np.sum(exact**2))
        self.absolute += float(np.sum(gap))
        self.count += gap.size
        self.largest = max(self.largest, float(gap.max(initial=0.0)))

    @property
    def relative(self) -> float:
        """L2 of the difference over L2 of the first; 0 where both are zero."""
        if self.norm == 0:
            return 0.0 if self.gap == 0 else float("inf")
        return float(np.sqrt(self.gap / self.norm))

    @property
    def mean(self) -> float:
        """Mean absolute difference."""
        return self.absolute / max(self.count, 1)


def _share(answers: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(answers == labels))


def _latencies(before: Session, after: Session, samples: Samples) -> list[Latency]:
    measured: dict[int, Latency] = {}
    for wanted in _LATENCY_BATCHES:
        batch = next(iter(samples.batches(wanted, limit=wanted)))
        if batch.size not in measured:
            seconds = interleaved_latency(before, after, batch.feeds)
            measured[batch.size] = Latency(batch=batch.size, before=seconds[0], after=seconds[1])
    return list(measured.values())
