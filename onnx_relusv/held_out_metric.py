"""A metric of the original and of smaller models, on samples that were set aside."""

import numpy as np

from onnx_relusv.collected import collected, picked
from onnx_relusv.fitted import FittedPlan
from onnx_relusv.graph.expose import runnable
from onnx_relusv.jackknife import MetricLoss, groups_of, standard_error
from onnx_relusv.metric import Metric
from onnx_relusv.metric_results import MetricChange
from onnx_relusv.opened import Opened
from onnx_relusv.records import Floats, Runnable
from onnx_relusv.rewriting import rewritten
from onnx_relusv.runtime.session import Session
from onnx_relusv.samples import Samples

_STREAM = 11


class HeldOutMetric:
    """Samples with the original's metric, on all of them and without each group of them.

    Args:
        opened: The original.
        samples: A part of its samples, two at least.
        metric: What its answers are worth.

    Raises:
        InputError: The metric fails, or an output's first axis is not that of the samples.
    """

    def __init__(self, opened: Opened, samples: Samples, metric: Metric) -> None:
        self._provider = opened.provider
        self._names = opened.model.output_names
        self._samples = samples
        self._metric = metric
        rng = np.random.default_rng([opened.options.seed, _STREAM])
        self._group = groups_of(samples.count, rng)
        self._before = self._values(opened.session())

    def loss(self, smaller: Runnable) -> MetricLoss:
        """Runs a smaller model.

        Raises:
            InputError: The metric fails.
        """
        before, after = self._before, self._values(Session(smaller, self._provider, alone=False))
        lost, sizes = before - after, np.bincount(self._group)
        return MetricLoss(
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


def original_metric(opened: Opened) -> float | None:
    """The original's metric on the samples for choosing; None where there is no metric.

    Raises:
        InputError: The metric fails, or an output's first axis is not that of the samples.
    """
    if opened.metric is None or opened.split is None or opened.split.select is None:
        return None
    samples = opened.split.select
    outputs = collected(opened.session(), samples, opened.model.output_names)
    return opened.metric.value(outputs, samples.labels)


def metric_change(opened: Opened, fitted: FittedPlan) -> MetricChange | None:
    """The metric before and after on the samples for choosing; None where there is no metric.

    Raises:
        InputError: The metric fails.
    """
    before = original_metric(opened)
    if before is None or opened.metric is None:
        return None
    assert opened.split is not None  # or there would be no value before
    assert opened.split.select is not None
    samples = opened.split.select
    smaller = Session(
        runnable(opened.model, rewritten(opened, fitted)), opened.provider, alone=False
    )
    outputs = collected(smaller, samples, opened.model.output_names)
    return MetricChange(
        name=opened.metric.name,
        samples=samples.count,
        part="choosing",
        before=before,
        after=opened.metric.value(outputs, samples.labels),
    )
