"""What samples are like by themselves: inputs that never vary, samples that are there twice.

One pass over them, in batches; of every sample a hash of eight bytes is kept.
"""

import hashlib
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from onnx_relusv.records import Floats
from onnx_relusv.samples import Samples

_BATCH = 64

# By input name, what becomes of its values in front of the model's first layer.
Shown = Mapping[str, Callable[[np.ndarray], Floats]]


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of all of an input's values."""

    mean: float
    deviation: float


@dataclass(frozen=True)
class SampleFacts:
    """What samples are like.

    Attributes:
        constant: Names of the inputs that are the same in all samples.
        repeated: How many samples are equal to an earlier one in all inputs.
        spread: Of the inputs that were to be looked at, by name.
    """

    constant: tuple[str, ...]
    repeated: int
    spread: Mapping[str, Spread]


def sample_facts(samples: Samples, shown: Shown, advance: Callable[[int], None]) -> SampleFacts:
    """Looks at all samples once.

    Args:
        samples: The samples.
        shown: Of which inputs the spread is wanted, and what is made of their values before.
        advance: Told after every batch how many samples it had.

    Raises:
        InputError: The file is damaged, or a value is NaN, infinite or out of range.
    """
    first: dict[str, np.ndarray] = {}
    varies: set[str] = set()
    hashes = array("Q")
    # By name: how many values, their sum, that of their squares.
    sums = {name: np.zeros(3) for name in shown}
    for batch in samples.batches(_BATCH):
        feeds = samples.rows(batch)
        for name, values in feeds.items():
            start = first.setdefault(name, values[0].copy())
            if name not in varies and not np.array_equal(
                values, np.broadcast_to(start, values.shape)
            ):
                varies.add(name)
        hashes.extend(
            _hash([values[row] for values in feeds.values()]) for row in range(batch.count)
        )
        for name, total in sums.items():
            values = shown[name](feeds[name])
            total += (values.size, values.sum(), np.square(values).sum())
        advance(batch.count)
    return SampleFacts(
        constant=tuple(name for name in first if name not in varies),
        repeated=len(hashes) - len(np.unique(np.frombuffer(hashes, np.uint64))),
        spread={name: _spread(*total) for name, total in sums.items()},
    )


def _hash(arrays: list[np.ndarray]) -> int:
    digest = hashlib.blake2b(digest_size=8)
    for values in arrays:
        # Arrays of text hold references, which say nothing of it.
        text = values.dtype.kind in "OUS"
        digest.update(repr(values.tolist()).encode() if text else values.tobytes())
    return int.from_bytes(digest.digest(), "little")


def _spread(count: float, total: float, squares: float) -> Spread:
    mean = total / count
    return Spread(float(mean), float(np.sqrt(max(squares / count - mean**2, 0.0))))
