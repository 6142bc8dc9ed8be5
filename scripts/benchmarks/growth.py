"""How time and memory of `compress` grow with a model's parameters and with its samples.

Networks of Gemms of one width, as of `dense`: with 2 to 128 layers and as many samples, and of 4
layers with 512 to 32,768 samples; either is a factor of 64. The time is that of all cores together,
which other work on the machine changes least. Beside the peak memory stands its bound: the model,
its largest block and `--memory`.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from dense import SIZE, Spent, compressed, made
from machine import machine_line

from onnx_relusv import MeasureOptions

WIDTH, SAMPLES, LAYERS = 256, 2048, 4
DEPTHS, COUNTS = (2, 8, 32, 128), (512, 2048, 8192, 32_768)


def main() -> None:
    """Prints a line for every network, beside the smallest one of its kind."""
    print(machine_line())
    print("| layers | parameters | samples | s of CPU | for each, over the first | peak | bound |")
    print("|---|---|---|---|---|---|---|")
    for cases in ([(depth, SAMPLES) for depth in DEPTHS], [(LAYERS, count) for count in COUNTS]):
        for line in _lines(cases):
            print(line, flush=True)


def _lines(cases: list[tuple[int, int]]) -> Iterator[str]:
    first = None
    for layers, count in cases:
        found, size = _spent(layers, count)
        # Of the layers or the samples, whichever differ.
        each = found.processor / (layers * count)
        first = first or each
        bound = size + 4 * WIDTH**2 + (MeasureOptions().memory << 20)
        code = "" if found.code == 0 else f" (exit {found.code})"
        yield (
            f"| {layers} | {layers * WIDTH * (WIDTH + 1):,} | {count:,} "
            f"| {found.processor:.0f}{code} | {each / first:.2f} "
            f"| {found.peak / 1e9:.2f} GB | {bound / 1e9:.2f} GB |"
        )


def _spent(layers: int, count: int) -> tuple[Spent, int]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model, samples, _ = made(folder, (WIDTH,) * (layers + 1), count)
        return compressed(model, folder / "small.onnx", samples, SIZE), model.stat().st_size
