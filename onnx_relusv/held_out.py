"""Counts, on samples that were set aside, the answers that a smaller model changes."""

from pathlib import Path

import numpy as np

from onnx_relusv.certify import Discordance
from onnx_relusv.class_scores import class_scores, real_rows
from onnx_relusv.opened import Opened
from onnx_relusv.records import Runnable
from onnx_relusv.runtime.session import Session
from onnx_relusv.samples import Samples

_BATCH = 64
_NO_ANSWER = -1


class HeldOut:
    """Samples with the original's answers to them.

    Args:
        opened: The original.
        samples: A part of its samples.
        scores: Its output with class scores.
    """

    def __init__(self, opened: Opened, samples: Samples, scores: str) -> None:
        self._provider = opened.provider
        self._samples = samples
        self._scores = scores
        self._before = self._answers(opened.session())

    def discordance(self, smaller: Runnable | Path) -> Discordance:
        """Runs a smaller model, or its file, and counts where it differs."""
        before, after = self._before, self._answers(Session(smaller, self._provider, alone=False))
        labels = self._samples.labels
        if labels is None:
            return Discordance(len(before), int(np.sum(before != after)), None)
        right, still = before == labels, after == labels
        return Discordance(
            len(before), int(np.sum(right & ~still)), gained=int(np.sum(still & ~right))
        )

    def _answers(self, session: Session) -> np.ndarray:
        """(samples,) int64: top-1, or no class at all where scores are not numbers."""
        found = []
        for batch in self._samples.batches(_BATCH):
            values = session.run(batch.feeds, [self._scores])
            scores = np.asarray(
                real_rows(values, batch.count, batch.size)[self._scores], np.float64
            )
            # argmax would name the first NaN, which could pass for a right answer.
            known = ~np.isnan(scores).any(axis=1)
            found.append(np.where(known, scores.argmax(axis=1), _NO_ANSWER))
        return np.concatenate(found)


def scores_of(opened: Opened, samples: Samples) -> tuple[str, int] | None:
    """The original's output with class scores, and how many classes; None without one."""
    batch = next(iter(samples.batches(_BATCH, limit=_BATCH)))
    values = real_rows(opened.session().run(batch.feeds), batch.count, batch.size)
    name = class_scores(values, batch.count)
    return None if name is None else (name, values[name].shape[1])
