"""What is lost of the test accuracy at a size, without training or labels.

Every row is repeated with three draws of 5,000 training images, which are all that a run sees:
fitting and choosing are done on parts of them. The test images are looked at once, by the finished
file. Runs are shared with the pruning benchmark.
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from draws import draws_of
from machine import machine_line
from outcomes import Outcome, Way, outcome

from onnx_relusv.core.errors import InputError
from onnx_relusv.core.plans import Effort
from onnx_relusv.work.effort import SPENDING


@dataclass(frozen=True)
class Row:
    """A model at a size, and the points that it should lose at most, on average."""

    model: str
    size: float
    wanted: float


ROWS = (
    Row("lenet_300_100", 1 / 6, 1.0),
    Row("fashion_mlp", 1 / 8, 0.4),
    Row("fashion_mlp", 1 / 16, 1.0),
    Row("fashion_vgg", 1 / 4, 0.2),
    Row("fashion_vgg", 1 / 8, 0.45),
    Row("fashion_vgg", 1 / 12, 0.9),
    Row("fashion_vgg", 1 / 16, 1.4),
    Row("fashion_resnet", 1 / 4, 0.3),
    Row("fashion_resnet", 1 / 8, 0.7),
    Row("mnist_cnn", 1 / 10, 0.3),
    Row("cifar10_cnn", 1 / 4, 1.0),
)
# Without any samples: the size, or None for the default level.
BLIND: tuple[tuple[str, float | None], ...] = (
    ("lenet_300_100", 0.5),
    ("fashion_mlp", 0.5),
    ("fashion_vgg", 0.5),
    ("fashion_resnet", 0.5),
    ("lenet_300_100", None),
    ("fashion_mlp", None),
)


def main(arguments: Sequence[str] = ()) -> None:
    """Compresses every row with every draw and compares on the test images.

    Args:
        arguments: None, or ``--effort`` and one, whose files are put beside those of a normal run.
    """
    if arguments:
        effort = str(arguments[-1])
        if list(arguments[:-1]) != ["--effort"] or effort not in SPENDING:
            sys.exit(f"usage: scripts/bench accuracy [--effort {'|'.join(SPENDING)}]")
        _efforts(cast(Effort, effort))
        return
    print(machine_line())
    print("| model | `--size` | bytes left | MACs left | accuracy | drop, mean | worst | wanted |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for row in ROWS:
            try:
                draws = draws_of(row.model, folder)
            except InputError as error:
                print(f"| {row.model} | {row.size:.4g} | {error} | | | | | {row.wanted:g} |")
                continue
            found = [outcome(row.model, _way(row.size), draw, folder) for draw in draws]
            print(_line(row, found), flush=True)
        print("| model, no samples | `--size` | bytes left | MACs left | accuracy | drop | | |")
        print("|---|---|---|---|---|---|---|---|")
        for model, size in BLIND:
            print(_blind_line(model, size, outcome(model, _way(size), None, folder)), flush=True)


def _efforts(effort: Effort) -> None:
    """Prints what files of an effort lose beside those of a normal run."""
    print(machine_line())
    print(f"| model | `--size` | normal: drop, mean | worst | {effort}: drop, mean | worst |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for row in ROWS:
            try:
                draws = draws_of(row.model, folder)
            except InputError as error:
                print(f"| {row.model} | {row.size:.4g} | {error} | | | |")
                continue
            cells = []
            for way in (_way(row.size), replace(_way(row.size), effort=effort)):
                drops = [outcome(row.model, way, draw, folder).drop for draw in draws]
                cells += [f"{sum(drops) / len(drops):.2f}", f"{max(drops):.2f}"]
            print(f"| {row.model} | {row.size:.4g} | {' | '.join(cells)} |", flush=True)


def _way(size: float | None) -> Way:
    return Way("auto", size=size)


def _line(row: Row, found: list[Outcome]) -> str:
    drops = [one.drop for one in found]
    mean = sum(drops) / len(drops)
    after = sum(one.after.mean() for one in found) / len(found)
    return (
        f"| {row.model} | {row.size:.4g} | {max(one.bytes for one in found):.4f} "
        f"| {max(one.macs for one in found):.3f} | {found[0].before.mean():.2%} -> {after:.2%} "
        f"| {mean:.2f} | {max(drops):.2f} | {row.wanted:g} |"
    )


def _blind_line(model: str, size: float | None, found: Outcome) -> str:
    asked = "default level" if size is None else f"{size:g}"
    return (
        f"| {model} | {asked} | {found.bytes:.4f} | {found.macs:.3f} "
        f"| {found.before.mean():.2%} -> {found.after.mean():.2%} | {found.drop:.2f} | | |"
    )
