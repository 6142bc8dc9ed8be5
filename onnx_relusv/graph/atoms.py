"""Channels on their way through a graph: which of them turn out to be one and the same unit.

Every output channel of a weighted node begins as an atom. Where tensors are added, or a depthwise
Conv binds an output to an input, atoms are merged; where something happens to them that nobody
understands, they are pinned, with the reason.
"""

from collections.abc import Iterable

import numpy as np

from onnx_relusv.graph.channel_records import NO_UNIT, Units


class Atoms:
    """A forest of atoms; those of one tree are one unit."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._reasons: dict[int, str] = {}

    def new(self, count: int) -> Units:
        """(count,) int64: fresh atoms."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return np.arange(first, first + count, dtype=np.int64)

    def merge(self, first: Units, second: Units, reason: str) -> Units:
        """Makes atoms equal, index by index.

        Args:
            first: (length,) int64.
            second: (length,) int64.
            reason: Why an atom stays that meets `NO_UNIT`.

        Returns:
            One of the two, `NO_UNIT` where either is: what goes with a channel that stays, stays.
        """
        result = np.where((first == NO_UNIT) | (second == NO_UNIT), NO_UNIT, first)
        for one, other in zip(first.tolist(), second.tolist(), strict=True):
            if one == NO_UNIT or other == NO_UNIT:
                self.pin([one, other], reason)
            else:
                self._join(self.root(one), self.root(other))
        return result

    def pin(self, atoms: Iterable[int], reason: str) -> None:
        """Lets atoms stay, for a reason; the first one counts."""
        for atom in atoms:
            if atom != NO_UNIT:
                self._reasons.setdefault(self.root(atom), reason)

    def root(self, atom: int) -> int:
        """The atom that stands for all of its tree."""
        root = atom
        while self._parents[root] != root:
            root = self._parents[root]
        while self._parents[atom] != root:
            self._parents[atom], atom = root, self._parents[atom]
        return root

    def reason(self, root: int) -> str | None:
        """Why a tree is pinned; None where it is not."""
        return self._reasons.get(root)

    def _join(self, one: int, other: int) -> None:
        first, last = min(one, other), max(one, other)
        if first == last:
            return
        self._parents[last] = first
        if last in self._reasons:
            self._reasons.setdefault(first, self._reasons.pop(last))
