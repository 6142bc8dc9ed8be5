"""The smallest file of a largest drop: by all answers that change, and by what these cost.

Every row is made with a draw of 5,000 training images without labels, of which 3,500 are for
certifying. The test images are looked at once, by the finished file: what it really loses, beside
the bound.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from draws import draws_of
from machine import machine_line
from outcomes import model_path, test_images
from scipy.special import softmax

from onnx_relusv import Budgets, MeasureOptions, PlanOptions, compress
from onnx_relusv.core.errors import BudgetError, InputError
from onnx_relusv.runtime.session import CPU, Session

MODELS = ("fashion_vgg", "fashion_resnet", "fashion_mlp", "lenet_300_100", "cifar10_cnn")
# Points, of changed answers or of accuracy.
POINTS = 1.0
WAYS = ("answers", "probabilities")


def main(models: list[str]) -> None:
    """Prints a row for every model and way, with the first draw.

    Args:
        models: Names; all if none.
    """
    unknown = set(models) - set(MODELS)
    if unknown:
        sys.exit(f"no such models: {', '.join(sorted(unknown))}; use {', '.join(MODELS)}")
    print(machine_line())
    print(
        "| model | `--drop-by` | bytes left | answers changed, of 3,500 | bound | answers changed "
        "on test images | their cost by probabilities | points lost there |"
    )
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        for model in models or MODELS:
            try:
                draw = draws_of(model, Path(name))[0]
            except InputError as error:
                print(f"| {model} | {error} | | | | | | |")
                continue
            for way in WAYS:
                print(_line(model, draw, way, Path(name)), flush=True)


def _line(model: str, draw: Path, way: str, folder: Path) -> str:
    budgets = Budgets(max_drop=POINTS, drop_by=way)  # type: ignore[arg-type]
    try:
        done = compress(
            model_path(model),
            folder / "smallest.onnx",
            samples=draw,
            planning=PlanOptions(budgets=budgets),
            measuring=MeasureOptions(cache=folder / "cache"),
            force=True,
        )
    except BudgetError as error:
        return f"| {model} | {way} | {error} | | | | | |"
    bound = done.bound
    assert bound is not None  # a largest drop was asked for
    changed, cost, lost = on_test_images(model, done.after.path)
    return (
        f"| {model} | {way} | {done.after.bytes / done.before.bytes:.4f} | {bound.lost} "
        f"| {bound.bound:.2f} | {changed:.2f} % | {cost:.2f} | {lost:.2f} |"
    )


def on_test_images(model: str, file: Path) -> tuple[float, float, float]:
    """Of a file, in per cent: answers that change, what these cost by the original, and the drop.

    Args:
        model: The original's name; its class scores go into a Softmax.
        file: The smaller model.
    """
    with np.load(test_images(model)) as arrays:
        name = next(key for key in arrays.files if key != "labels")
        images, labels = arrays[name].astype(np.float32), arrays["labels"]
    before, after = (
        np.concatenate(
            [
                next(iter(session.run({name: part}).values()))
                for part in np.array_split(images, max(1, len(images) // 250))
            ]
        )
        for session in (Session(path, CPU) for path in (model_path(model), file))
    )
    shares = softmax(before.astype(np.float64), axis=1)
    first, second, rows = before.argmax(axis=1), after.argmax(axis=1), np.arange(len(labels))
    cost = shares[rows, first] - shares[rows, second]
    lost = np.mean(first == labels) - np.mean(second == labels)
    return 100 * float(np.mean(first != second)), 100 * float(cost.mean()), 100 * float(lost)
