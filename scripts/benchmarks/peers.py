"""This package beside its peers at equal file sizes, on the same images, without any training.

It takes part twice: by its defaults, and by removing units alone, as most of its peers do.

    bash scripts/bench peers [METHOD ...]

runs all methods, or those named, and prints a table of them. What a method made lies in
build/peers/MODEL/SHARE/, and is not made again; delete a folder to have it made anew.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
from machine import machine_line
from paired import difference

from onnx_relusv import Budgets, PlanOptions, compress
from onnx_relusv.core.errors import BudgetError

KEPT = Path("build/peers")
# Ours, and their options but for the budget.
OWN: dict[str, PlanOptions] = {
    "onnx-relusv": PlanOptions(),
    "onnx-relusv-harmonic": PlanOptions(method="harmonic"),
}
SHARES = (0.5, 0.25, 0.125)
CALIBRATION_IMAGES = 5000
_BATCH = 250
# The interpreter of an environment of its own, or this one, and the script with its arguments.
PEERS: dict[str, tuple[str, ...]] = {
    "svd-channel": (sys.executable, "scripts/peers/svd.py", "channel"),
    "svd-spatial": (sys.executable, "scripts/peers/svd.py", "spatial"),
    "aimet": (".venv-peer-aimet/bin/python", "scripts/peers/aimet.py"),
    "torch-pruning": (
        ".venv-peer-torch-pruning/bin/python",
        "scripts/peers/torch_pruning_groups.py",
    ),
    "onnxsim": (".venv-peer-onnxsim/bin/python", "scripts/peers/onnxsim_pruning.py"),
}
METHODS = (*OWN, *PEERS)


@dataclass(frozen=True, eq=False)
class Subject:
    """A model and its images.

    Attributes:
        model: The ONNX file.
        calibration: Images without labels that methods may look at.
        test: Images with labels that nothing is chosen on.
    """

    model: Path
    calibration: Path
    test: Path


@dataclass(frozen=True, eq=False)
class Made:
    """What a method made of a model at a share.

    Attributes:
        variant: Which of its ways was chosen on the calibration images, or why there is none.
        bytes_left: The file's share of the original's bytes; None where there is no file.
        right: (images,) bool, which test images it has right; None likewise.
    """

    variant: str
    bytes_left: float | None
    right: np.ndarray | None


def main(arguments: Sequence[str]) -> None:
    """Runs methods on every model and share, and prints a row each as soon as it is known."""
    methods = tuple(arguments) or METHODS
    unknown = sorted(set(methods) - set(METHODS))
    if unknown:
        sys.exit(f"{', '.join(unknown)}: not among the methods {', '.join(METHODS)}")
    print(f"{machine_line()}; {_pinned()}")
    print(
        "| model | share | method | chosen on the calibration images | bytes left | accuracy "
        f"| drop, points | {' | '.join(f'{own} above it, points (95 %)' for own in OWN)} |"
    )
    print(f"|{'---|' * (7 + len(OWN))}")
    for subject in _subjects():
        before = right_answers(subject.model, subject.test)
        for share in SHARES:
            own = {name: _made(subject, share, name, run=name in methods) for name in OWN}
            for method in methods:
                made = own[method] if method in OWN else _made(subject, share, method, run=True)
                assert made is not None  # it was run
                others = [None if name == method else each for name, each in own.items()]
                print(_row(subject.model.stem, share, method, made, others, before), flush=True)


def _pinned() -> str:
    """What the peers' environments were asked to hold, each package once."""
    files = sorted(Path("scripts/peers").glob("*.txt"))
    lines = [line for file in files for line in file.read_text(encoding="utf-8").split()]
    return "peers with " + ", ".join(line.replace("==", " ") for line in sorted(set(lines)))


def _subjects() -> list[Subject]:
    models, zoo = Path("models"), Path("zoo")
    fashion = (models / "fashion_calibration.npz", models / "fashion_test.npz")
    found = [
        Subject(models / f"{name}.onnx", *fashion) for name in ("fashion_vgg", "fashion_resnet")
    ]
    cifar10 = zoo / "cifar10_cnn.onnx"
    if cifar10.exists():
        calibration = _drawn(zoo / "cifar10_train.npz")
        found.append(Subject(cifar10, calibration, zoo / "cifar10_test.npz"))
    else:
        print(f"{cifar10} is not there and left out; scripts/zoo makes it.\n")
    return found


