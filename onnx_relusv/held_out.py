"""Counts, on samples that were set aside, the answers that a smaller model changes."""

from pathlib import Path

import numpy as np

from onnx_relusv.certify import Discordance
from onnx_relusv.class_scores import AnswerOutput, answer_output
from onnx_relusv.errors import InputError
from onnx_relusv.opened import Opened
from onnx_relusv.output_values import output_value, real_part
from onnx_relusv.records import Runnable
from onnx_relusv.runtime.session import Session
from onnx_relusv.samples import Samples

_BATCH = 64


class HeldOut:
    """Samples with the original's answers to them.

    Args:
        opened: The original.
        samples: A part of its samples.
        output: Its output with answers, class scores or labels, one a sample.
    """

    def __init__(self, opened: Opened, samples: Samples, output: str) -> None:
        self._provider = opened.provider
        self._samples = samples
        self._output = output
        self._before = self._answers(opened.session())

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
        for batch in self._samples.batches(_BATCH):
            ran = session.run(batch.feeds, [self._output])
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


def answers_output(opened: Opened, samples: Samples) -> AnswerOutput | None:
    """The original's output with answers, one a sample; None without one."""
    batch = next(iter(samples.batches(_BATCH, limit=_BATCH)))
    values = opened.session().run(batch.feeds)
    read = {
        name: real_part(output_value(value), batch.count, batch.size)
        for name, value in values.items()
    }
    return answer_output(read, batch.count)
