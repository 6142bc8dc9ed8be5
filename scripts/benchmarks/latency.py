"""Time of the files beside that of the originals, and what it costs, with the defaults.

Every file is made of one draw of images, or of crops of photographs for the real networks, and is
judged on others. Medians in turns with the original; run it on a machine that does nothing else.
What is known lies in build/latency by the code that found it.
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from draws import draws_of
from machine import machine_line
from outcomes import model_path, test_images
from pruned_networks import NETWORKS, samples_of

from onnx_relusv import Budgets, MeasureOptions, PlanOptions, compare, compress
from onnx_relusv.core.errors import ReluSvError
from onnx_relusv.core.plans import Precision
from onnx_relusv.runtime.latency import interleaved_latency
from onnx_relusv.runtime.session import CPU, Session
from onnx_relusv.work.cache import code_digest

FOLDER = Path("build/latency")
_BATCHES, _THREADS = (1, 32), (1, 2)


@dataclass(frozen=True)
class Row:
    """A model and what is asked of it.

    Attributes:
        model: Its name.
        size: Share of the bytes.
        latency: Share of the time, in place of bytes.
        precision: What it is computed with.
        wanted: Shares of the time at most, of each of the batches.
    """

    model: str
    size: float | None = None
    latency: float | None = None
    precision: Precision = "keep"
    wanted: tuple[float, float] = (1.0, 1.0)

    @property
    def asked(self) -> str:
        """As on a command line."""
        budget = f"--latency {self.latency:g}" if self.size is None else f"--size {self.size:g}"
        return budget + f" --precision {self.precision}" * (self.precision != "keep")


ROWS = (
    Row("open_nsfw", 0.7, wanted=(0.72, 0.72)),
    Row("PP-OCRv4 detector", 0.7, wanted=(0.80, 0.80)),
    *(
        Row(model, size, wanted=(0.45, 0.55) if (model, size) == ("fashion_vgg", 0.25) else (1, 1))
        for model in (
            "fashion_vgg",
            "fashion_resnet",
            "fashion_mlp",
            "lenet_300_100",
            "lenet_300_100_sgd",
            "mnist_cnn",
            "cifar10_cnn",
        )
        for size in (0.5, 0.25)
    ),
)


def main(names: list[str]) -> None:
    """Prints a line a row.

    Args:
        names: Of models; all where there are none.
    """
    print(machine_line())
    columns = [f"{threads} x {batch}" for threads in _THREADS for batch in _BATCHES]
    print(
        "| model | asked | bytes | MACs | time expected | time, threads x batch: "
        f"{' | '.join(columns)} | wanted | fall of time over that of MACs | lost |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for row in ROWS:
            if not names or row.model in names:
                try:
                    cells = _cells(row, Path(folder))
                except ReluSvError as error:
                    cells = [str(error)]
                print(f"| {row.model} | `{row.asked}` | {' | '.join(cells)} |", flush=True)


def _cells(row: Row, folder: Path) -> list[str]:
    model, seen, judged = _given(row, folder)
    name = f"{code_digest()[:12]}-{row.model}-{row.asked}".replace(" ", "-")
    output, known = FOLDER / f"{name}.onnx", FOLDER / f"{name}.json"
    if not known.exists():
        done = compress(
            model,
            output,
            samples=seen,
            planning=PlanOptions(
                budgets=Budgets(size=row.size, latency=row.latency), precision=row.precision
            ),
            measuring=MeasureOptions(cache=folder / "cache"),
            force=True,
        )
        found = compare(model, output, judged).evaluation
        lost = ", ".join(f"change {one.relative:.3f}" for one in found.outputs)
        if found.agreement is not None:
            lost = f"agreement {found.agreement:.3f}"
        if found.drop is not None:
            lost = f"{found.drop:.2f} points"
        shares = done.after.bytes / done.before.bytes, done.after.macs / done.before.macs
        known.write_text(json.dumps([*shares, done.plan.latency, lost]), encoding="utf-8")
    bytes_, macs, expected, lost = json.loads(known.read_text(encoding="utf-8"))
    times = list(_times(model, output, judged))
    fall = (1 - times[0]) / (1 - macs) if macs < 1 else float("nan")
    return [
        f"{bytes_:.4f}",
        f"{macs:.3f}",
        "-" if expected is None else f"{expected:.3f}",
        *(f"{time:.2f}" for time in times),
        " / ".join(f"{each:g}" for each in row.wanted),
        f"{fall:.2f}",
        lost,
    ]


def _given(row: Row, folder: Path) -> tuple[Path, Path, Path]:
    """The model, what is calibrated on, and what is judged on."""
    network = next((one for one in NETWORKS if one.name == row.model), None)
    if network is not None:
        return network.model, *samples_of(network, folder)
    return model_path(row.model), draws_of(row.model, folder)[0], test_images(row.model)


def _times(before: Path, after: Path, judged: Path) -> Iterator[float]:
    with np.load(judged) as arrays:
        name = next(key for key in arrays.files if key != "labels")
        images = arrays[name][: max(_BATCHES)].astype(np.float32)
    for threads in _THREADS:
        original, smaller = (Session(path, CPU, threads=threads) for path in (before, after))
        for batch in _BATCHES:
            first, second = interleaved_latency(original, smaller, {name: images[:batch]})
            yield second / first
