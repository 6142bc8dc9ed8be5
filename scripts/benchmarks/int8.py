"""What 8-bit integers lose, planned with ranks and units, beside onnxruntime's own tool.

Every row is repeated with three draws of 5,000 training images, which are all that a run sees; the
test images are looked at once, by the finished file. In the same run and on the same images:
onnxruntime's static quantisation of the original, with each of its ways to find ranges, and of our
files of floats, which is what a user had to do before; its dynamic quantisation; and that of
Neural Compressor.
"""

import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path

import numpy as np
import onnx
from draws import draws_of
from machine import machine_line
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from outcomes import Outcome, Way, judged, model_path, outcome, test_images

from onnx_relusv import MeasureOptions, PlanOptions, compress
from onnx_relusv.core.errors import InputError
from onnx_relusv.core.plans import Budgets
from onnx_relusv.runtime.latency import interleaved_latency
from onnx_relusv.runtime.session import CPU, Session

# Of a draw, those that onnxruntime's tool is given: more take gigabytes of it.
_CALIBRATED = 500
_LARGEST_BATCH = 32
_NEURAL_COMPRESSOR = Path(".venv-peer-neural-compressor/bin/python")
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
        print("| model | by others | bytes left | drop, mean | worst | change |")
        print("|---|---|---|---|---|---|")
        for model in dict.fromkeys(row.model for row in ROWS):
            _by_others(model, folder)
        print(
            "| model | drop as run | by elementary operators | change as run "
            "| by elementary operators |"
        )
        print("|---|---|---|---|---|")
        for model in dict.fromkeys(row.model for row in ROWS):
            _as_run_and_exact(model, folder)
        print("| `--size` | threads | batch | time over that of the original | of numbers alone |")
        print("|---|---|---|---|---|")
        _times("fashion_vgg", folder)


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
    activation_type: QuantType = QuantType.QUInt8,
) -> Path:
    """A model as onnxruntime's static quantisation makes it.

    Args:
        model: Of floats.
        batches: Of its inputs, from which ranges are found.
        method: How they are found.
        output: The file that is made.
        per_channel: Whether every channel of a weight has a scale.
        activation_type: What tensors become; weights are signed.
    """
    prepared = output.with_suffix(".prepared.onnx")
    # As its documentation advises: normalisations are folded first.
    quant_pre_process(model, prepared, skip_symbolic_shape=True)
    symmetric = activation_type == QuantType.QInt8
    # It prints how it gets on.
    with redirect_stdout(StringIO()):
        quantize_static(
            prepared,
            output,
            _Reader(batches),
            quant_format=QuantFormat.QDQ,
            per_channel=per_channel,
            activation_type=activation_type,
            weight_type=QuantType.QInt8,
            calibrate_method=method,
            extra_options={"ActivationSymmetric": symmetric},
        )
    return output


def _static(name: str, model: Path, draw: Path, output: Path) -> Path:
    return quantized(model, _some_of(draw), METHODS[name], output)


def _symmetric(model: Path, draw: Path, output: Path) -> Path:
    return quantized(
        model,
        _some_of(draw),
        METHODS["min-max"],
        output,
        per_channel=False,
        activation_type=QuantType.QInt8,
    )


def _dynamic(model: Path, draw: Path, output: Path) -> Path:
    quantize_dynamic(model, output, weight_type=QuantType.QInt8)
    return output


