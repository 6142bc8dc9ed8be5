"""Pictures in a folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

# Heights and widths, upright and lying, odd and even.
SHAPES = ((40, 60), (61, 40), (33, 33), (90, 47), (50, 71))


def pixels(number: int, height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8, smooth enough that filters differ by little and still differ."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (6, 6, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def pictures(folder: Path, shapes: Sequence[tuple[int, int]] = SHAPES) -> list[Path]:
    """Files without loss, in the order of their names."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"picture_{number}.png" for number in range(len(shapes))]
    for number, (file, shape) in enumerate(zip(files, shapes, strict=True)):
        Image.fromarray(pixels(number, *shape)).save(file)
    return files
