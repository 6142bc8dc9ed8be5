"""Samples on their way through a model, segment by segment, in temporary files."""

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from typing import Any

import numpy as np

from onnx_relusv.runtime.session import Session
from onnx_relusv.work.disk_arrays import ArrayFile, Place

Values = Mapping[str, Any]


class Stream:
    """The tensors that are alive at one place of a model, for every batch.

    They lie in a temporary file and are mapped into memory when they are read, so samples need not
    fit into memory. A sequence is a list of them. A stream is never changed; `advanced` makes the
    next one.

    Args:
        batches: What is alive, one mapping a batch.

    Raises:
        UsageError: There can be no temporary file, or there is no room for it.
    """

    def __init__(self, batches: Iterator[Values]) -> None:
        self._file = ArrayFile()
        self._changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
        self._batches = [
            {name: self._stored(value) for name, value in values.items()} for values in batches
        ]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """What is alive, batch by batch."""
        for batch in self._batches:
            values: dict[str, Any] = {
                name: [self._file.mapped(member) for member in stored]
                if isinstance(stored, list)
                else self._file.mapped(stored)
                for name, stored in batch.items()
            }
            yield values | {name: make(values[name]) for name, make in self._changes.items()}

    def through(self, changes: Mapping[str, Callable[[np.ndarray], np.ndarray]]) -> "Stream":
        """The same place with some tensors changed, each time that they are read.

        Both lie in one file, which is dropped with either.
        """
        changed = copy(self)
        changed._changes = {**self._changes, **changes}
        return changed

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

        return Stream(moved())

    def drop(self) -> None:
        """Lets the stream's file go."""
        self._file.close()

    def _stored(self, value: Any) -> Place | list[Place]:
        if isinstance(value, list):
            return [self._file.put(np.asarray(member)) for member in value]
        return self._file.put(np.asarray(value))
