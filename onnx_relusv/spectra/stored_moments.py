"""Finished moments on disk: however many there are, only those that are looked at take memory.

Finished moments in the cache, where the next run finds them.
"""

import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

import numpy as np

from onnx_relusv.core.blocks import FactoredCovariance, Floats, Moments
from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.serial import are_sound, moments_arrays, moments_of
from onnx_relusv.spectra.moments import MomentsKey
from onnx_relusv.work.cache import Cache, Fields
from onnx_relusv.work.temporary_files import nameless_file

_KIND = "moments"


class CachedMoments(Mapping[MomentsKey, Moments]):
    """Moments by key; their covariances are mapped from the cache whenever they are looked up.

    Args:
        cache: With a folder.
        shared: What decides the moments of every key alike.
        wanted: The keys to look for; those that are there already are known from the start.
    """

    def __init__(self, cache: Cache, shared: Fields, wanted: Iterable[MomentsKey]) -> None:
        self._cache = cache
        self._shared = shared
        # Their numbers are looked at once; the cache sees to it that they stay.
        self._known = {
            key: None
            for key in wanted
            if (found := self._found(key)) is not None and are_sound(found)
        }

    def put(self, key: MomentsKey, moments: Moments) -> None:
        """Stores moments.

        Raises:
            UsageError: There is no room for them.
        """
        self._cache.put(_KIND, self._fields(key), moments_arrays(moments))
        self._known[key] = None

    def __getitem__(self, key: MomentsKey) -> Moments:
        """Moments whose covariance is on disk, and in memory as far as it is read."""
        if key not in self._known:
            raise KeyError(key)
        found = self._found(key)
        if found is None:
            raise UsageError(
                f"--cache {self._cache.folder}: an entry was removed or damaged while it was in "
                "use. Run the command again."
            )
        return found

    def __iter__(self) -> Iterator[MomentsKey]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def _found(self, key: MomentsKey) -> Moments | None:
        arrays = self._cache.mapped(_KIND, self._fields(key))
        return None if arrays is None else moments_of(arrays, key.groups, key.columns)

    def _fields(self, key: MomentsKey) -> Fields:
        return {**self._shared, "moments": asdict(key)}


_CHUNK = 64 << 20


@dataclass(frozen=True, eq=False)
class _Place:
    """Where a covariance, or the factors of one, lie, and everything else."""

    offset: int
    shapes: tuple[tuple[int, ...], ...]
    rest: Moments


class StoredMoments(Mapping[MomentsKey, Moments]):
    """Moments by key; their covariances are mapped from the file whenever they are looked up.

    Args:
        file: Number of a file that is open for reading and writing, and empty.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._end = 0
        self._places: dict[MomentsKey, _Place] = {}

    def put(self, key: MomentsKey, moments: Moments) -> None:
        """Stores moments.

        Raises:
            UsageError: There is no room for them.
        """
        covariance = moments.covariance
        parts = (
            [one.factor for one in covariance] if isinstance(covariance, tuple) else [covariance]
        )
        # Only from there on can a file be mapped.
        unit = mmap.ALLOCATIONGRANULARITY
        offset = -(-self._end // unit) * unit
        self._end = offset
        os.lseek(self._file, offset, os.SEEK_SET)
        for part in parts:
            self._write(np.ascontiguousarray(part))
        rest = replace(moments, covariance=_emptied(covariance))
        self._places[key] = _Place(offset, tuple(part.shape for part in parts), rest)

    def _write(self, values: Floats) -> None:
        content = values.reshape(-1).view(np.uint8).data
        while content:
            try:
                written = os.write(self._file, content[:_CHUNK])
            except OSError as error:
                raise UsageError(
                    f"moments cannot be stored in {tempfile.gettempdir()} ({error.strerror}). "
                    "Make room there, or let TMPDIR name another folder."
                ) from error
            content = content[written:]
            self._end += written

    def __getitem__(self, key: MomentsKey) -> Moments:
        """Moments whose covariance is on disk, and in memory as far as it is read."""
        place = self._places[key]
        sizes = [int(np.prod(shape)) for shape in place.shapes]
        values = np.zeros(0)
        if sum(sizes):
            length = 8 * sum(sizes)
            mapped = mmap.mmap(self._file, length, access=mmap.ACCESS_READ, offset=place.offset)
            # The array keeps the map, and the map goes with it.
            values = np.frombuffer(mapped, np.float64)
        parts = [
            part.reshape(shape)
            for part, shape in zip(
                np.split(values, np.cumsum(sizes)[:-1]), place.shapes, strict=True
            )
        ]
        held = place.rest.covariance
        if isinstance(held, tuple):
            factored = (
                FactoredCovariance(factor, one.diagonal)
                for factor, one in zip(parts, held, strict=True)
            )
            return replace(place.rest, covariance=tuple(factored))
        return replace(place.rest, covariance=parts[0])

    def __iter__(self) -> Iterator[MomentsKey]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _emptied(
    covariance: Floats | tuple[FactoredCovariance, ...],
) -> Floats | tuple[FactoredCovariance, ...]:
    """What stays in memory of what lies on disk."""
    if isinstance(covariance, tuple):
        return tuple(
            FactoredCovariance(np.zeros((0, len(one))), one.diagonal) for one in covariance
        )
    return np.zeros((0, 0, 0))


@contextmanager
def moments_on_disk() -> Iterator[StoredMoments]:
    """Room for moments in a temporary file, which is gone afterwards, whatever happens.

    Where the system allows it the file never has a name, so that it is gone even after a crash.

    Raises:
        UsageError: There can be no temporary file.
    """
    with nameless_file() as file:
        yield StoredMoments(file.fileno())