def _neural_compressor(model: Path, draw: Path, output: Path) -> Path:
    """In an environment of its own."""
    if not _NEURAL_COMPRESSOR.exists():
        raise InputError(f"{_NEURAL_COMPRESSOR} is not there: scripts/bench int8 makes it")
    images = output.with_suffix(".npz")
    parts = list(_some_of(draw))
    np.savez(images, **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    script = "scripts/peers/neural_compressor.py"
    parted = output.with_suffix(".parted.onnx")
    subprocess.run(
        [_NEURAL_COMPRESSOR, script, model, images, parted], check=True, capture_output=True
    )
    # It puts weights into a file of their own.
    onnx.save(onnx.load(parted), output)
    return output


# Each told the original, a draw and where to write.
OTHERS: dict[str, Callable[[Path, Path, Path], Path]] = {
    **{f"onnxruntime, static, {name}": partial(_static, name) for name in METHODS},
    "onnxruntime, static, signed, min-max, one scale a tensor": _symmetric,
    "onnxruntime, dynamic": _dynamic,
    "Neural Compressor, static, min-max": _neural_compressor,
}


def _by_others(model: str, folder: Path) -> None:
    try:
        draws = draws_of(model, folder)
    except InputError:
        return
    for what, make in OTHERS.items():
        try:
            found = [
                judged(model, make(model_path(model), draw, folder / "other.onnx"), 1.0)
                for draw in draws
            ]
        except (InputError, subprocess.CalledProcessError) as error:
            print(f"| {model} | {what} | {error} | | | |", flush=True)
            continue
        print(_other_line(model, what, found), flush=True)
    for size in CHAINS.get(model, ()):
        found = list(_chained(model, size, draws, folder))
        what = f"our floats at {size:.4g}, then onnxruntime, static, min-max"
        print(_other_line(model, what, found), flush=True)


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
        output = folder / "other.onnx"
        made = quantized(done.after.path, _some_of(draw), METHODS["min-max"], output)
        yield judged(model, made, done.after.macs / done.before.macs)


def _other_line(model: str, what: str, found: list[Outcome]) -> str:
    drops = [one.drop for one in found]
    bytes_, change = (float(np.mean([getattr(one, name) for one in found])) for name in _MEANS)
    return (
        f"| {model} | {what} | {bytes_:.4f} | {np.mean(drops):.2f} | {max(drops):.2f} "
        f"| {change:.3f} |"
    )


def _as_run_and_exact(model: str, folder: Path) -> None:
    """What onnxruntime's tool writes, on this processor's integer kernels and without them.

    Without optimisation, onnxruntime computes every node by itself, in floats between integers, as
    a processor does that adds products of integers in 32 bits.
    """
    try:
        draw = draws_of(model, folder)[0]
    except InputError:
        return
    made = _static("min-max", model_path(model), draw, folder / "other.onnx")
    before, labels = _answers(model_path(model), model)
    figures = []
    for optimized in (True, False):
        after, _ = _answers(made, model, optimized=optimized)
        right = [100 * np.mean(one.argmax(axis=1) == labels) for one in (before, after)]
        figures.append((right[0] - right[1], np.linalg.norm(after - before)))
    whole = np.linalg.norm(before)
    (drop, change), (exact_drop, exact_change) = figures
    print(
        f"| {model} | {drop:.2f} | {exact_drop:.2f} | {change / whole:.3f} "
        f"| {exact_change / whole:.3f} |",
        flush=True,
    )


def _answers(file: Path, model: str, *, optimized: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """A file's class scores of the test images of a model, and the labels."""
    session = Session(file, CPU, optimized=optimized)
    with np.load(test_images(model)) as arrays:
        name = next(key for key in arrays.files if key != "labels")
        images, labels = arrays[name], arrays["labels"]
    parts = np.array_split(images, max(1, len(images) // 250))
    scores = [next(iter(session.run({name: part.astype(np.float32)}).values())) for part in parts]
    return np.concatenate(scores), labels


def _times(model: str, folder: Path) -> None:
    """Medians in turns with the original, and with the file in which numbers alone change."""
    draw, paths = draws_of(model, folder)[0], dict[float | None, Path]()
    for row in ROWS:
        if row.model == model:
            paths[row.size] = folder / f"timed_{len(paths)}.onnx"
            compress(
                model_path(model),
                paths[row.size],
                samples=draw,
                planning=PlanOptions(precision="int8", budgets=Budgets(size=row.size)),
                measuring=MeasureOptions(cache=folder / "cache"),
                force=True,
            )
    with np.load(test_images(model)) as arrays:
        name = next(key for key in arrays.files if key != "labels")
        images = arrays[name][:_LARGEST_BATCH].astype(np.float32)
    for threads, batch in ((1, 1), (1, _LARGEST_BATCH), (2, 1), (2, _LARGEST_BATCH)):
        feeds = {name: images[:batch]}
        original = Session(model_path(model), CPU, threads=threads)
        alone = Session(paths[None], CPU, threads=threads)
        for size, path in paths.items():
            made = Session(path, CPU, threads=threads)
            shares = []
            for other in (original, alone):
                before, after = interleaved_latency(other, made, feeds)
                shares.append(f"{after / before:.2f}")
            words = "numbers alone" if size is None else f"{size:.4g}"
            print(f"| {words} | {threads} | {batch} | {' | '.join(shares)} |", flush=True)
