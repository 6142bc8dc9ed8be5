"""Random crops of photographs, of which some are calibrated on and others judged on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

NAMES = (
    "astronaut.png", "brick.png", "camera.png", "chelsea.png", "clock_motion.png", "coffee.png",
    "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png",
    "motorcycle_left.png", "retina.jpg", "rocket.jpg",
)  # fmt: skip


def crops_of(
    image: Image.Image, count: int, rng: np.random.Generator, resized: int, side: int
) -> np.ndarray:
    """Random crops of at least half the side, mirrored at random.

    Args:
        image: The photograph.
        count: How many crops.
        rng: Draws them.
        resized: The side that a crop is resized to.
        side: The side of the middle of it that is taken.

    Returns:
        (count, side, side, 3) float32, blue, green and red from 0 to 255.
    """
    crops = []
    edge = (resized - side) // 2
    for _ in range(count):
        length = int(rng.integers(min(image.size) // 2, min(image.size) + 1))
        left = int(rng.integers(0, image.width - length + 1))
        top = int(rng.integers(0, image.height - length + 1))
        box = (left, top, left + length, top + length)
        small = image.resize((resized, resized), Image.Resampling.BILINEAR, box=box)
        pixels = np.asarray(small, np.float32)[edge : edge + side, edge : edge + side, ::-1]
        crops.append(pixels[:, ::-1] if rng.integers(2) else pixels)
    return np.stack(crops)


def write_samples(path: Path, model: Path, crops: Sequence[np.ndarray]) -> None:
    """Crops as samples of a model with one input; those of one photograph are a group.

    Args:
        path: The .npz.
        model: The ONNX file.
        crops: By photograph, as the model takes them.
    """
    (entry,) = onnx.load(model, load_external_data=False).graph.input
    groups = np.repeat(np.arange(len(crops)), [len(each) for each in crops])
    np.savez(path, **{entry.name: np.concatenate(crops), "groups": groups})
