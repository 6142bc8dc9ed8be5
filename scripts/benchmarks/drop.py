"""The smallest file of a largest drop: by all answers that change, and by what these cost.

Every row is made with a draw of 5,000 training images without labels, of which 3,500 are for
certifying. The test images are looked at once, by the finished file: what it really loses, beside
the bound.
"""

import sys
import tempfile
from pathlib import Path

from draws import draws_of
from machine import machine_line
from outcomes import model_path, test_images

from onnx_relusv import Budgets, MeasureOptions, PlanOptions, compare, compress
from onnx_relusv.core.errors import BudgetError, InputError

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
        "| model | `--drop-by` | bytes left | answers changed, of 3,500 | bound | points lost on "
        "test images | answers changed there |"
    )
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        for model in models or MODELS:
            try:
                draw = draws_of(model, Path(name))[0]
            except InputError as error:
                print(f"| {model} | {error} | | | | | |")
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
        return f"| {model} | {way} | {error} | | | | |"
    bound = done.bound
    assert bound is not None  # a largest drop was asked for
    judged = compare(model_path(model), done.after.path, test_images(model)).evaluation
    # There are labels.
    assert judged.drop is not None
    assert judged.agreement is not None
    return (
        f"| {model} | {way} | {done.after.bytes / done.before.bytes:.4f} | {bound.lost} "
        f"| {bound.bound:.2f} | {judged.drop:.2f} | {100 * (1 - judged.agreement):.2f} |"
    )
