"""Fitted factors in the cache.

A block is fitted to what the blocks before it deliver, and which sums it mends depends on the
changes behind it: so its factors belong to all changes of a plan together.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnx_relusv import forms
from onnx_relusv.cache import Fields
from onnx_relusv.decisions import Factors, Kept
from onnx_relusv.entries.factors import factors_arrays, factors_of
from onnx_relusv.fitted import Change
from onnx_relusv.opened import Opened
from onnx_relusv.reduction import reduced_geometry

_KIND = "factors"


class KeptFits:
    """The fits of some changes.

    Args:
        opened: The model and its samples, split.
        changes: All that are fitted together.
    """

    def __init__(self, opened: Opened, changes: Sequence[Change]) -> None:
        listed = [
            (change.block.key, change.form, change.rank, _places(change.kept)) for change in changes
        ]
        self._opened = opened
        self._changes = changes
        self._digest = hashlib.sha256(json.dumps(listed).encode()).hexdigest()

    def known(self) -> dict[str, Factors]:
        """The factors that were found before, by block key."""
        found = {change.block.key: self._found(change) for change in self._changes}
        return {key: factors for key, factors in found.items() if factors is not None}

    def _found(self, change: Change) -> Factors | None:
        arrays = self._opened.cache.get(_KIND, self._fields(change))
        if arrays is None:
            return None
        geometry = reduced_geometry(change.block.geometry, change.kept)
        shapes = [
            (geometry.groups, *shape) for shape in forms.shapes(change.form, geometry, change.rank)
        ]
        factors = factors_of(arrays, change.form, change.rank, shapes, geometry.out_channels)
        return None if factors is None else replace(factors, kept=change.kept)

    def put(self, change: Change, factors: Factors) -> None:
        """Keeps factors.

        Raises:
            UsageError: There is no room for them.
        """
        self._opened.cache.put(_KIND, self._fields(change), factors_arrays(factors))

    def _fields(self, change: Change) -> Fields:
        return {
            **self._opened.identity,
            "changes": self._digest,
            "block": change.block.key,
        }


def _places(kept: Kept | None) -> list[list[int]] | None:
    if kept is None:
        return None
    # Which are dead depends on what the user declared; which are equal, on the model alone.
    dead = [] if kept.dead is None else np.flatnonzero(kept.dead).tolist()
    return [kept.inputs.tolist(), kept.outputs.tolist(), dead]
