"""What is lost where units are removed, alone or along with ranks, without training or labels.

Every row is repeated with three draws of 5,000 training images, which are all that a run sees. The
test images are looked at once, by the finished file. Tables: what was asked for; units removed
without samples; both kinds of change beside either alone; real networks on unseen photographs.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from draws import draws_of
from machine import machine_line
from neuron_merging import merged_model
from outcomes import MODELS, Outcome, Way, outcome
from paired import difference
from peers import right_answers
from pruned_networks import print_networks

from onnx_relusv.core.errors import InputError


@dataclass(frozen=True)
class Row:
    """A model and a way, and the points that it should lose at most, on average."""

    model: str
    way: Way
    wanted: float


ROWS = (
    *(
        Row("lenet_300_100", Way("harmonic", units=units), wanted)
        for units, wanted in ((0.5, 0.7), (0.6, 1.4), (0.7, 2.3), (0.8, 4.2))
    ),
    Row("fashion_mlp", Way("harmonic", size=1 / 8), 0.45),
    Row("fashion_mlp", Way("harmonic", size=1 / 16), 1.0),
    Row("fashion_vgg", Way("harmonic", size=1 / 4), 0.75),
    Row("fashion_vgg", Way("harmonic", size=1 / 8), 1.4),
    Row("fashion_vgg", Way("harmonic", macs=0.5), 0.5),
    Row("fashion_resnet", Way("harmonic", macs=0.6), 1.0),
    Row("cifar10_cnn", Way("harmonic", size=0.5), 1.0),
    Row("fashion_mlp", Way("auto", size=1 / 16), 0.6),
    Row("fashion_mlp", Way("auto", size=1 / 32), 1.2),
)
# Without any samples, of the units of both hidden layers: the points that Neuron Merging loses on
# its authors' own copy of the network.
SHARES = {0.5: 1.1, 0.6: 2.9, 0.7: 7.0, 0.8: 9.8}
# Trained as its authors train theirs, and otherwise.
BLIND = ("lenet_300_100_sgd", "lenet_300_100")
BLIND_BUDGETS = (
    ("fashion_mlp", Way("harmonic", size=1 / 4)),
    ("fashion_vgg", Way("harmonic", macs=0.7)),
    ("fashion_resnet", Way("harmonic", macs=0.8)),
    ("mnist_cnn", Way("harmonic", size=1 / 4)),
    ("cifar10_cnn", Way("harmonic", macs=0.7)),
)
PARTS = ("harmonic", "double-layer")
BESIDE = tuple(
    (model, size) for model in ("fashion_mlp", "fashion_vgg") for size in (1 / 4, 1 / 8, 1 / 16)
)


def main() -> None:
    """Prints all tables, a row as soon as it is known."""
    print(machine_line())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _print_asked(folder)
        _print_blind(folder)
        _print_beside(folder)
        print_networks(folder)


def _print_asked(folder: Path) -> None:
    print(
        "| model | method | asked | bytes left | MACs left | accuracy "
        "| drop, mean | worst | wanted |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for row in ROWS:
        try:
            draws = draws_of(row.model, folder)
        except InputError as error:
            print(f"| {row.model} | {row.way.method} | {row.way.words} | {error} | | | | | |")
            continue
        print(_line(row, [outcome(row.model, row.way, draw, folder) for draw in draws]), flush=True)


def _print_blind(folder: Path) -> None:
    """Without samples, beside what else removes units without any."""
    print(
        "\n| model, no samples | units gone | accuracy | harmonic, drop | Neuron Merging, drop "
        "| cut by l1 norm, drop | wanted |"
    )
    print("|---|---|---|---|---|---|---|")
    test = MODELS / "fashion_test.npz"
    for name in BLIND:
        for share, wanted in SHARES.items():
            own = outcome(name, Way("harmonic", units=share), None, folder)
            drops = [own.drop]
            for merging in (True, False):
                other = folder / "other.onnx"
                merged_model(MODELS / f"{name}.onnx", share, other, merging=merging)
                drops.append(100 * float(own.before.mean() - right_answers(other, test).mean()))
            print(
                f"| {name} | {share:.0%} | {own.before.mean():.2%} -> {own.after.mean():.2%} "
                f"| {' | '.join(f'{drop:.2f}' for drop in drops)} | {wanted:g} |",
                flush=True,
            )
    print("\n| model, no samples | asked | bytes left | MACs left | accuracy | harmonic, drop |")
    print("|---|---|---|---|---|---|")
    for name, way in BLIND_BUDGETS:
        try:
            own = outcome(name, way, None, folder)
        except InputError as error:
            print(f"| {name} | {way.words} | {error} | | | |")
            continue
        print(
            f"| {name} | {way.words} | {own.bytes:.4f} | {own.macs:.3f} "
            f"| {own.before.mean():.2%} -> {own.after.mean():.2%} | {own.drop:.2f} |",
            flush=True,
        )


def _print_beside(folder: Path) -> None:
    """Both kinds of change beside either alone, on the same images."""
    print(
        "\n| model | `--size` | auto, drop | harmonic, drop | double-layer, drop "
        "| auto above the better one, points, mean | with each draw (95 %) | auto is |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for model, size in BESIDE:
        found = {
            method: [
                outcome(model, Way(method, size=size), draw, folder)
                for draw in draws_of(model, folder)
            ]
            for method in ("auto", *PARTS)
        }
        print(_beside_line(model, size, found), flush=True)


@cache
def _line(row: Row, found: Sequence[Outcome]) -> str:
    drops = [one.drop for one in found]
    after = sum(one.after.mean() for one in found) / len(found)
    return (
        f"| {row.model} | {row.way.method} | {row.way.words} "
        f"| {max(one.bytes for one in found):.4f} | {max(one.macs for one in found):.3f} "
        f"| {found[0].before.mean():.2%} -> {after:.2%} "
        f"| {_mean(drops):.2f} | {max(drops):.2f} | {row.wanted:g} |"
    )


def _beside_line(model: str, size: float, found: dict[str, list[Outcome]]) -> str:
    drops = {method: _mean([one.drop for one in ones]) for method, ones in found.items()}
    # The better by the test images: what happens to suit them is counted against auto.
    better = found[min(PARTS, key=lambda method: drops[method])]
    apart = [
        difference(both.after, alone.after)
        for both, alone in zip(found["auto"], better, strict=True)
    ]
    return (
        f"| {model} | {size:.4g} "
        f"| {' | '.join(f'{drops[method]:.2f}' for method in ('auto', *PARTS))} "
        f"| {_mean([one.points for one in apart]):.2f} "
        f"| {', '.join(f'{one.low:.2f} to {one.high:.2f}' for one in apart)} "
        f"| {', '.join(one.word for one in apart)} |"
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
