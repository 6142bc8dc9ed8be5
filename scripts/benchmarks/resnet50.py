"""ResNet-50 calibrated on crops of photographs and judged on those of others.

With floats, and with 8-bit integers. Run `scripts/zoo` first. Of 35 photographs, every third is
judged on, and no crop of it is calibrated on. What is known lies in build/resnet50, so that an
interrupted run takes up where it was.
"""

import resource
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
from machine import machine_line
from photographs import NAMES, crops_of, write_samples
from PIL import Image

from onnx_relusv import Budgets, MeasureOptions, PlanOptions, compare, compress
from onnx_relusv.cli.bars import progress_bars
from onnx_relusv.core.plans import Precision

MODEL = Path("zoo/resnet50.onnx")
PICTURES = Path("zoo/imagenet_pictures.npz")
PHOTOGRAPHS = Path("zoo/skimage/data")
FOLDER = Path("build/resnet50")
# Shares of the bytes, and what is computed with.
RUNS: tuple[tuple[float, Precision], ...] = ((0.6, "keep"), (0.15, "int8"))
CALIBRATION = 256
JUDGED_CROPS = 20
_MEAN = np.array([103.939, 116.779, 123.68], np.float32)
# Linux counts in kibibytes.
_GIGABYTE = 1e9 / 1024


def main() -> None:
    """Compresses and prints the agreement of top-1 on unseen photographs, time and peak memory."""
    if not MODEL.exists() or not PICTURES.exists():
        sys.exit(f"{MODEL} is missing: run scripts/zoo first.")
    FOLDER.mkdir(parents=True, exist_ok=True)
    seen, judged = _samples()
    print(machine_line())
    print("| numbers | bytes left | MACs left | agreement | judged on | minutes | peak memory |")
    print("|---|---|---|---|---|---|---|")
    for size, precision in RUNS:
        _made(size, precision, seen, judged)


def _made(size: float, precision: Precision, seen: Path, judged: Path) -> None:
    """Makes a file, and a line of it; memory is the largest of this run so far."""
    output = FOLDER / f"{precision}.onnx"
    begun = perf_counter()
    with progress_bars() as progress:
        done = compress(
            MODEL,
            output,
            samples=seen,
            planning=PlanOptions(budgets=Budgets(size=size), precision=precision),
            measuring=MeasureOptions(cache=FOLDER / "cache"),
            report=FOLDER / "report",
            force=True,
            progress=progress,
        )
    seconds = perf_counter() - begun
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _GIGABYTE
    found = compare(MODEL, output, judged).evaluation
    print(
        f"| {precision} | {done.after.bytes / done.before.bytes:.4f} "
        f"| {done.after.macs / done.before.macs:.3f} "
        f"| {found.agreement:.3f} | {found.samples} crops | {seconds / 60:.1f} | {memory:.1f} GB |",
        flush=True,
    )


def _samples() -> tuple[Path, Path]:
    """Files of crops to calibrate on, and of others to judge on."""
    rng = np.random.default_rng(0)
    photographs = [Image.open(PHOTOGRAPHS / name).convert("RGB") for name in NAMES]
    with np.load(PICTURES) as arrays:
        for picture in arrays["image"]:
            pixels = picture.transpose(1, 2, 0) + _MEAN
            photographs.append(Image.fromarray(pixels.round().astype(np.uint8)[:, :, ::-1]))
    judged, seen = photographs[::3], [p for at, p in enumerate(photographs) if at % 3]
    counts = np.full(len(seen), CALIBRATION // len(seen))
    counts[: CALIBRATION % len(seen)] += 1
    paths = FOLDER / "seen.npz", FOLDER / "judged.npz"
    for path, images, each in (
        (paths[0], seen, counts.tolist()),
        (paths[1], judged, [JUDGED_CROPS] * len(judged)),
    ):
        crops = [
            (crops_of(image, count, rng, 224, 224) - _MEAN).transpose(0, 3, 1, 2)
            for image, count in zip(images, each, strict=True)
        ]
        write_samples(path, MODEL, crops)
    return paths
