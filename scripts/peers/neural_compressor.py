"""Intel's Neural Compressor for ONNX: static quantisation, calibrated on images of one draw.

    python scripts/peers/neural_compressor.py MODEL.onnx IMAGES.npz OUTPUT.onnx

IMAGES.npz has one array, the model's input as float32. Normalisations are folded first, as by
default; ranges are extremes, the only ones that its authors' examples use, and scales are those of
channels.
"""

import sys

import numpy as np
from onnx_neural_compressor import data_reader
from onnx_neural_compressor.quantization import QuantFormat, config, quantize

_BATCH = 50


class _Images(data_reader.CalibrationDataReader):  # type: ignore[misc]
    """Batches of images, again from the first one where it is told to."""

    def __init__(self, name: str, images: np.ndarray) -> None:
        self._name, self._images = name, images
        self._at = 0

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch, or None."""
        part = self._images[self._at : self._at + _BATCH]
        self._at += _BATCH
        return {self._name: part} if len(part) else None

    def rewind(self) -> None:
        """Begins again."""
        self._at = 0


def main(model: str, images: str, output: str) -> None:
    """Quantizes a model."""
    with np.load(images) as arrays:
        (name,) = arrays.files
        given = arrays[name]
    settings = config.StaticQuantConfig(
        _Images(name, given),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        calibration_sampling_size=len(given),
    )
    quantize(model, output, settings)


if __name__ == "__main__":
    main(*sys.argv[1:])
