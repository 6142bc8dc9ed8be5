"""The one way in which records are stored and read: as JSON that people edit, and as arrays.

A record is a frozen dataclass, and its annotations are its schema: numbers, text, truth values,
paths, literals, tuples, further records and numpy's arrays, all of them optional where None is
allowed.
``Annotated`` narrows them by `Limits`, `Axes` and `INCREASING`; what fields have to do with each
other a record says itself, in a method ``problem`` that names what is wrong, or None. A field
without a default has to be there, one whose metadata is `UNSTORED` is in no file.

In JSON, a record is an object and a tuple is a list. Where arrays are stored beside it, as the
cache does, an object with their name stands in their place.
"""

import dataclasses
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

Record = TypeVar("Record")
Arrays = Mapping[str, np.ndarray]

UNSTORED = {"stored": False}
_ARRAY, _RECORD = "array", "record"
# Numbers that are looked at at a time: arrays may be mapped, and larger than memory.
_PIECE = 1 << 22


@dataclass(frozen=True)
class Limits:
    """What a number, or every number of an array, may be; never NaN.

    Attributes:
        least: Itself included.
        most: Itself included.
        above: Itself excluded.
        below: Itself excluded.
    """

    least: float = -math.inf
    most: float = math.inf
    above: float | None = None
    below: float | None = None

    def __str__(self) -> str:
        """As the end of a sentence."""
        parts = []
        if self.above is not None:
            parts.append(f"above {self.above:g}")
        if self.below is not None:
            parts.append(f"below {self.below:g}")
        if self.least > -sys.float_info.max:
            end = "on" if self.most >= sys.float_info.max else f"to {self.most:g}"
            parts.append(f"from {self.least:g} {end}")
        return "".join(f" {part}" for part in (" and ".join(parts),) if part)

    def hold(self, value: float) -> bool:
        """Whether a number is within them."""
        return bool(
            self.least <= value <= self.most
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def hold_all(self, values: np.ndarray, piece: int = _PIECE) -> bool:
        """Whether all numbers of an array are; so many are read at a time."""
        flat = values.reshape(-1)
        parts = (flat[start : start + piece] for start in range(0, flat.size, piece))
        return all(self.hold(part.min()) and self.hold(part.max()) for part in parts)


@dataclass(frozen=True)
class Axes:
    """The lengths of an array, by name.

    What has the same name in a record, or in the record that it lies in, has the same length.
    """

    names: tuple[str, ...]


INCREASING = "increasing numbers"
FINITE = Limits(least=-sys.float_info.max, most=sys.float_info.max)
NonNegative = Annotated[float, Limits(least=0)]
Share = Annotated[float, Limits(above=0, below=1)]
Whole = Annotated[int, Limits(least=0)]
Count = Annotated[int, Limits(least=1)]


class FieldError(ValueError):
    """Data that is not what a record's schema says.

    Args:
        where: The field, as ``choices[3].rank``; empty for all of the data.
        problem: What is wrong with it, and what would be right.
        key: Of the record that the field is of, where it has one.
    """

    def __init__(self, where: str, problem: str, key: str | None = None) -> None:
        places = (where, "" if key is None else f"of {key}")
        place = ", ".join(filter(None, places))
        super().__init__(f"{place}: {problem}" if place else problem)
        self.where, self.problem, self.key = where, problem, key


def to_data(value: Any, arrays: dict[str, np.ndarray] | None = None, where: str = "") -> Any:
    """A record as JSON-ready data.

    Args:
        value: The record, or a tuple of records.
        arrays: Where its arrays go, by what is to be put in their place; None where it has none.
        where: The name that those of the arrays begin with.
    """
    if dataclasses.is_dataclass(value):
        return {
            one.name: to_data(getattr(value, one.name), arrays, f"{where}.{one.name}")
            for one in fields(value)
            if one.metadata.get("stored", True)
        }
    if isinstance(value, tuple):
        return [to_data(one, arrays, f"{where}[{place}]") for place, one in enumerate(value)]
    if isinstance(value, np.ndarray):
        if arrays is None:
            raise TypeError(f"{where}: JSON has no arrays")
        name = where.lstrip(".")
        arrays[name] = value
        return {_ARRAY: name}
    if isinstance(value, Path):
        return str(value)
    return value.item() if isinstance(value, np.generic) else value


def from_data(kind: type[Record], data: Any, where: str = "") -> Record:
    """The record that JSON's data is.

    Args:
        kind: The record's type, or a tuple's.
        data: As `json` reads it. Infinity and NaN are no numbers.
        where: What stands before the field in errors.

    Raises:
        FieldError: A field is missing, unknown, or not what it may be; the first that is found.
    """
    found: Record = _Reader().read(kind, data, where, {})
    return found


def to_arrays(value: Any) -> dict[str, np.ndarray]:
    """A record as arrays: its own, and the bytes of its JSON, in which NaN and infinity may be."""
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(to_data(value, arrays), separators=(",", ":"))
    return {_RECORD: np.frombuffer(text.encode(), np.uint8), **arrays}


def from_arrays(
    kind: type[Record],
    arrays: Arrays,
    lengths: Mapping[str, int] | None = None,
    *,
    numbers: bool = True,
) -> Record | None:
    """The record that arrays were made of; None where they are of no such record.

    Args:
        kind: The record's type, or a tuple's.
        arrays: As `to_arrays` gave them; they may be mapped, and are not copied.
        lengths: Of axes, by name, as far as they are known.
        numbers: Whether arrays' numbers are looked at, which reads all of them.
    """
    text = arrays.get(_RECORD)
    if text is None or text.dtype != np.uint8:
        return None
    reader = _Reader(arrays, numbers)
    try:
        found: Record = reader.read(kind, json.loads(text.tobytes()), "", dict(lengths or {}))
    except (ValueError, TypeError, RecursionError):
        return None
    return found if reader.used == set(arrays) - {_RECORD} else None


class _Reader:
    """Reads data by annotations; of plain JSON without arrays."""

    def __init__(self, arrays: Arrays | None = None, numbers: bool = True) -> None:
        self._arrays = arrays
        self._numbers = numbers
        self.used: set[str] = set()

    def read(self, kind: Any, data: Any, where: str, lengths: dict[str, int]) -> Any:
        kind, limits, axes, increasing, optional = schema(kind)
        if data is None and optional:
            return None
        expected = _expected(kind, limits) + (", or null" if optional else "")
        if get_origin(kind) in (UnionType, Union):
            is_array = isinstance(data, dict) and set(data) == {_ARRAY}
            kinds = [one for one in get_args(kind) if is_array == (schema(one)[2] is not None)]
            if len(kinds) == 1:
                return self.read(kinds[0], data, where, lengths)
        elif dataclasses.is_dataclass(kind):
            if isinstance(data, dict):
                return self._record(kind, data, where, dict(lengths))
        elif get_origin(kind) is np.ndarray:
            return self._array(kind, data, limits, axes, where, lengths)
        elif get_origin(kind) is tuple:
            of = get_args(kind)
            if isinstance(data, list) and (of[-1] is ... or len(of) == len(data)):
                each = [of[0]] * len(data) if of[-1] is ... else of
                found = tuple(
                    self.read(one, value, f"{where}[{place}]", lengths)
                    for place, (one, value) in enumerate(zip(each, data, strict=True))
                )
                if increasing:
                    _check_increasing(found, where)
                return found
        elif kind is Path and isinstance(data, str):
            return Path(data)
        elif self._is_value(kind, data) and (limits is None or limits.hold(data)):
            return data
        raise FieldError(where, f"{_shown(data)}; use {expected}.")

    def _is_value(self, kind: Any, data: Any) -> bool:
        if get_origin(kind) is Literal:
            return isinstance(data, str) and data in get_args(kind)
        if kind is float:
            number = isinstance(data, int | float) and not isinstance(data, bool)
            # JSON's whole numbers may exceed every float.
            return number and (self._arrays is not None or abs(data) <= sys.float_info.max)
        return type(data) is kind

    def _record(self, kind: Any, data: dict[str, Any], where: str, lengths: dict[str, int]) -> Any:
        known = _fields(kind)
        try:
            for name, (_, required) in known.items():
                if required and name not in data:
                    raise FieldError(where, f"the field {name} is missing.")
            for name in data:
                if name not in known:
                    raise FieldError(where, f"the field {name} is unknown; use {', '.join(known)}.")
            # In the order of the schema: the first array that names an axis says how long it is.
            values = {
                name: self.read(of, data[name], f"{where}.{name}".lstrip("."), lengths)
                for name, (of, _) in known.items()
                if name in data
            }
            found = kind(**values)
            problem = found.problem() if self._numbers and hasattr(kind, "problem") else None
            if problem is not None:
                raise FieldError(where, problem)
        except FieldError as error:
            key = data.get("key")
            if error.key is None and isinstance(key, str):
                raise FieldError(error.where, error.problem, key) from None
            raise
        return found

    def _array(
        self,
        kind: Any,
        data: Any,
        limits: Limits | None,
        axes: Axes | None,
        where: str,
        lengths: dict[str, int],
    ) -> np.ndarray:
        if self._arrays is None or not isinstance(data, dict) or set(data) != {_ARRAY}:
            raise FieldError(where, f"{_shown(data)}; use an array's name.")
        name = data[_ARRAY]
        values = self._arrays[name] if isinstance(name, str) and name in self._arrays else None
        (dtype,) = get_args(get_args(kind)[1])
        if values is None or values.dtype != dtype or name in self.used:
            raise FieldError(where, f"no array of {dtype.__name__}.")
        self.used.add(name)
        if axes is not None and len(axes.names) != values.ndim:
            raise FieldError(where, f"{values.ndim} axes; use {len(axes.names)}.")
        for axis, length in zip(() if axes is None else axes.names, values.shape, strict=False):
            if lengths.setdefault(axis, length) != length:
                raise FieldError(where, f"{length} {axis}; use {lengths[axis]}.")
        if self._numbers and limits is not None and not limits.hold_all(values):
            raise FieldError(where, f"some numbers; use numbers{limits}, and not NaN.")
        return values


def _check_increasing(values: tuple[Any, ...], where: str) -> None:
    for one, following in pairwise(values):
        if one >= following:
            raise FieldError(where, f"{following} stands behind {one}; use {INCREASING}.")


Schema = tuple[Any, Limits | None, Axes | None, bool, bool]


@cache
def schema(annotation: Any) -> Schema:
    """An annotation without what narrows it, that, and whether None is allowed."""
    further: list[Any] = []
    if get_origin(annotation) is Annotated:
        annotation, *further = get_args(annotation)
    optional = False
    if get_origin(annotation) in (UnionType, Union):
        members = tuple(one for one in get_args(annotation) if one is not NoneType)
        optional = len(members) < len(get_args(annotation))
        if len(members) == 1:
            inner = schema(members[0])
            return (*inner[:4], optional)
    limits = next((one for one in further if isinstance(one, Limits)), None)
    axes = next((one for one in further if isinstance(one, Axes)), None)
    return annotation, limits, axes, INCREASING in further, optional


@cache
def _fields(kind: Any) -> dict[str, tuple[Any, bool]]:
    """The fields of a record that are stored: annotations, and whether they have to be there."""
    hints = get_type_hints(kind, include_extras=True)
    return {
        one.name: (
            hints[one.name],
            one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING,
        )
        for one in fields(kind)
        if one.metadata.get("stored", True)
    }


@cache
def _expected(kind: Any, limits: Limits | None) -> str:
    """What a value may be, in words."""
    names: dict[Any, str] = {int: "a whole number", float: "a number", str: "text", Path: "text"}
    if kind in names:
        return f"{names[kind]}{limits or ''}"
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) is tuple:
        first, *others = get_args(kind)
        each = _expected(*schema(first)[:2]).split(" ", 1)[-1]
        each = each.replace("text", "texts").replace("number", "numbers")
        count = "" if others == [...] else f"{len(others) + 1} "
        return f"a list of {count}{each.replace('object', 'objects')}"
    return "true or false" if kind is bool else "an object with fields"


def _shown(data: Any) -> str:
    """A value in a message; long ones are cut."""
    text = repr(data)
    return text if len(text) <= 100 else f"{text[:100]}..."


def json_text(value: Any, indent: str = "") -> str:
    """Strict JSON, one field or object a line, and lists of plain values on one line.

    Args:
        value: JSON-ready data.
        indent: What its line begins with.

    Raises:
        ValueError: The data holds a number that JSON does not have.
    """
    deeper = indent + "  "
    if isinstance(value, dict) and value:
        entries = (
            f"{deeper}{_plain(name)}: {json_text(one, deeper)}" for name, one in value.items()
        )
        return "{\n" + ",\n".join(entries) + f"\n{indent}}}"
    if isinstance(value, list | tuple) and any(
        isinstance(one, dict | list | tuple) for one in value
    ):
        items = (deeper + json_text(one, deeper) for one in value)
        return "[\n" + ",\n".join(items) + f"\n{indent}]"
    return _plain(value)


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
