"""What is lost of the test accuracy at a size, without training or labels.

Every row is repeated with three draws of 5,000 training images, which are all that a run sees:
fitting and choosing are done on parts of them. The test images are looked at by `compare` alone.
Rows that are known lie in build/accuracy, so that an interrupted run takes up where it was.
"""

import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

from draws import fashion_draws, zoo_draws
from machine import machine_line

from onnx_relusv import Budgets, MeasureOptions, PlanOptions, compare, compress
from onnx_relusv.cache import code_digest
from onnx_relusv.errors import InputError

MODELS, ZOO = Path("models"), Path("zoo")
TEST = MODELS / "fashion_test.npz"
FOLDER = Path("build/accuracy")


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


@dataclass(frozen=True)
class Outcome:
    """One file on the test images."""

    bytes: float
    macs: float
    before: float
    after: float
    agreement: float
    seconds: float

    @property
    def drop(self) -> float:
        """Points lost."""
        return 100 * (self.before - self.after)


def main() -> None:
    """Compresses every row with every draw and compares on the test images."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    print(machine_line())
    print("| model | `--size` | bytes left | MACs left | accuracy | drop, mean | worst | wanted |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for row in ROWS:
            try:
                draws = _draws(row.model, folder)
            except InputError as error:
                print(f"| {row.model} | {row.size:.4g} | {error} | | | | | {row.wanted:g} |")
                continue
            found = [_kept(row.model, row.size, draw, folder) for draw in draws]
            print(_line(row, found), flush=True)
        print("| model, no samples | `--size` | bytes left | MACs left | accuracy | drop | | |")
        print("|---|---|---|---|---|---|---|---|")
        for model, size in BLIND:
            print(_blind_line(model, size, _kept(model, size, None, folder)), flush=True)


def _draws(model: str, folder: Path) -> list[Path]:
    return zoo_draws(folder, model.split("_")[0]) if _of_zoo(model) else fashion_draws(folder)


def _of_zoo(model: str) -> bool:
    return model in ("mnist_cnn", "cifar10_cnn")


def _kept(model: str, size: float | None, draw: Path | None, folder: Path) -> Outcome:
    """An outcome, read if this very code found it before."""
    stem = "none" if draw is None else draw.stem
    path = FOLDER / f"{code_digest()[:12]}-{model}-{size}-{stem}.json"
    if path.exists():
        return Outcome(**json.loads(path.read_text()))
    found = _outcome(model, size, draw, folder)
    path.write_text(json.dumps(asdict(found)))
    drawn = f"{model} {size} {stem}: {found.drop:.2f} points, {found.seconds:.0f} s"
    print(drawn, file=sys.stderr, flush=True)
    return found


def _outcome(model: str, size: float | None, draw: Path | None, folder: Path) -> Outcome:
    path = (ZOO if _of_zoo(model) else MODELS) / f"{model}.onnx"
    test = ZOO / f"{model.split('_')[0]}_test.npz" if _of_zoo(model) else TEST
    output = folder / "small.onnx"
    begun = perf_counter()
    done = compress(
        path,
        output,
        samples=draw,
        planning=PlanOptions(budgets=Budgets(size=size)),
        # What sizes share is measured once a draw.
        measuring=MeasureOptions(cache=folder / "cache"),
        force=True,
    )
    seconds = perf_counter() - begun
    evaluation = compare(path, output, test).evaluation
    assert evaluation.accuracy_before is not None  # the test samples have labels
    assert evaluation.accuracy_after is not None
    assert evaluation.agreement is not None
    return Outcome(
        bytes=done.after.bytes / done.before.bytes,
        macs=done.after.macs / done.before.macs,
        before=evaluation.accuracy_before,
        after=evaluation.accuracy_after,
        agreement=evaluation.agreement,
        seconds=seconds,
    )


def _line(row: Row, found: list[Outcome]) -> str:
    drops = [one.drop for one in found]
    mean = sum(drops) / len(drops)
    after = sum(one.after for one in found) / len(found)
    return (
        f"| {row.model} | {row.size:.4g} | {max(one.bytes for one in found):.4f} "
        f"| {max(one.macs for one in found):.3f} | {found[0].before:.2%} -> {after:.2%} "
        f"| {mean:.2f} | {max(drops):.2f} | {row.wanted:g} |"
    )


def _blind_line(model: str, size: float | None, found: Outcome) -> str:
    asked = "default level" if size is None else f"{size:g}"
    return (
        f"| {model} | {asked} | {found.bytes:.4f} | {found.macs:.3f} "
        f"| {found.before:.2%} -> {found.after:.2%} | {found.drop:.2f} | | |"
    )
