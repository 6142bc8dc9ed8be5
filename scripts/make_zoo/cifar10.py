"""Reads CIFAR-10 from pictures whose every row of pixels is one image."""

import json
from pathlib import Path

import numpy as np
from images import Images
from PIL import Image

SIDE = 32
_BATCHES = 5


def read_training(folder: Path) -> Images:
    """Reads the 50,000 training images; see `read_test`."""
    paths = [folder / f"data_batch_{number}.png" for number in range(1, _BATCHES + 1)]
    image = np.concatenate([_read_rows(path) for path in paths])
    return Images(image, _read_labels(folder / "train_lables.json"))


def read_test(folder: Path) -> Images:
    """Reads the 10,000 test images.

    Returns:
        (images, 3, 32, 32) uint8, red, green and blue, and (images,) uint8, the classes.
    """
    image = _read_rows(folder / "test_batch.png")
    return Images(image, _read_labels(folder / "test_lables.json"))


def _read_rows(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    return pixels.reshape(-1, SIDE, SIDE, 3).transpose(0, 3, 1, 2)


def _read_labels(path: Path) -> np.ndarray:
    return np.array(json.loads(path.read_text(encoding="utf-8")), np.uint8)
