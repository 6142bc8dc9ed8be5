"""Finished moments on disk: however many there are, only those that are looked at take memory.

They lie in the cache, where the next run finds them, or without one in a temporary file.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from onnx_relusv.core.blocks import Moments
from onnx_relusv.core.codec import from_arrays, to_arrays, to_data
from onnx_relusv.core.errors import UsageError
from onnx_relusv.spectra.moments import MomentsKey
from onnx_relusv.work.cache import Cache, Fields, Scratch

_KIND = "moments"


class StoredMoments(Mapping[MomentsKey, Moments]):
    """Moments by key; their arrays are mapped whenever they are looked up.

    Args:
        store: Where they lie.
        shared: What decides the moments of every key alike.
        wanted: The keys to look for; those that are there already are known from the start.
    """

    def __init__(
        self, store: Cache | Scratch, shared: Fields, wanted: Iterable[MomentsKey] = ()
    ) -> None:
        self._store = store
        self._shared = shared
        # Their numbers are looked at once; the store sees to it that they stay.
        self._known = {key: None for key in wanted if self._found(key, numbers=True) is not None}

    def put(self, key: MomentsKey, moments: Moments) -> None:
        """Stores moments.

        Raises:
            UsageError: There is no room for them.
        """
        self._store.put(_KIND, self._fields(key), to_arrays(moments))
        self._known[key] = None

    def __getitem__(self, key: MomentsKey) -> Moments:
        """Moments whose arrays are on disk, and in memory as far as they are read."""
        if key not in self._known:
            raise KeyError(key)
        found = self._found(key, numbers=False)
        if found is None:
            raise UsageError(
                f"--cache {self._store.folder}: an entry was removed or damaged while it was in "
                "use. Run the command again."
            )
        return found

    def __iter__(self) -> Iterator[MomentsKey]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def _found(self, key: MomentsKey, *, numbers: bool) -> Moments | None:
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
