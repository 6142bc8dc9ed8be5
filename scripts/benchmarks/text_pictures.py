"""Pictures with lines of text on photographs and plain grounds, as a text detector takes them.

Every picture is drawn by itself: its ground, how many lines, their words, size, colour and slant.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 320
_LETTERS = list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789&%.,:-")
# Of a picture's lines: how many, and how high they are in pixels.
_LINES, _HEIGHTS = (1, 8), (12, 44)
_SLANT = 12.0


def text_pictures(photographs: Sequence[Path], count: int, seed: int) -> np.ndarray:
    """Pictures with text.

    Args:
        photographs: Grounds; every other picture has a plain one.
        count: How many pictures.
        seed: Draws them.

    Returns:
        (count, 3, SIDE, SIDE) float32 from -1 to 1, blue, green and red.
    """
    rng = np.random.default_rng(seed)
    grounds = [Image.open(path).convert("RGB") for path in photographs]
    found = []
    for place in range(count):
        image = _ground(grounds, rng) if place % 2 else _plain(rng)
        for _ in range(int(rng.integers(*_LINES))):
            _write(image, rng)
        pixels = np.asarray(image, np.float32)[:, :, ::-1].transpose(2, 0, 1)
        found.append(pixels / np.float32(127.5) - 1)
    return np.stack(found)


def _ground(grounds: Sequence[Image.Image], rng: np.random.Generator) -> Image.Image:
    image = grounds[int(rng.integers(len(grounds)))]
    length = int(rng.integers(min(image.size) // 2, min(image.size) + 1))
    left = int(rng.integers(0, image.width - length + 1))
    top = int(rng.integers(0, image.height - length + 1))
    box = (left, top, left + length, top + length)
    return image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)


def _plain(rng: np.random.Generator) -> Image.Image:
    """One colour that turns into another from top to bottom, with some noise."""
    ends = rng.uniform(0, 255, (2, 1, 3))
    share = np.linspace(0, 1, SIDE)[:, None, None]
    pixels = (1 - share) * ends[0] + share * ends[1] + rng.normal(0, 4, (SIDE, SIDE, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _write(image: Image.Image, rng: np.random.Generator) -> None:
    """One line of text, somewhere, turned a little."""
    words = ["".join(rng.choice(_LETTERS, rng.integers(2, 9))) for _ in range(rng.integers(1, 5))]
    font = ImageFont.load_default(float(rng.integers(*_HEIGHTS)))
    left, top, right, bottom = font.getbbox(" ".join(words))
    mask = Image.new("L", (round(right - left) + 4, round(bottom - top) + 4))
    ImageDraw.Draw(mask).text((2 - left, 2 - top), " ".join(words), fill=255, font=font)
    slant = float(rng.uniform(-_SLANT, _SLANT)) * (rng.random() < 0.5)
    mask = mask.rotate(slant, Image.Resampling.BILINEAR, expand=True)
    place = rng.integers(-20, SIDE - 40, 2)
    colour = tuple(int(value) for value in rng.integers(0, 256, 3))
    image.paste(colour, tuple(int(value) for value in place), mask)
