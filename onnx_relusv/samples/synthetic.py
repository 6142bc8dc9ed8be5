"""Synthetic samples: random inputs that stand in for real ones.

For statistics, images are smooth noise, whose power falls with the square of the frequency as that
of natural images does, and every other input is white. Both have a variance of 1 behind the
model's own normalisation.

Samples to fit to have to be more varied than that, or a fit to one kind of input goes wrong on any
other: half are white noise and half, where they are images, dead leaves, pictures of discs that lie
on one another, each of a single colour. These have what natural images have and noise has not:
surfaces, edges, and things of every size (Lee, Mumford and Huang, "Occlusion models for natural
images", IJCV 2001). From one sample to the next the contrast differs.
"""

import zipfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from onnx_relusv.core.blocks import Floats
from onnx_relusv.graph.channels.operator import Normalisation

# Of a picture's shorter side; radii r above it have a density that falls with the cube of r, which
# makes a picture look the same at every scale.
_LEAST_RADIUS = 1 / 20
_MOST_LEAVES = 30


def dead_leaves(channels: int, rows: int, columns: int, rng: np.random.Generator) -> Floats:
    """One picture.

    Args:
        channels: Of the colours, which are independent of each other and standard normal.
        rows: Its height in pixels.
        columns: Its width in pixels.
        rng: Draws how many discs there are, up to 29, how large, where, and their colours.

    Returns:
        (channels, rows, columns), every number standard normal, and equal to its neighbours within
        a disc.
    """
    picture = np.empty((channels, rows, columns))
    picture[...] = rng.standard_normal((channels, 1, 1))
    row, column = np.ogrid[:rows, :columns]
    least = _LEAST_RADIUS * min(rows, columns)
    for _ in range(rng.integers(1, _MOST_LEAVES)):
        radius = min(least / np.sqrt(1 - rng.uniform()), max(rows, columns))
        # Discs whose middle is outside are seen in part.
        at_row = rng.uniform(-radius / 2, rows + radius / 2)
        at_column = rng.uniform(-radius / 2, columns + radius / 2)
        inside = (row - at_row) ** 2 + (column - at_column) ** 2 < radius**2
        picture[:, inside] = rng.standard_normal((channels, 1))
    return picture


# Beyond it, moments that are shrunk halfway to the identity change no more than by the seed.
SYNTHETIC_COUNT = 256
# Fewer of them where they take long: as many as have so many multiply-accumulates, a minute or two
# on a few cores. Samples that take so many have very many positions to measure each.
_MOST_MACS, _FEWEST = 4 << 40, 16
# However many rows each has, rows of one sample are alike; of half as many as above, moments are
# as good, and of a quarter they are shrunk too much.
_LEAST_ENOUGH = 128
_STREAM = 11
_STREAM_VARIED = 12
# Fewer where an input is large; a Conv sees many positions of each.
_VARIED_COUNT, _VARIED_LEAST = 5_000, 64
_VARIED_BYTES = 256 << 20
# Log-uniform: the standard deviation of real inputs behind a normalisation is between, mostly.
_CONTRASTS = (0.3, 1.5)
# What is called an image: four axes, the channels, few of them, second or last.
_IMAGE_AXES = 4
_MOST_CHANNELS = 4


