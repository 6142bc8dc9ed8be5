"""How sure a model is of its answers: the largest class probability, and the entropy of all.

Whether an output holds probabilities or logits is decided when all of it was seen: it holds
probabilities if every row is non-negative and sums to 1 within 1e-3. Until then both readings of
every sample are kept, and no scores. An output of logarithms of probabilities reads rightly as
logits, whose softmax they are.
"""

from dataclasses import dataclass

import numpy as np
import scipy.special

from onnx_relusv.records import Floats

_SUM_TOLERANCE = 1e-3


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
