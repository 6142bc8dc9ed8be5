"""The README's table: what is lost of the test accuracy at a size, without training or labels."""

import tempfile
from pathlib import Path

from machine import machine_line

from onnx_relusv import Budgets, PlanOptions, compare, compress

MODELS = Path("models")
CALIBRATION = MODELS / "fashion_calibration.npz"
TEST = MODELS / "fashion_test.npz"
# A size of None is no budget at all: the default level.
ROWS: tuple[tuple[str, float | None, Path | None], ...] = (
    ("lenet_300_100", 1 / 6, CALIBRATION),
    ("fashion_mlp", 1 / 8, CALIBRATION),
    ("fashion_mlp", 1 / 16, CALIBRATION),
    ("fashion_vgg", 1 / 4, CALIBRATION),
    ("fashion_vgg", 1 / 8, CALIBRATION),
    ("fashion_vgg", 1 / 16, CALIBRATION),
    ("fashion_resnet", 1 / 4, CALIBRATION),
    ("fashion_resnet", 1 / 8, CALIBRATION),
    ("lenet_300_100", 0.5, None),
    ("fashion_mlp", 0.5, None),
    ("fashion_vgg", 0.5, None),
    ("fashion_resnet", 0.5, None),
    ("lenet_300_100", None, CALIBRATION),
    ("fashion_mlp", None, CALIBRATION),
    ("fashion_vgg", None, CALIBRATION),
    ("fashion_resnet", None, CALIBRATION),
    ("lenet_300_100", None, None),
    ("fashion_mlp", None, None),
)


def main() -> None:
    """Compresses every row and compares on the test images."""
    print(machine_line())
    print("| model | budget | calibration | bytes left | MACs left | accuracy | drop, points |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, size, samples) in enumerate(ROWS):
            output = Path(folder) / f"{number}.onnx"
            model = MODELS / f"{name}.onnx"
            planning = PlanOptions(budgets=Budgets(size=size))
            compress(model, output, samples=samples, planning=planning)
            found = compare(model, output, TEST)
            evaluation = found.evaluation
            assert evaluation.accuracy_before is not None  # the test samples have labels
            assert evaluation.accuracy_after is not None
            print(
                f"| {name} | {f'`--size {size:.4g}`' if size else 'none'} "
                f"| {'5,000 images' if samples else 'none'} "
                f"| {found.after.bytes / found.before.bytes:.4f} "
                f"| {found.after.macs / found.before.macs:.3f} "
                f"| {evaluation.accuracy_before:.2%} -> {evaluation.accuracy_after:.2%} "
                f"| {evaluation.drop:.2f} |",
                flush=True,
            )
