"""Second moments of the inputs of blocks: streamed over the samples, in float64, and shrunk.

Samples run through the original model; for every block input the products of a batch's patches are
added up. Blocks whose `MomentsKey` is the same share their moments. Of a wide block, whose square
array of columns would not fit into memory, a sketch is kept instead (`product_sums`). Where a block
has many more output positions than its moments need (`Enough`), positions are drawn anew for every
batch.

`StoredMoments` are finished ones on disk: however many there are, only those that are looked at
take memory. They lie in the cache, where the next run finds them, or else in a temporary file.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import numpy as np

from onnx_relusv.core.blocks import Block, Floats, Moments, ReadOnlyArrays
from onnx_relusv.core.codec import from_arrays, to_arrays, to_data
from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.kinds import kind_of
from onnx_relusv.core.linear_algebra import (
    UnusableValuesError,
    problem_of,
    problems,
    shrunk,
    square_sum,
    variances,
)
from onnx_relusv.runtime.kernels.moments import patches_kernel
from onnx_relusv.runtime.session import Session, as_array, on_device
from onnx_relusv.runtime.stacks import run_batch
from onnx_relusv.samples.samples import Batch, Samples
from onnx_relusv.spectra.product_sums import ROWS_A_TERM, CovarianceSketch, ProductSums
from onnx_relusv.work.cache import Cache, Fields, Scratch


@dataclass(frozen=True)
class MomentsKey:
    """The tensor and its patches: blocks that share both share their moments."""

    source: str
    groups: int
    columns: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    auto_pad: str
    # Not of what positions are drawn by.
    patches: str = field(default="", repr=False)


def moments_key(block: Block) -> MomentsKey:
    """The key of a block's moments."""
    g = block.geometry
    lengths = g.kernel, g.strides, g.dilations, g.pads
    patches = kind_of(g).patches
    return MomentsKey(block.source, g.groups, g.columns, *lengths, g.auto_pad, patches)


@dataclass(frozen=True)
class Enough:
    """How many rows, patches or vectors, the moments of a block's input need.

    Attributes:
        fewest: Rows, however few columns there are.
        per_column: Rows a column, where these are more.
    """

    fewest: int = 20_000
    per_column: float = 16

    def share(self, share: float) -> "Enough":
        """A share of them."""
        return Enough(ceil(share * self.fewest), share * self.per_column)

    def rows(self, columns: int) -> int:
        """How many rows the moments of so many columns need."""
        return max(self.fewest, ceil(self.per_column * columns))

    def samples(self, block: Block) -> int:
        """How many samples have the rows that the moments of a block's input need."""
        geometry = block.geometry
        positions = kind_of(geometry).positions(block.output_shape)
        return ceil(self.rows(geometry.columns) / max(positions, 1))


ENOUGH = Enough()


@dataclass(frozen=True, eq=False)
class Draw(ReadOnlyArrays):
    """The patches that are taken of a batch.

    Attributes:
        feeds: A kernel's geometry inputs for the whole block.
        rows: How many patches they take.
        places: As `BlockKind.patch_feeds` takes them.
    """

    feeds: dict[str, np.ndarray]
    rows: int
    places: np.ndarray


class Sampling:
    """Draws what a kernel of `runtime/kernels/moments` takes of a block's input.

    Args:
        block: The block.
        samples: How many samples there are in all.
        most: How many rows to take at most; as many as moments need if None.
        enough: How many these are.

    Attributes:
        rows_per_sample: How many rows are taken of a sample, if it has as many.
    """

    def __init__(
        self, block: Block, samples: int, most: int | None = None, enough: Enough = ENOUGH
    ) -> None:
        self._geometry = block.geometry
        rows = enough.rows(block.geometry.columns)
        self.rows_per_sample = ceil(min(rows, most or rows) / samples)

    def draw(self, shape: tuple[int, ...], real: int, size: int, rng: np.random.Generator) -> Draw:
        """Draws the patches of a batch of the input.

        Args:
            shape: Of the block's input.
            real: How many samples of the batch count; the rest pads a fixed batch.
            size: How many samples the batch has.
            rng: Draws positions.
        """
        kind, geometry = kind_of(self._geometry), self._geometry
        available, count, rows = kind.picked(geometry, shape, real, size, self.rows_per_sample)
        places = np.sort(rng.choice(available, count, replace=False))
        return Draw(kind.patch_feeds(geometry, shape, real, places), rows, places)

    def answers(self, values: np.ndarray, draw: Draw, real: int) -> np.ndarray:
        """The values that a tensor of the shape of the block's answer has for the drawn patches.

        Args:
            values: The tensor, of a batch.
            draw: The patches.
            real: How many samples of the batch count.

        Returns:
            (groups, patches, rows), in the order of the kernels.
        """
        return kind_of(self._geometry).answers(self._geometry, values, draw.places, real)


