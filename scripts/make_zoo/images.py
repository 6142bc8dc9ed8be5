"""Labelled images: a seeded part of them, as samples, and how many a model gets right."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from classifier import INPUT_NAME

from onnx_relusv.runtime.session import CPU, Session

# How many images a model sees at a time.
_BATCH = 100


@dataclass(frozen=True, eq=False)
class Images:
    """Images as a network takes them.

    Attributes:
        image: (count, channels, rows, columns), uint8 or float32.
        labels: (count,) integers, the classes.
    """

    image: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        if len(self.image) != len(self.labels):
            raise ValueError(f"{len(self.image)} images, but {len(self.labels)} labels")

    def drawn(self, count: int, seed: int) -> "Images":
        """`count` of them, drawn without replacement."""
        chosen = np.random.default_rng(seed).choice(len(self.labels), count, replace=False)
        return Images(self.image[chosen], self.labels[chosen])

    def write(self, path: Path) -> None:
        """Writes samples for `onnx-relusv`, an .npz."""
        # Samples are streamed, which wants each image's values side by side.
        image = np.ascontiguousarray(self.image)
        np.savez(path, **{INPUT_NAME: image, "labels": self.labels})


def count_right(model: Path, images: Images) -> int:
    """How many images the model's highest score names rightly."""
    session, right = Session(model, CPU), 0
    for start in range(0, len(images.labels), _BATCH):
        batch = images.image[start : start + _BATCH].astype(np.float32)
        (scores,) = session.run({INPUT_NAME: batch}).values()
        labels = images.labels[start : start + _BATCH]
        right += int(np.sum(scores.argmax(axis=1) == labels))
    return right
