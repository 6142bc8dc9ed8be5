"""Prepares labelled ImageNet pictures as the network takes them."""

import re
from pathlib import Path

import numpy as np
from images import Images
from PIL import Image

SIDE = 224
# Of ImageNet's blue, green and red; the network was trained on pixels less these.
_MEAN = np.array([103.939, 116.779, 123.68], np.float32)


def read_pictures(folder: Path) -> Images:
    """Reads the files `imagenet_NUMBER_LABEL.jpg` of a folder.

    Returns:
        (pictures, 3, 224, 224) float32, blue, green and red, bilinear, mean removed, and
        (pictures,) int64, the classes.
    """
    images, labels = [], []
    for path in sorted(folder.glob("imagenet_*.jpg")):
        label = re.fullmatch(r"imagenet_\d+_(\d+)", path.stem)
        if label is None:
            raise ValueError(f"{path}: no label in the name")
        picture = Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        pixels = np.asarray(picture, np.float32)[:, :, ::-1] - _MEAN
        images.append(pixels.transpose(2, 0, 1))
        labels.append(int(label[1]))
    if not images:
        raise FileNotFoundError(f"{folder}: no files imagenet_*.jpg")
    return Images(np.stack(images), np.array(labels))
