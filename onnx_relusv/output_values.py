"""What a run gives for an output, as arrays: a tensor, a sequence, a map, text, or nothing.

onnxruntime gives arrays for tensors, lists for sequences, dictionaries for maps, lists of these for
sequences of maps, such as a ZipMap makes, and None for an optional value that is not there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnx_relusv.output_change import OutputForm

Key = int | str


@dataclass(frozen=True, eq=False)
class OutputValue:
    """One output of one run.

    Attributes:
        form: What it is.
        arrays: A tensor's own; of a sequence one a member; of maps one, (maps, keys), or (keys,) of
            a single one.
        keys: Of maps, in the order of the last axis.
    """

    form: OutputForm
    arrays: tuple[np.ndarray, ...]
    keys: tuple[Key, ...] = ()


def output_value(found: Any) -> OutputValue:
    """Reads what a run gave for an output."""
    if found is None:
        return OutputValue("nothing", ())
    if isinstance(found, Mapping):
        keys = _in_order(found)
        return OutputValue("map", (np.asarray([found[key] for key in keys]),), keys)
    if isinstance(found, list | tuple):
        if found and all(isinstance(one, Mapping) for one in found):
            return _maps(found)
        return OutputValue("sequence", tuple(_array(one) for one in found))
    return OutputValue("tensor", (_array(found),))


def real_part(value: OutputValue, count: int, size: int) -> OutputValue:
    """An output without what belongs to samples that only pad a fixed batch.

    Args:
        value: Of a batch.
        count: How many samples of the batch are real.
        size: How many it has.
    """
    if count == size:
        return value
    arrays = value.arrays
    if value.form == "sequence" and len(arrays) == size:
        arrays = arrays[:count]
    else:
        arrays = tuple(one[:count] if one.ndim and len(one) == size else one for one in arrays)
    return OutputValue(value.form, arrays, value.keys)


def aligned(first: OutputValue, second: OutputValue) -> tuple[OutputValue, OutputValue]:
    """Two maps with the keys of both in the same order, zero where one has no such key."""
    if first.keys == second.keys or "map" not in (first.form, second.form):
        return first, second
    keys = _in_order({**dict.fromkeys(first.keys), **dict.fromkeys(second.keys)})
    return _with_keys(first, keys), _with_keys(second, keys)


def _with_keys(value: OutputValue, keys: tuple[Key, ...]) -> OutputValue:
    if value.form != "map":
        return value
    (array,) = value.arrays
    places = {key: place for place, key in enumerate(value.keys)}
    spread = np.zeros((*array.shape[:-1], len(keys)), array.dtype)
    for place, key in enumerate(keys):
        if key in places:
            spread[..., place] = array[..., places[key]]
    return OutputValue("map", (spread,), keys)


def _maps(found: Sequence[Mapping[Key, Any]]) -> OutputValue:
    keys = _in_order({key: None for one in found for key in one})
    rows = [[one.get(key, 0) for key in keys] for one in found]
    return OutputValue("map", (np.asarray(rows).reshape(len(rows), len(keys)),), keys)


def _in_order(keys: Mapping[Key, Any]) -> tuple[Key, ...]:
    return tuple(sorted(keys, key=lambda key: (isinstance(key, str), key)))


def _array(found: Any) -> np.ndarray:
    if isinstance(found, np.ndarray | np.generic):
        return np.asarray(found)
    # A text by itself, or a member that is no array.
    return np.asarray(found, dtype=object if isinstance(found, str | list) else None)
