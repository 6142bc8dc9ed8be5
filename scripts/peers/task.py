"""What every peer is asked, and how its best variant is chosen and written.

    python scripts/peers/PEER.py MODEL.onnx CALIBRATION.npz SHARE OUTPUT.onnx

A peer offers one model a variant, each within the bytes. The one that agrees most often with the
original on the calibration images is written, with OUTPUT.json beside it, which names the variant.
Where no variant is small enough there is no OUTPUT.onnx, and OUTPUT.json holds the least share.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

_BATCH = 250


@dataclass(frozen=True, eq=False, kw_only=True)
class Task:
    """What to make smaller, and how far.

    Attributes:
        model: The original.
        images: (images, channels, rows, columns) float32, those that it may be calibrated on.
        answers: (images,) int64, the original's top-1 classes of them.
        limit: Bytes of the file that may be left.
        bytes: Of the original file.
        folder: For what a peer keeps between runs.
    """

    model: onnx.ModelProto
    images: np.ndarray
    answers: np.ndarray
    limit: int
    bytes: int
    folder: Path

    def agreement(self, model: onnx.ModelProto) -> float:
        """The share of calibration images on which a model answers like the original."""
        return float(np.mean(top_classes(model, self.images) == self.answers))


@dataclass(frozen=True, eq=False)
class Offer:
    """What a variant made of the task: the largest model within the bytes, or None.

    Attributes:
        variant: Its name, for the table.
        model: The largest that was found within the bytes.
        least: Bytes of the smallest that was found at all.
    """

    variant: str
    model: onnx.ModelProto | None
    least: int


def top_classes(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    """Top-1 classes by onnxruntime on the processor, (images,) int64."""
    options = onnxruntime.SessionOptions()
    # One thread: on a machine with other work, several wait for each other far more than they win.
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (name,) = (given.name for given in session.get_inputs())
    parts = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
    return np.concatenate(
        [session.run(None, {name: part.astype(np.float32)})[0].argmax(axis=1) for part in parts]
    )


def largest_within(
    task: Task, variant: str, make: Callable[[float], onnx.ModelProto], steps: int = 14
) -> Offer:
    """Bisects a variant's own knob for the largest model within the bytes.

    Args:
        task: Says how many bytes.
        variant: Its name.
        make: Makes the model at a knob between 0, as small as can be, and 1, nothing removed.
            Sizes should rise with the knob; where they do not, the best of what was seen counts.
        steps: Of the bisection.
    """
    best, low, high = None, 0.0, 1.0
    most, least = 0, sys.maxsize
    for _ in range(steps):
        knob = (low + high) / 2
        model = make(knob)
        size = model.ByteSize()
        least = min(least, size)
        if size > task.limit:
            high = knob
            continue
        low = knob
        if size > most:
            best, most = model, size
    return Offer(variant, best, least)


def run(offers: Callable[[Task], Iterator[Offer]]) -> None:
    """Does what the command line asks with a peer."""
    path, calibration, share, output = sys.argv[1:]
    target = Path(output).resolve()
    model = onnx.load(path)
    with np.load(calibration) as arrays:
        images = arrays[model.graph.input[0].name].astype(np.float32)
    size = Path(path).stat().st_size
    task = Task(
        model=model,
        images=images,
        answers=top_classes(model, images),
        limit=int(float(share) * size),
        bytes=size,
        folder=target.parent,
    )
    _write(task, list(offers(task)), target)


def _write(task: Task, offers: list[Offer], target: Path) -> None:
    models = {offer.variant: offer.model for offer in offers if offer.model is not None}
    if models:
        scores = {variant: task.agreement(model) for variant, model in models.items()}
        chosen = max(scores, key=lambda variant: scores[variant])
        model = models[chosen]
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, target)
        found: dict[str, object] = {"variant": chosen, "agreements": scores}
    else:
        found = {"least": min(offer.least for offer in offers) / task.bytes}
    # The note comes last and all at once: where it is, a peer has finished.
    staged = target.with_suffix(".part")
    staged.write_text(json.dumps(found, indent=1), encoding="utf-8")
    os.replace(staged, target.with_suffix(".json"))
