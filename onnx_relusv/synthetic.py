"""Synthetic samples: random inputs whose statistics stand in for those of real ones.

Images are smooth noise, whose power falls with the square of the frequency as that of natural
images does; every other input is white. Both have a variance of 1 behind the model's own
normalisation.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from onnx_relusv.graph.normalisation import Normalisation
from onnx_relusv.records import Floats

# Beyond it, moments that are shrunk halfway to the identity change no more than by the seed.
SYNTHETIC_COUNT = 256
_STREAM = 11
# What is called an image: four axes, the channels, few of them, second or last.
_IMAGE_AXES = 4
_MOST_CHANNELS = 4


def write_synthetic(
    path: Path,
    example: Mapping[str, np.ndarray],
    normalisations: Mapping[str, Normalisation],
    seed: int,
) -> None:
    """Writes `SYNTHETIC_COUNT` samples as an .npz.

    Args:
        path: The file.
        example: A feed, whose shapes and types the samples take.
        normalisations: By input name.
        seed: Draws them.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for number, (name, values) in enumerate(example.items()):
            rng = np.random.default_rng([seed, _STREAM, number])
            drawn = _drawn(values, normalisations[name], rng)
            # numpy.savez would take some names of inputs for its own arguments. The date is that of
            # all archives of numpy: equal samples are equal files.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, drawn, allow_pickle=False)


def _drawn(example: np.ndarray, normalised: Normalisation, rng: np.random.Generator) -> np.ndarray:
    axes = image_axes(example.shape)
    drawn = np.empty((SYNTHETIC_COUNT, *example.shape[1:]), example.dtype)
    # One by one: transforms are in float64, which all images at once need not be.
    for sample in drawn:
        noise = rng.standard_normal((1, *sample.shape))
        if axes is not None:
            noise = smooth(noise, axes)
        sample[...] = ((noise - normalised.shift) / normalised.scale)[0]
    return drawn


def image_axes(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """The two axes of an input that are an image's rows and columns; None where it is none."""
    if len(shape) != _IMAGE_AXES:
        return None
    channels_last = shape[3] <= _MOST_CHANNELS < shape[1]
    return (1, 2) if channels_last else (2, 3)


def smooth(noise: Floats, axes: tuple[int, int]) -> Floats:
    """White noise with its amplitude divided by the frequency.

    Args:
        noise: float64, of independent numbers with a variance of 1.
        axes: The two axes of the images.

    Returns:
        The same shape; the expected square of every number is 1. On a torus: opposite borders are
        neighbours.
    """
    rows, columns = (noise.shape[axis] for axis in axes)
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns))
    # The mean brightness varies as what is one image long.
    frequency[0, 0] = 1 / max(rows, columns)
    amplitude = 1 / frequency
    amplitude /= np.sqrt(np.mean(amplitude**2))
    shape = [1] * noise.ndim
    shape[axes[0]], shape[axes[1]] = rows, columns
    spectrum = np.fft.fft2(noise, axes=axes) * amplitude.reshape(shape)
    return np.asarray(np.fft.ifft2(spectrum, axes=axes).real)
