"""Reads Fashion-MNIST and divides it into training, validation and test images."""

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DEFAULT_FOLDER = Path("/usr/share/datasets/fashion-mnist")
VALIDATION_COUNT = 5_000
CALIBRATION_COUNT = 5_000

# The division is the same whatever seed a training uses, so that accuracies on the held back
# images can be compared between trainings.
DIVISION_SEED = 1
CALIBRATION_SEED = 2


@dataclass(frozen=True)
class Images:
    """Grey images and their classes.

    Attributes:
        image: uint8 pixels of shape (count, 1, 28, 28).
        labels: uint8 classes of shape (count,).
    """

    image: np.ndarray
    labels: np.ndarray

    def select(self, indices: np.ndarray) -> "Images":
        """Returns the images at `indices`, in that order."""
        return Images(self.image[indices], self.labels[indices])


@dataclass(frozen=True)
class FashionMnist:
    """The data set, divided.

    Attributes:
        training: the 55,000 images that networks are trained on.
        validation: 5,000 images of the original training set, held back to choose settings by.
        test: the 10,000 test images, for the last measurement alone.
    """

    training: Images
    validation: Images
    test: Images


def _read_idx(path: Path) -> np.ndarray:
    """Reads one gzip-compressed IDX file of unsigned bytes."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: install Debian's package dataset-fashion-mnist "
            "(apt-get install dataset-fashion-mnist), or name with --data a folder that holds "
            "the four .gz files of Fashion-MNIST"
        )
    with gzip.open(path, "rb") as file:
        content = file.read()
    # An IDX header is two zero bytes, the element type (8: unsigned byte), the number of
    # dimensions, and then each dimension as a big-endian 32-bit integer.
    if content[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is not an IDX file of unsigned bytes")
    dimension_count = content[3]
    shape = np.frombuffer(content, dtype=">i4", count=dimension_count, offset=4)
    header_bytes = 4 + 4 * dimension_count
    # Copied, since torch wants arrays that can be written to.
    return np.frombuffer(content, dtype=np.uint8, offset=header_bytes).reshape(shape).copy()


def _read_images(folder: Path, prefix: str) -> Images:
    """Reads the image and the label file whose names begin with `prefix`."""
    image = _read_idx(folder / f"{prefix}-images-idx3-ubyte.gz")
    labels = _read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz")
    return Images(image[:, np.newaxis], labels)


def read_fashion_mnist(folder: Path) -> FashionMnist:
    """Reads Fashion-MNIST and holds back the validation images.

    Args:
        folder: the folder with the four .gz files.

    Returns:
        The divided data set; the division is the same at every call.
    """
    all_training = _read_images(folder, "train")
    order = np.random.default_rng(DIVISION_SEED).permutation(len(all_training.labels))
    return FashionMnist(
        training=all_training.select(order[VALIDATION_COUNT:]),
        validation=all_training.select(order[:VALIDATION_COUNT]),
        test=_read_images(folder, "t10k"),
    )


def write_data_files(data: FashionMnist, output: Path) -> None:
    """Writes the calibration images, without labels, and the labelled test images.

    Args:
        data: the divided data set.
        output: the folder to write `fashion_calibration.npz` and `fashion_test.npz` into.
    """
    generator = np.random.default_rng(CALIBRATION_SEED)
    chosen = generator.choice(len(data.training.labels), size=CALIBRATION_COUNT, replace=False)
    np.savez_compressed(output / "fashion_calibration.npz", image=data.training.image[chosen])
    np.savez_compressed(output / "fashion_test.npz", image=data.test.image, labels=data.test.labels)
