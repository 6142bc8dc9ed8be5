"""The draws of calibration images that the accuracy benchmark repeats its rows with."""

import sys
from pathlib import Path

import numpy as np
from outcomes import is_of_zoo

from onnx_relusv.core.errors import InputError

sys.path.append("scripts/make_models")
from data import DEFAULT_FOLDER, read_fashion_mnist

DRAWS = 3
COUNT = 5_000
_SEEDS = (101, 102, 103)
ZOO = Path("zoo")


def fashion_draws(folder: Path) -> list[Path]:
    """Draws of training images of Fashion-MNIST, without labels, as files in a folder.

    Raises:
        InputError: The data set is not there.
    """
    try:
        images = read_fashion_mnist(DEFAULT_FOLDER).training.image
    except FileNotFoundError as error:
        raise InputError(str(error)) from error
    return _written(folder, "fashion", "image", images)


def draws_of(model: str, folder: Path) -> list[Path]:
    """Draws of the images that a network, bundled or of the zoo, was trained on.

    Raises:
        InputError: They are not there.
    """
    return zoo_draws(folder, model.split("_")[0]) if is_of_zoo(model) else fashion_draws(folder)


def zoo_draws(folder: Path, name: str) -> list[Path]:
    """Draws of the training images that scripts/zoo brings for a network.

    Raises:
        InputError: They are not there.
    """
    path = ZOO / f"{name}_train.npz"
    if not path.exists():
        raise InputError(f"{path} is missing: run scripts/zoo first.")
    with np.load(path) as arrays:
        key = next(key for key in arrays.files if key != "labels")
        return _written(folder, name, key, arrays[key])


def _written(folder: Path, name: str, key: str, images: np.ndarray) -> list[Path]:
    paths = []
    for seed in _SEEDS:
        chosen = np.random.default_rng(seed).choice(len(images), size=COUNT, replace=False)
        path = folder / f"{name}-{seed}.npz"
        np.savez(path, **{key: images[np.sort(chosen)]})
        paths.append(path)
    return paths