# Of the mean square: above the rounding of float64 sums, below anything that matters.
LEAST_VARIANCE = 1e-9
# Of inputs that are zero: the square of the least float32.
_NO_VARIANCE = 1e-76


def measure_moments(
    session: Session,
    samples: Samples,
    blocks: Iterable[Block],
    *,
    length: int,
    seed: int,
    advance: Callable[[int], None],
    lenient: bool = False,
    terms: Mapping[MomentsKey, int] | None = None,
    enough: Enough = ENOUGH,
) -> Iterator[tuple[MomentsKey, Moments]]:
    """Runs all samples once and gives the moments of the blocks' inputs, one after the other.

    Positions are drawn for every tensor by itself, so that it does not matter which others are
    measured in the same pass.

    Args:
        session: The model with the blocks' sources as outputs.
        samples: The samples.
        blocks: The blocks; those that share moments are measured once.
        length: Samples a batch.
        seed: Draws the positions.
        advance: Called after every batch with the number of its samples.
        lenient: Whether inputs with unusable numbers are left out.
        terms: Of wide blocks, how many directions their sketches keep.
        enough: How many rows moments need.

    Raises:
        UnusableValuesError: An input holds NaN, infinite or too large numbers. Raised after the
            last batch, with all samples for which it does.
    """
    wrong: dict[str, dict[int, str]] = {}
    sums = {
        moments_key(block): _Sum(
            block, samples.count, seed, session, (terms or {}).get(moments_key(block)), enough
        )
        for block in blocks
    }
    sources = sorted({key.source for key in sums})
    for batch in samples.batches(length, stacked=True):
        values = _on_device(session, batch, sources)
        for key, item in sums.items():
            problem = item.add(values[key.source], batch)
            if problem is not None:
                wrong.setdefault(key.source, {}).update(
                    _wrong_places(values[key.source], batch, problem)
                )
        advance(batch.count)
        del values
    for source, places in wrong.items():
        if not lenient:
            raise UnusableValuesError(source, sorted(places), places[min(places)])
        sums = {key: item for key, item in sums.items() if key.source != source}
    for key in list(sums):
        yield key, sums.pop(key).moments(samples.independent)


def _on_device(session: Session, batch: Batch, names: Sequence[str]) -> dict[str, Any]:
    """What a model makes of a batch, as OrtValues."""
    if not batch.stacked:
        return session.run_on_device(batch.feeds, names)
    values = run_batch(session, batch, names)
    return {name: on_device(value, session.provider) for name, value in values.items()}


class _Sum:
    """The running sums of one block's input."""

    def __init__(
        self,
        block: Block,
        samples: int,
        seed: int,
        session: Session,
        terms: int | None,
        enough: Enough,
    ) -> None:
        geometry = block.geometry
        self._provider = session.provider
        self._spatial = kind_of(geometry).spatial
        self._sampling = Sampling(block, samples, terms and ROWS_A_TERM * terms, enough)
        self._rng = np.random.default_rng([seed, zlib.crc32(repr(moments_key(block)).encode())])
        groups, columns = geometry.groups, geometry.columns
        self._sums: ProductSums | list[CovarianceSketch]
        if terms is None:
            self._sums = ProductSums(groups, columns, 0, self._provider)
        else:
            self._sums = [CovarianceSketch(columns, terms) for _ in range(groups)]

    def add(self, values: Any, batch: Batch) -> str | None:
        """Adds the real samples of a batch; `values` is an OrtValue.

        Returns:
            What is wrong with them, which are then not added.
        """
        shape = tuple(values.shape())
        draw = self._sampling.draw(shape, batch.count, batch.size, self._rng)
        kernel = patches_kernel(self._provider, self._spatial, values.element_type())
        z = as_array(kernel.run_on_device({"x": values, **draw.feeds}, ["z"])["z"])
        problem = problem_of(z)
        if problem is not None:
            return problem
        if isinstance(self._sums, ProductSums):
            self._sums.add(z, z[:, :, :0])
        else:
            for sketch, rows in zip(self._sums, z, strict=True):
                sketch.add(rows)
        return None

    def moments(self, samples: int) -> Moments:
        """The moments so far, centred and shrunk; the sums are used up."""
        if not isinstance(self._sums, ProductSums):
            return sketched_moments(self._sums, samples)
        mean, second, _, _ = self._sums.means()
        return _shrunk_in_place(mean, second, self._sums.rows, samples)


def _wrong_places(values: Any, batch: Batch, problem: str) -> dict[int, str]:
    """What is wrong with a block's input, by position of the sample."""
    places = problems(as_array(values), batch.count, batch.size)
    return {batch.start + place: each for place, each in places.items()} or {batch.start: problem}


def shrunk_moments(mean: Floats, second: Floats, rows: int, samples: int) -> Moments:
    """Moments with a shrunk covariance, from raw ones.

    Args:
        mean: (groups, columns).
        second: (groups, columns, columns), not centred.
        rows: How many patches or vectors they are means of.
        samples: How many independent samples those came from.
    """
    return _shrunk_in_place(mean, second.copy(), rows, samples)


