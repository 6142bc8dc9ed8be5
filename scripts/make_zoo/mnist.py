"""Reads MNIST."""

from pathlib import Path

import numpy as np
from images import Images

# Of the training pixels, 0 to 1; the network was trained on pixels less one, divided by the other.
_MEAN, _DEVIATION = 0.1307, 0.3081
# An IDX file begins with two zero bytes, the element type (8: unsigned byte) and the number of
# dimensions; then comes each dimension as a big-endian 32-bit integer.
_UNSIGNED_BYTES = b"\x00\x00\x08"


def read_digits(folder: Path, prefix: str) -> Images:
    """Reads the image and the label file whose names begin with `prefix`.

    Returns:
        (images, 1, 28, 28) float32, as the network takes them, and (images,) uint8, the digits.
    """
    pixels = _read_idx(folder / f"{prefix}-images-idx3-ubyte")
    image = (pixels[:, np.newaxis].astype(np.float32) / 255 - _MEAN) / _DEVIATION
    return Images(image, _read_idx(folder / f"{prefix}-labels-idx1-ubyte"))


def _read_idx(path: Path) -> np.ndarray:
    content = path.read_bytes()
    if content[:3] != _UNSIGNED_BYTES:
        raise ValueError(f"{path}: not an IDX file of unsigned bytes")
    shape = np.frombuffer(content, ">i4", count=content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)
