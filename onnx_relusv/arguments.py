"""Arguments from Python: their types are looked at, and paths may be text."""

import errno
import math
import os
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TypeVar

from onnx_relusv.errors import UsageError

# Characters of a path that messages show.
_SHOWN = 60

StrPath = str | os.PathLike[str]
_Record = TypeVar("_Record")


def as_path(name: str, value: object) -> Path:
    """An argument that names a file or folder.

    Args:
        name: The argument's name, for messages.
        value: `str` or `os.PathLike` of it.

    Raises:
        TypeError: It is neither; bytes are none.
        UsageError: No path looks so: it is empty, too long, or cannot be encoded.
    """
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str):
        raise TypeError(f"{name} is {type(value).__name__}: give a path, as str or pathlib.Path.")
    if not text:
        raise UsageError(f"{name}: the path is empty. Name a file or folder.")
    try:
        os.lstat(text)
    except ValueError as error:  # a NUL, or half a surrogate
        raise UsageError(f"{name} {text!r}: no path looks so ({error}).") from error
    except OSError as error:
        # What is not there is looked for where it is used.
        if error.errno == errno.ENAMETOOLONG:
            raise UsageError(
                f"{name} {text[:_SHOWN]}...: the path is too long, {len(text)} characters."
            ) from error
    return Path(text)


def as_optional_path(name: str, value: object) -> Path | None:
    """The same, where None is no path."""
    return None if value is None else as_path(name, value)


def as_record(name: str, value: _Record | None, kind: type[_Record]) -> _Record:
    """A record of options, the one with all defaults for None.

    Raises:
        TypeError: It is another thing.
    """
    if value is None:
        return kind()
    check_type(name, value, kind, f"a {kind.__name__}, or None")
    return value


def as_whole(name: str, value: object) -> int:
    """A whole number, of Python or of numpy, as Python's.

    Raises:
        TypeError: It is none; True and False are numbers to Python, and none here.
    """
    check_type(name, value, Integral, "a whole number")
    return int(value)  # type: ignore[call-overload, no-any-return]


def as_number(name: str, value: object) -> float:
    """A number, of Python or of numpy, as Python's; a whole one stays one if a float holds it.

    Raises:
        TypeError: It is none.
    """
    check_type(name, value, Real, "a number")
    try:
        found = float(value)  # type: ignore[arg-type]
    except OverflowError:  # whole numbers of Python have no end
        return math.inf
    return value if type(value) is int else found


def as_numbers(name: str, values: object) -> tuple[float, ...]:
    """Several numbers.

    Raises:
        TypeError: It is no tuple or list of them.
    """
    check_type(name, values, (tuple, list), "a tuple of numbers")
    assert isinstance(values, Sequence)
    return tuple(as_number(f"an entry of {name}", value) for value in values)


def as_texts(name: str, values: object) -> tuple[str, ...]:
    """Several texts; a single one is not taken apart into its letters.

    Raises:
        TypeError: It is no tuple or list of texts.
    """
    check_type(name, values, (tuple, list), "a tuple of texts")
    assert isinstance(values, Sequence)
    for value in values:
        check_type(f"an entry of {name}", value, str, "a text")
    return tuple(values)


def check_type(name: str, value: object, expected: type | tuple[type, ...], words: str) -> None:
    """Checks the type of an argument.

    Args:
        name: The argument's name.
        value: What was given.
        expected: The types that are right.
        words: What these are, as in "a whole number".

    Raises:
        TypeError: It is of another one.
    """
    types = expected if isinstance(expected, tuple) else (expected,)
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        given = "None" if value is None else type(value).__name__
        raise TypeError(f"{name} is {given}: give {words}.")


def put(record: object, name: str, value: object) -> None:
    """Sets a field of a frozen record while it is made."""
    object.__setattr__(record, name, value)