def _shrunk_in_place(mean: Floats, second: Floats, rows: int, samples: int) -> Moments:
    """The same, where the covariance takes the place of the raw moments, so that one is held."""
    shares = []
    for group, centre in zip(second, mean, strict=True):
        diagonal = np.diag_indices_from(group)
        # Inputs that hardly vary leave nothing but the difference's rounding, of any sign.
        least = LEAST_VARIANCE * group[diagonal].mean() + _NO_VARIANCE
        for row, value in zip(group, centre, strict=True):
            row -= value * centre
        share = oracle_shrinkage(group, samples)
        level = share * group[diagonal].mean()
        group *= 1 - share
        group[diagonal] += max(level, least)
        shares.append(share)
    return Moments(
        mean=mean, covariance=second, rows=rows, samples=samples, shrinkage=np.array(shares)
    )


def sketched_moments(sketches: Iterable[CovarianceSketch], samples: int) -> Moments:
    """The moments that the sketches of all groups hold, shrunk; the sketches are used up.

    Args:
        sketches: One a group.
        samples: How many independent samples their rows came from.
    """
    means, factored, shares, rows = [], [], [], 0
    for sketch in sketches:
        rows = sketch.count
        mean, covariance = sketch.finished()
        square = float(np.mean(mean**2) + variances(covariance).mean())
        least = LEAST_VARIANCE * square + _NO_VARIANCE
        trace = float(variances(covariance).sum())
        share = _oracle_share(len(mean), square_sum(covariance), trace, samples)
        means.append(mean)
        factored.append(shrunk(covariance, share, least))
        shares.append(share)
    return Moments(
        mean=np.stack(means),
        covariance=tuple(factored),
        rows=rows,
        samples=samples,
        shrinkage=np.array(shares),
    )


def oracle_shrinkage(covariance: Floats, samples: int) -> float:
    """How much of a multiple of the identity to mix into a sample covariance.

    The oracle approximating shrinkage of Chen, Wiesel, Eldar, Hero (2010), equation 23, with the
    number of samples, not of patches: patches of one sample depend on each other.

    Args:
        covariance: (n, n) float64.
        samples: Independent samples it was estimated from.

    Returns:
        A share between 1e-9 and 1.
    """
    square_trace = float(np.einsum("ij,ij->", covariance, covariance))
    return _oracle_share(len(covariance), square_trace, float(np.trace(covariance)), samples)


def _oracle_share(n: int, square_trace: float, trace: float, samples: int) -> float:
    trace_square = trace**2
    numerator = (1 - 2 / n) * square_trace + trace_square
    denominator = (samples + 1 - 2 / n) * (square_trace - trace_square / n)
    if denominator <= 0:
        return 1.0
    return float(min(1.0, max(1e-9, numerator / denominator)))


_KIND = "moments"


class StoredMoments(Mapping[MomentsKey, Moments]):
    """Moments by key; their arrays are mapped whenever they are looked up.

    Args:
        store: Where they lie.
        shared: What decides the moments of every key alike.
        keys: Those to look for; what is there already need not be put.
    """

    def __init__(
        self, store: Cache | Scratch, shared: Fields, keys: Iterable[MomentsKey] = ()
    ) -> None:
        self._store = store
        self._shared = shared
        # Their numbers are looked at once; the store sees to it that they stay.
        self._keys = {key: None for key in keys if self._read(key, numbers=True) is not None}

    def put(self, key: MomentsKey, moments: Moments) -> None:
        """Stores moments.

        Raises:
            UsageError: There is no room for them.
        """
        self._store.put(_KIND, self._fields(key), to_arrays(moments))
        self._keys[key] = None

    def __getitem__(self, key: MomentsKey) -> Moments:
        """Moments whose arrays are on disk, and in memory as far as they are read."""
        if key not in self._keys:
            raise KeyError(key)
        moments = self._read(key, numbers=False)
        if moments is None:
            raise UsageError(
                f"--cache {self._store.folder}: an entry was removed or damaged while it was in "
                "use. Run the command again."
            )
        return moments

    def __iter__(self) -> Iterator[MomentsKey]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def _read(self, key: MomentsKey, *, numbers: bool) -> Moments | None:
        arrays = self._store.mapped(_KIND, self._fields(key))
        if arrays is None:
            return None
        lengths = {"groups": key.groups, "columns": key.columns}
        return from_arrays(Moments, arrays, lengths, numbers=numbers)

    def _fields(self, key: MomentsKey) -> Fields:
        return {**self._shared, "moments": to_data(key)}


@contextmanager
def moments_on_disk() -> Iterator[StoredMoments]:
    """Room for moments in a temporary file, which is gone afterwards, whatever happens.

    Raises:
        UsageError: There can be no temporary file.
    """
    scratch = Scratch()
    try:
        yield StoredMoments(scratch, {})
    finally:
        scratch.close()
