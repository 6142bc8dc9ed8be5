"""One file made smaller in one way with one draw of images, and which test images it has right.

What is known lies in build/outcomes by the code that found it, so that an interrupted run takes up
where it was.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import numpy.typing as npt
from layer_shares import without_share
from peers import right_answers

from onnx_relusv import Budgets, MeasureOptions, PlanOptions, compare, compress
from onnx_relusv.core.plans import Effort, Method, Precision
from onnx_relusv.core.results import Compression
from onnx_relusv.work.cache import code_digest

MODELS, ZOO = Path("models"), Path("zoo")
FOLDER = Path("build/outcomes")


@dataclass(frozen=True)
class Way:
    """How a model is made smaller; one of the three shares is given, or none for the default level.

    Attributes:
        method: As in `PlanOptions`.
        size: Share of the bytes that may be left.
        macs: Share of the multiply-accumulates that may be left.
        units: Share of the units of every group that goes.
        precision: As in `PlanOptions`.
        effort: As in `MeasureOptions`.
    """

    method: Method
    size: float | None = None
    macs: float | None = None
    units: float | None = None
    precision: Precision = "keep"
    effort: Effort = "normal"

    @property
    def words(self) -> str:
        """What is asked for."""
        if self.units is not None:
            return f"{self.units:.0%} of the units gone"
        if self.macs is not None:
            return f"`--macs {self.macs:.4g}`"
        return "the default level" if self.size is None else f"`--size {self.size:.4g}`"

    @property
    def name(self) -> str:
        """For the file that keeps the outcome."""
        numbers = "" if self.precision == "keep" else f"-{self.precision}"
        effort = "" if self.effort == "normal" else f"-{self.effort}"
        budgets = f"size-{self.size}-macs-{self.macs}-units-{self.units}"
        return f"{self.method}-{budgets}{numbers}{effort}"


@dataclass(frozen=True, eq=False)
class Outcome:
    """One file on the test images.

    Attributes:
        bytes: Share that is left.
        macs: Share that is left.
        before: (images,) bool, which of them the original has right.
        after: (images,) bool, likewise of the file.
        change: Relative L2 error of its answers to them.
    """

    bytes: float
    macs: float
    before: npt.NDArray[np.bool_]
    after: npt.NDArray[np.bool_]
    change: float

    @property
    def drop(self) -> float:
        """Points lost."""
        return 100 * float(self.before.mean() - self.after.mean())


def is_of_zoo(model: str) -> bool:
    """Whether scripts/zoo brings a model and its images."""
    return model in ("mnist_cnn", "cifar10_cnn")


def outcome(model: str, way: Way, draw: Path | None, folder: Path) -> Outcome:
    """What becomes of a model, read if this very code found it before.

    Args:
        model: Its name.
        way: How it is made smaller.
        draw: Images without labels, all that is measured, fitted and chosen on; None for nothing.
        folder: For what is made on the way.
    """
    stem = "none" if draw is None else draw.stem
    path = FOLDER / f"{code_digest()[:12]}-{model}-{way.name}-{stem}.npz"
    if not path.exists():
        begun = perf_counter()
        found = _made(model, way, draw, folder)
        staged = folder / "outcome.npz"
        np.savez_compressed(
            staged,
            bytes=found.bytes,
            macs=found.macs,
            before=found.before,
            after=found.after,
            change=found.change,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(staged.read_bytes())
        print(
            f"{model} {way.method} {way.words} {stem}: {found.drop:.2f} points, "
            f"{perf_counter() - begun:.0f} s",
            file=sys.stderr,
            flush=True,
        )
        return found
    with np.load(path) as arrays:
        return Outcome(
            bytes=float(arrays["bytes"]),
            macs=float(arrays["macs"]),
            before=arrays["before"],
            after=arrays["after"],
            change=float(arrays["change"]),
        )


def model_path(model: str) -> Path:
    """Where a model lies."""
    return (ZOO if is_of_zoo(model) else MODELS) / f"{model}.onnx"


def test_images(model: str) -> Path:
    """The images that files are judged on, and nothing else is done with."""
    if is_of_zoo(model):
        return ZOO / f"{model.split('_')[0]}_test.npz"
    return MODELS / "fashion_test.npz"


def judged(model: str, file: Path, macs: float) -> Outcome:
    """A file on the test images.

    Args:
        model: Name of the original.
        file: Made of it.
        macs: Share of the original's that it has.
    """
    path, test = model_path(model), test_images(model)
    (output,) = compare(path, file, test).evaluation.outputs
    return Outcome(
        bytes=file.stat().st_size / path.stat().st_size,
        macs=macs,
        before=right_answers(path, test),
        after=right_answers(file, test),
        change=output.relative,
    )


def _made(model: str, way: Way, draw: Path | None, folder: Path) -> Outcome:
    output = folder / "small.onnx"
    # What ways share is measured once a draw.
    done = _smaller(model_path(model), way, draw, output, folder / "cache")
    return judged(model, output, done.after.macs / done.before.macs)


def _smaller(model: Path, way: Way, draw: Path | None, output: Path, cache: Path) -> Compression:
    if way.units is not None:
        return without_share(model, way.units, output, draw, cache)
    return compress(
        model,
        output,
        samples=draw,
        planning=PlanOptions(
            method=way.method,
            budgets=Budgets(size=way.size, macs=way.macs),
            precision=way.precision,
        ),
        measuring=MeasureOptions(cache=cache, effort=way.effort),
        force=True,
    )
