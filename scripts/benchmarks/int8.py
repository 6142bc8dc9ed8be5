"""What 8-bit integers lose, planned with ranks and units, beside onnxruntime's own tool.

Every row is repeated with three draws of 5,000 training images, which are all that a run sees; the
test images are looked at once, by the finished file. In the same run and on the same images:
onnxruntime's static quantisation of the original, with each of its ways to find ranges, and of our
files of floats, which is what a user had to do before.
"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from draws import draws_of
from machine import machine_line
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from outcomes import Outcome, Way, judged, model_path, outcome, test_images

from onnx_relusv import MeasureOptions, PlanOptions, compare, compress
from onnx_relusv.core.errors import InputError
from onnx_relusv.core.plans import Budgets

# Of a draw, those that onnxruntime's tool is given: more take gigabytes of it.
_CALIBRATED = 500
# Of the outcomes of a row.
_MEANS = ("bytes", "change")


@dataclass(frozen=True)
class Row:
    """A model at a size, and the points that it should lose at most, on average."""

    model: str
    size: float | None
    wanted: float | None = None


ROWS = (
    Row("fashion_vgg", None),
    Row("fashion_vgg", 1 / 16, 0.10),
    Row("fashion_vgg", 1 / 32, 0.22),
    Row("fashion_vgg", 1 / 64, 0.50),
    Row("fashion_resnet", None),
    Row("fashion_resnet", 1 / 16, 0.08),
    Row("fashion_resnet", 1 / 32, 0.35),
    Row("fashion_mlp", None),
    Row("fashion_mlp", 1 / 32, 0.13),
    Row("fashion_mlp", 1 / 64, 0.30),
    Row("lenet_300_100", None),
    Row("lenet_300_100", 1 / 16, 0.35),
    Row("mnist_cnn", 1 / 32, 0.08),
    Row("cifar10_cnn", 1 / 8, 0.25),
    Row("cifar10_cnn", 1 / 16, 0.6),
)
METHODS = {
    "min-max": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
# Our files of floats of these shares, of which the tool makes integers.
CHAINS = {"fashion_vgg": (0.25, 0.125, 0.0625), "fashion_resnet": (0.25,), "fashion_mlp": (0.125,)}


def main() -> None:
    """Makes every file and compares on the test images."""
    print(machine_line())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print("| model | `--size` | bytes left | accuracy | drop, mean | worst | change | wanted |")
        print("|---|---|---|---|---|---|---|---|")
        for row in ROWS:
            try:
                draws = draws_of(row.model, folder)
            except InputError as error:
                print(f"| {row.model} | {error} | | | | | | |")
                continue
            way = Way("auto", size=row.size, precision="int8")
            found = [outcome(row.model, way, draw, folder) for draw in draws]
            print(_line(row, found), flush=True)
        print("| model | onnxruntime's tool | bytes left | drop, mean | worst | change |")
        print("|---|---|---|---|---|---|")
        for model in dict.fromkeys(row.model for row in ROWS):
            _by_tool(model, folder)
        print("| model | `--size` | batch | time over that of the original |")
        print("|---|---|---|---|")
        for row in ROWS:
            if row.model == "fashion_vgg":
                _times(row, folder)


def _line(row: Row, found: list[Outcome]) -> str:
    drops = [one.drop for one in found]
    before, after = (
        100 * float(np.mean([getattr(one, name).mean() for one in found]))
        for name in ("before", "after")
    )
    size = "numbers alone" if row.size is None else f"{row.size:.4g}"
    wanted = "" if row.wanted is None else f"{row.wanted:g}"
    return (
        f"| {row.model} | {size} | {np.mean([one.bytes for one in found]):.4f} "
        f"| {before:.2f}% -> {after:.2f}% | {np.mean(drops):.2f} | {max(drops):.2f} "
        f"| {np.mean([one.change for one in found]):.3f} | {wanted} |"
    )


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Batches of inputs, one after the other."""

    def __init__(self, batches: Iterator[Mapping[str, np.ndarray]]) -> None:
        self._batches = batches

    def get_next(self) -> Mapping[str, np.ndarray] | None:
        """The next batch, or None."""
        return next(self._batches, None)


def _some_of(draw: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """Some of a draw's images, in batches."""
    with np.load(draw) as arrays:
        (name,) = arrays.files
        images = arrays[name]
    places = np.linspace(0, len(images) - 1, _CALIBRATED).round().astype(int)
    # A draw has bytes, and the networks take floats.
    for part in np.array_split(images[places].astype(np.float32), 10):
        yield {name: part}


def quantized(
    model: Path,
    batches: Iterator[Mapping[str, np.ndarray]],
    method: CalibrationMethod,
    output: Path,
    *,
    per_channel: bool = True,
) -> Path:
    """A model as onnxruntime's static quantisation makes it, with unsigned integers.

    Args:
        model: Of floats.
        batches: Of its inputs, from which ranges are found.
        method: How they are found.
        output: The file that is made.
        per_channel: Whether every channel of a weight has a scale.
    """
    prepared = output.with_suffix(".prepared.onnx")
    # As its documentation advises: normalisations are folded first.
    quant_pre_process(model, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        output,
        _Reader(batches),
        quant_format=QuantFormat.QDQ,
        per_channel=per_channel,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=method,
    )
    return output


def _by_tool(model: str, folder: Path) -> None:
    try:
        draws = draws_of(model, folder)
    except InputError:
        return
    for name, method in METHODS.items():
        what, tool = f"of the original, {name}", folder / "tool.onnx"
        try:
            found = [
                judged(model, quantized(model_path(model), _some_of(draw), method, tool), 1.0)
                for draw in draws
            ]
        except InputError as error:
            print(f"| {model} | {what} | {error} | | | |", flush=True)
            continue
        print(_tool_line(model, what, found), flush=True)
    for size in CHAINS.get(model, ()):
        found = list(_chained(model, size, draws, folder))
        print(_tool_line(model, f"of our floats at {size:.4g}, min-max", found), flush=True)


def _chained(model: str, size: float, draws: list[Path], folder: Path) -> Iterator[Outcome]:
    for draw in draws:
        done = compress(
            model_path(model),
            folder / "floats.onnx",
            samples=draw,
            planning=PlanOptions(budgets=Budgets(size=size)),
            measuring=MeasureOptions(cache=folder / "cache"),
            force=True,
        )
        output = folder / "tool.onnx"
        made = quantized(done.after.path, _some_of(draw), METHODS["min-max"], output)
        yield judged(model, made, done.after.macs / done.before.macs)


def _tool_line(model: str, what: str, found: list[Outcome]) -> str:
    drops = [one.drop for one in found]
    bytes_, change = (float(np.mean([getattr(one, name) for one in found])) for name in _MEANS)
    return (
        f"| {model} | {what} | {bytes_:.4f} | {np.mean(drops):.2f} | {max(drops):.2f} "
        f"| {change:.3f} |"
    )


def _times(row: Row, folder: Path) -> None:
    """Medians in turns, as `compare` takes them."""
    draw, output = draws_of(row.model, folder)[0], folder / "timed.onnx"
    compress(
        model_path(row.model),
        output,
        samples=draw,
        planning=PlanOptions(precision="int8", budgets=Budgets(size=row.size)),
        measuring=MeasureOptions(cache=folder / "cache"),
        force=True,
    )
    found = compare(model_path(row.model), output, test_images(row.model)).evaluation
    size = "numbers alone" if row.size is None else f"{row.size:.4g}"
    for one in found.latencies:
        print(f"| {row.model} | {size} | {one.batch} | {one.after / one.before:.2f} |", flush=True)
