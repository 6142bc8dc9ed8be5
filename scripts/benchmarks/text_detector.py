"""A real text detector in fewer bits: calibrated on rendered pictures, judged on others.

Run `scripts/zoo` first. Pictures have lines of text on photographs and plain grounds; those that
are judged on have other lines, and the photographs behind them are others too. The detector's
answer is a map, and text is where it is above 0.3: judged is how far the maps of file and original
agree on that, as the intersection over the union of both.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from int8 import METHODS, quantized
from machine import machine_line
from onnxruntime.transformers.float16 import convert_float_to_float16
from photographs import NAMES
from PIL import Image, ImageDraw, ImageFont

from onnx_relusv import Budgets, PlanOptions, compress
from onnx_relusv.core.plans import Precision
from onnx_relusv.runtime.session import CPU, Session

MODEL = Path("zoo/rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx")
PHOTOGRAPHS = Path("zoo/skimage/data")
CALIBRATED, JUDGED = 120, 200
# What the detector is computed with, and the share of its bytes.
RUNS: tuple[tuple[Precision, float | None], ...] = (("int8", None), ("int8", 0.25), ("fp16", None))
_IS_TEXT = 0.3
# Of pictures that are judged, how many are run at a time.
_BATCH = 10
SIDE = 320
_LETTERS = list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789&%.,:-")
# Of a picture's lines: how many, and how high they are in pixels.
_LINES, _HEIGHTS = (1, 8), (12, 44)
_SLANT = 12.0


def main() -> None:
    """Makes every file and prints how far its maps agree with the original's."""
    if not MODEL.exists():
        sys.exit(f"{MODEL} is missing: run scripts/zoo first.")
    photographs = [PHOTOGRAPHS / name for name in NAMES]
    seen = text_pictures([p for at, p in enumerate(photographs) if at % 3], CALIBRATED, seed=1)
    judged = text_pictures(photographs[::3], JUDGED, seed=2)
    (entry,) = onnx.load(MODEL).graph.input
    right = _maps(MODEL, entry.name, judged)
    print(machine_line())
    print("| PP-OCRv4 detector | bytes left | agreement of the maps, IoU | mean of pictures |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "seen.npz", **{entry.name: seen})
        for what, file in _files(folder, entry.name, seen):
            found = _maps(file, entry.name, judged)
            left = file.stat().st_size / MODEL.stat().st_size
            each = [_agreement(*pair) for pair in zip(right, found, strict=True)]
            print(
                f"| {what} | {left:.4f} | {_agreement(right, found):.4f} | {np.mean(each):.4f} |",
                flush=True,
            )


def _files(folder: Path, entry: str, seen: np.ndarray) -> Iterator[tuple[str, Path]]:
    for precision, size in RUNS:
        output = folder / "small.onnx"
        compress(
            MODEL,
            output,
            samples=folder / "seen.npz",
            planning=PlanOptions(precision=precision, budgets=Budgets(size=size)),
            force=True,
        )
        words = "" if size is None else f" --size {size:g}"
        yield f"`--precision {precision}{words}`", output
    # Its other ways to find ranges hold every tensor of every picture in memory, and with scales of
    # channels it makes a file of this model that onnxruntime refuses.
    batches = ({entry: part} for part in np.array_split(seen, CALIBRATED))
    tool = quantized(MODEL, batches, METHODS["min-max"], folder / "tool.onnx", per_channel=False)
    yield "onnxruntime's tool, min-max", tool
    halved = convert_float_to_float16(onnx.load(MODEL), keep_io_types=True)
    onnx.save(halved, folder / "halved.onnx")
    yield "onnxruntime's converter to half precision", folder / "halved.onnx"


def _maps(file: Path, entry: str, pictures: np.ndarray) -> np.ndarray:
    """(pictures, 1, SIDE, SIDE) bool: where a file sees text."""
    session = Session(file, CPU)
    parts = (pictures[at : at + _BATCH] for at in range(0, len(pictures), _BATCH))
    answers = (next(iter(session.run({entry: part}).values())) for part in parts)
    return np.concatenate([answer > _IS_TEXT for answer in answers])


def _agreement(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union; 1 where there is nothing on either side."""
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 1.0


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
