"""Arrays to sample from, and the files that hold them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from onnx_relusv.core.blocks import InputSpec
from onnx_relusv.core.errors import InputError
from onnx_relusv.samples.samples import Samples, open_samples

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((10, 3, 4)).astype(np.float32)
TOKENS = RNG.integers(0, 9, (10, 5))
LABELS = RNG.integers(0, 3, 10)


def spec(name: str, dtype: object, *shape: int | None) -> InputSpec:
    return InputSpec(name, np.dtype(dtype), shape)


IMAGE = spec("image", np.float32, None, 3, 4)
BOTH = [IMAGE, spec("tokens", np.int64, None, None)]


def everything(samples: Samples, wanted: int) -> dict[str, np.ndarray]:
    """All real samples, put together from batches."""
    batches = list(samples.batches(wanted))
    return {
        name: np.concatenate([batch.feeds[name][: batch.count] for batch in batches])
        for name in batches[0].feeds
    }


def archive(folder: Path, *, compressed: bool = False, **arrays: np.ndarray) -> Path:
    path = folder / "samples.npz"
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def data_sets(folder: Path, arrays: Sequence[Sequence[np.ndarray]]) -> Path:
    for number, inputs in enumerate(arrays):
        target = folder / f"test_data_set_{number}"
        target.mkdir(parents=True)
        for position, array in enumerate(inputs):
            tensor = numpy_helper.from_array(array)
            (target / f"input_{position}.pb").write_bytes(tensor.SerializeToString())
    return folder


def refused(path: Path, inputs: Sequence[InputSpec], match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        list(open_samples(path, inputs).batches(4))
    assert str(path) in str(caught.value)
