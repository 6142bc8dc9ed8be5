"""Samples on their way through a model, segment by segment, in temporary files."""

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from onnx_relusv.runtime.session import Session

Values = Mapping[str, Any]
_Stored = tuple[Path, np.dtype[np.generic]]


class Stream:
    """The tensors that are alive at one place of a model, for every batch.

    Every tensor of every batch is a file that is mapped into memory when it is read, so samples
    need not fit into memory. A sequence is a list of them. A stream is never changed; `advanced`
    makes the next one.

    Args:
        folder: Where files go; the caller removes it.
        batches: What is alive, one mapping a batch.
    """

    def __init__(self, folder: Path, batches: Iterator[Values]) -> None:
        self._folder = folder
        self._batches = [self._stored(values) for values in batches]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """What is alive, batch by batch."""
        for batch in self._batches:
            yield {
                name: [_mapped(*member) for member in stored]
                if isinstance(stored, list)
                else _mapped(*stored)
                for name, stored in batch.items()
            }

    def advanced(
        self, session: Session | None, live: tuple[str, ...], advance: Callable[[int], None]
    ) -> "Stream":
        """The stream at a later place.

        Args:
            session: Leads from what is alive here to what is alive there; None where nothing
                has to be computed.
            live: What is alive there.
            advance: Called with 1 after every batch.
        """

        def moved() -> Iterator[Values]:
            for values in self:
                computed: dict[str, Any] = {}
                if session is not None:
                    feeds = {name: values[name] for name in session.input_names}
                    computed = session.run(feeds)
                advance(1)
                yield {name: computed[name] if name in computed else values[name] for name in live}

        return Stream(self._folder, moved())

    def drop(self) -> None:
        """Removes the stream's files."""
        for batch in self._batches:
            for stored in batch.values():
                for path, _ in stored if isinstance(stored, list) else [stored]:
                    path.unlink(missing_ok=True)

    def _stored(self, values: Values) -> dict[str, _Stored | list[_Stored]]:
        return {
            name: [self._array(member) for member in value]
            if isinstance(value, list)
            else self._array(value)
            for name, value in values.items()
        }

    def _array(self, value: Any) -> _Stored:
        value = np.asarray(value)
        path = self._folder / f"{next(_NUMBERS)}.npy"
        stored = value
        # Files cannot hold bfloat16, but its bits as whole numbers. Objects are text.
        if value.dtype.name == "bfloat16":
            stored = value.view(np.uint16)
        elif value.dtype.hasobject:
            stored = value.astype(np.str_)
        np.save(path, stored)
        return path, value.dtype


_NUMBERS = count()


def _mapped(path: Path, dtype: np.dtype[np.generic]) -> np.ndarray:
    # Arrays without axes or elements cannot be mapped.
    try:
        values = np.load(path, mmap_mode="r")
    except ValueError:
        values = np.load(path)
    if dtype.hasobject:
        return np.asarray(values.astype(object))
    return np.asarray(values.view(dtype) if values.dtype != dtype else values)
