"""Samples on their way through a model, segment by segment, in temporary files."""

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from typing import Any

import numpy as np

from onnx_relusv.runtime.session import Session
from onnx_relusv.runtime.stacks import ran, together
from onnx_relusv.work.disk_arrays import ArrayFile, Place

Values = Mapping[str, Any]
_NOTHING: Values = {}


class Stream:
    """The tensors that are alive at one place of a model, for every batch.

    They lie in a temporary file and are mapped into memory when they are read, so samples need not
    fit into memory. A sequence is a list of them. A stream is never changed; `advanced` makes the
    next one.

    Args:
        batches: What is alive, one mapping a batch.
        stacked: Whether batches are stacks of runs, as of `Samples.batches`: they are read as if
            the model had run on all of a stack, and run one by one.

    Raises:
        UsageError: There can be no temporary file, or there is no room for it.
    """

    def __init__(self, batches: Iterator[Values], *, stacked: bool = False) -> None:
        self._file = ArrayFile()
        self._stacked = stacked
        self._changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
        self._batches = [
            {name: self._stored(value) for name, value in values.items()} for values in batches
        ]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """What is alive, batch by batch."""
        return map(self._whole, self._read())

    @property
    def example(self) -> dict[str, Any]:
        """What is alive in the first run."""
        values = next(self._read())
        return {name: stack[0, ...] for name, stack in values.items()} if self._stacked else values

    def through(self, changes: Mapping[str, Callable[[np.ndarray], np.ndarray]]) -> "Stream":
        """The same place with some tensors changed, each time that they are read.

        Both lie in one file, which is dropped with either.

        Args:
            changes: By tensor, what is made of it, number by number.
        """
        changed = copy(self)
        changed._changes = {**self._changes, **changes}
        return changed

    def ran(self, session: Session | None, shared: Values = _NOTHING) -> Iterator[dict[str, Any]]:
        """What is alive, batch by batch, with what a session computes of it.

        Args:
            session: Some of what it reads is alive here; None where nothing is computed.
            shared: What else it reads, the same in all batches.
        """
        for values in self._read():
            yield self._whole({**values, **self._computed(session, values, shared)})

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
            for values in self._read():
                computed = self._computed(session, values, _NOTHING)
                advance(1)
                yield {name: computed[name] if name in computed else values[name] for name in live}

        return Stream(moved(), stacked=self._stacked)

    def drop(self) -> None:
        """Lets the stream's file go."""
        self._file.close()

    def _computed(self, session: Session | None, values: Values, shared: Values) -> dict[str, Any]:
        if session is None:
            return {}
        feeds = {name: values[name] for name in session.input_names if name not in shared}
        if self._stacked:
            return ran(session, len(next(iter(values.values()))), feeds, shared=shared)
        return session.run({**shared, **feeds})

    def _read(self) -> Iterator[dict[str, Any]]:
        """What is alive, batch by batch, runs stacked where they are."""
        for batch in self._batches:
            values: dict[str, Any] = {
                name: [self._file.mapped(member) for member in stored]
                if isinstance(stored, list)
                else self._file.mapped(stored)
                for name, stored in batch.items()
            }
            yield values | {name: make(values[name]) for name, make in self._changes.items()}

    def _whole(self, values: Values) -> dict[str, Any]:
        if not self._stacked:
            return dict(values)
        return {name: together(stack) for name, stack in values.items()}

    def _stored(self, value: Any) -> Place | list[Place]:
        if isinstance(value, list):
            return [self._file.put(np.asarray(member)) for member in value]
        return self._file.put(np.asarray(value))