def _drawn(training: Path) -> Path:
    """A seeded draw of training images, without their labels."""
    drawn = KEPT / "cifar10_calibration.npz"
    if not drawn.exists():
        drawn.parent.mkdir(parents=True, exist_ok=True)
        with np.load(training) as arrays:
            images = arrays["image"]
        chosen = np.random.default_rng(0).choice(len(images), CALIBRATION_IMAGES, replace=False)
        staged = drawn.with_suffix(".part.npz")
        np.savez_compressed(staged, image=images[np.sort(chosen)])
        os.replace(staged, drawn)
    return drawn


def _made(subject: Subject, share: float, method: str, *, run: bool) -> Made | None:
    """What a method made, now or before; None where it has not and shall not run."""
    target = KEPT / subject.model.stem / f"{share:g}" / f"{method}.onnx"
    note = target.with_suffix(".json")
    if not note.exists():
        if not run:
            return None
        target.parent.mkdir(parents=True, exist_ok=True)
        if method in OWN:
            _compress(subject, share, OWN[method], target)
        else:
            _run_peer(subject, share, method, target)
    found = json.loads(note.read_text(encoding="utf-8"))
    if not target.exists():
        why = found.get("error") or f"not reached; the least was {found['least']:.4f}"
        return Made(why, None, None)
    return Made(
        found["variant"],
        target.stat().st_size / subject.model.stat().st_size,
        right_answers(target, subject.test),
    )


def _compress(subject: Subject, share: float, planning: PlanOptions, target: Path) -> None:
    variant = "defaults" if planning == PlanOptions() else f"method {planning.method}"
    note = {"variant": variant}
    # A file without its note is one of a run that was interrupted.
    target.unlink(missing_ok=True)
    try:
        compress(
            subject.model,
            target,
            samples=subject.calibration,
            planning=replace(planning, budgets=Budgets(size=share)),
        )
    except BudgetError as error:
        note = {"error": str(error)}
    target.with_suffix(".json").write_text(json.dumps(note), encoding="utf-8")


def _run_peer(subject: Subject, share: float, method: str, target: Path) -> None:
    command = [*PEERS[method], subject.model, subject.calibration, f"{share:g}", target]
    # What a peer tells goes into a log: the table is all that is printed. One thread each, as in
    # the peers' own sessions: on a busy machine threads that wait for each other cost the most.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with target.with_suffix(".log").open("w", encoding="utf-8") as log:
        done = subprocess.run(
            [str(part) for part in command], stdout=log, stderr=log, env=environment, check=False
        )
    if done.returncode:
        sys.exit(f"{method} failed on {subject.model}; see {target.with_suffix('.log')}")


def right_answers(model: Path, test: Path) -> np.ndarray:
    """Which test images a model has right by onnxruntime on the processor, (images,) bool."""
    with np.load(test) as arrays:
        images, labels = arrays["image"], arrays["labels"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # see _run_peer
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    answers = [
        session.run(None, {"image": images[start : start + _BATCH].astype(np.float32)})[0]
        for start in range(0, len(images), _BATCH)
    ]
    return np.concatenate(answers).argmax(axis=1) == labels


def _row(
    model: str,
    share: float,
    method: str,
    made: Made,
    own: Sequence[Made | None],
    before: np.ndarray,
) -> str:
    """A row of the table; `own` are ours that it is compared with."""
    cells = [model, f"{share:g}", method, made.variant]
    if made.right is None or made.bytes_left is None:
        return _line([*cells, *["-"] * (3 + len(own))])
    after = made.right
    cells += [f"{made.bytes_left:.4f}", f"{after.mean():.2%}", f"{_drop(before, after):.2f}"]
    return _line([*cells, *(_compared(each, after) for each in own)])


def _compared(own: Made | None, right: np.ndarray) -> str:
    if own is None or own.right is None:
        return "-"
    found = difference(own.right, right)
    return f"{found.points:.2f} ({found.low:.2f} to {found.high:.2f}), {found.word}"


def _drop(before: np.ndarray, after: np.ndarray) -> float:
    return 100 * float(before.mean() - after.mean())


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