def affordable_count(macs: int, enough: int = SYNTHETIC_COUNT) -> int:
    """How many samples to take statistics of.

    Args:
        macs: Multiply-accumulates that one of them takes.
        enough: How many hold as many rows as are looked at.

    Returns:
        `SYNTHETIC_COUNT`; fewer, but 128, where these are enough; or as many as are run in bearable
        time.
    """
    wanted = min(SYNTHETIC_COUNT, max(_LEAST_ENOUGH, enough))
    return max(_FEWEST, min(wanted, _MOST_MACS // max(macs, 1)))


def write_synthetic(
    path: Path,
    example: Mapping[str, np.ndarray],
    normalisations: Mapping[str, Normalisation],
    seed: int,
    count: int = SYNTHETIC_COUNT,
    *,
    varied: bool = False,
    input_range: tuple[float, float] | None = None,
) -> None:
    """Writes samples as an .npz.

    Args:
        path: The file.
        example: A feed, whose shapes and types the samples take.
        normalisations: By input name.
        seed: Draws them.
        count: How many.
        varied: Whether they are to be fitted to; otherwise statistics are taken of them.
        input_range: The range that samples are clipped to, or None.
    """
    draw, stream = (_varied, _STREAM_VARIED) if varied else (_noise, _STREAM)
    with zipfile.ZipFile(path, "w") as archive:
        for number, (name, values) in enumerate(example.items()):
            rng = np.random.default_rng([seed, stream, number])
            # Files of numpy do not know bfloat16, which is cut out of float32.
            stored = np.dtype(np.float32) if values.dtype.kind == "V" else values.dtype
            header = {
                "descr": np.lib.format.dtype_to_descr(stored),
                "fortran_order": False,
                "shape": (count, *values.shape[1:]),
            }
            # Samples are written one by one, so that all of them are never in memory.
            # numpy.savez would take some names of inputs for its own arguments. The date is that
            # of all archives of numpy: equal samples are equal files.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array_header_1_0(file, header)
                for sample in draw(values.shape[1:], count, rng):
                    raw = _raw(sample, normalisations[name], input_range)
                    file.write(np.ascontiguousarray(raw, stored).tobytes())


def varied_count(example: Mapping[str, np.ndarray]) -> int:
    """How many samples are fitted to: 5,000, or as many as are `_VARIED_BYTES`, but 64 at least.

    Args:
        example: A feed, the samples along its first axis.
    """
    bytes_each = sum(values[:1].nbytes for values in example.values())
    return int(np.clip(_VARIED_BYTES // max(bytes_each, 1), _VARIED_LEAST, _VARIED_COUNT))


def _noise(shape: tuple[int, ...], count: int, rng: np.random.Generator) -> Iterator[Floats]:
    axes = image_axes((1, *shape))
    for _ in range(count):
        noise = rng.standard_normal((1, *shape))
        yield (noise if axes is None else smooth(noise, axes))[0]


def _varied(shape: tuple[int, ...], count: int, rng: np.random.Generator) -> Iterator[Floats]:
    axes = image_axes((1, *shape))
    low, high = np.log(_CONTRASTS)
    for number in range(count):
        contrast = np.exp(rng.uniform(low, high))
        if axes is None or number % 2:
            yield contrast * rng.standard_normal(shape)
            continue
        last = axes == (1, 2)
        rows, columns, channels = shape if last else (*shape[1:], shape[0])
        picture = dead_leaves(channels, rows, columns, rng)
        yield contrast * (np.moveaxis(picture, 0, 2) if last else picture)


def _raw(
    values: Floats, normalised: Normalisation, input_range: tuple[float, float] | None
) -> Floats:
    """A sample as the model takes it."""
    raw = np.asarray(((values[None] - normalised.shift) / normalised.scale)[0])
    return raw if input_range is None else np.clip(raw, *input_range)


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
    amplitude = _amplitude(rows, columns)
    shape = [1] * noise.ndim
    shape[axes[0]], shape[axes[1]] = amplitude.shape
    spectrum = np.fft.rfft2(noise, axes=axes) * amplitude.reshape(shape)
    return np.asarray(np.fft.irfft2(spectrum, (rows, columns), axes=axes))


@lru_cache(maxsize=1)
def _amplitude(rows: int, columns: int) -> Floats:
    """(rows, columns // 2 + 1): of every frequency of a real image, its mean square 1 in all."""
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns))
    # The mean brightness varies as what is one image long.
    frequency[0, 0] = 1 / max(rows, columns)
    amplitude = 1 / frequency
    amplitude /= np.sqrt(np.mean(amplitude**2))
    return np.asarray(amplitude[:, : columns // 2 + 1])
