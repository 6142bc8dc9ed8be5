"""Finished moments in the cache, where the next run finds them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict

from onnx_relusv.cache import Cache, Fields
from onnx_relusv.entries.moments import are_sound, moments_arrays, moments_of
from onnx_relusv.errors import UsageError
from onnx_relusv.records import Moments
from onnx_relusv.spectra.moments_key import MomentsKey

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
