"""Arguments from Python: their types are looked at, and paths may be text.

Which blocks and groups of units a run may change, by --include and --exclude.
"""

import difflib
import errno
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from numbers import Integral, Real
from pathlib import Path
from typing import TypeVar

from onnx_relusv.core.errors import UsageError

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


_OPERATOR = "op:"
# Names that a message offers in place of one that is not there.
_OFFERED = 3


@dataclass(frozen=True)
class Target:
    """Something in a model that a pattern can name.

    Attributes:
        key: The tensor that leaves a block, or that another weighted node writes.
        names: Further names: of the nodes, and of the tensor that its linear map writes.
        operator: The operator of its linear map.
        refused: Why it is no block; None for a block.
    """

    key: str
    names: tuple[str, ...] = ()
    operator: str = ""
    refused: str | None = None

    def matches(self, pattern: str) -> bool:
        """Whether a pattern, a glob or an exact name, means it."""
        if pattern.startswith(_OPERATOR):
            return _fits(self.operator, pattern.removeprefix(_OPERATOR))
        return any(_fits(name, pattern) for name in (self.key, *self.names))


@dataclass(frozen=True)
class Selection:
    """What stays as it is because the user says so.

    Attributes:
        left_out: Keys of what matches no --include where there is one, or an --exclude.
        excluded: Keys of what matches an --exclude.
        notes: Sentences on patterns that only match what is left alone anyway.
    """

    left_out: frozenset[str] = frozenset()
    excluded: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def select(targets: Sequence[Target], include: Sequence[str], exclude: Sequence[str]) -> Selection:
    """Finds what patterns mean.

    Args:
        targets: All that can be named.
        include: Patterns; what matches none of them is left out. All if empty.
        exclude: Patterns of what is left out.

    Raises:
        UsageError: A pattern matches nothing.
    """
    notes = []
    for option, patterns in (("--include", include), ("--exclude", exclude)):
        for pattern in patterns:
            found = [target for target in targets if target.matches(pattern)]
            if not found:
                raise UsageError(_nothing(option, pattern, targets))
            if all(target.refused is not None for target in found):
                notes.append(
                    f"{option} {pattern} matches no block; {found[0].key} is left alone anyway: "
                    f"{found[0].refused}."
                )
    return Selection(
        frozenset(one.key for one in targets if not is_allowed(one, include, exclude)),
        frozenset(one.key for one in targets if any(map(one.matches, exclude))),
        tuple(notes),
    )


def is_allowed(target: Target, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether patterns let something change."""
    included = not include or any(map(target.matches, include))
    return included and not any(map(target.matches, exclude))


def _fits(name: str, pattern: str) -> bool:
    # Names may have brackets in them, which a glob reads otherwise.
    return name == pattern or fnmatchcase(name, pattern)


def _nothing(option: str, pattern: str, targets: Iterable[Target]) -> str:
    """What is said of a pattern that matches nothing."""
    # By how they may have been written: an operator without its prefix, too.
    names: dict[str, str] = {}
    for target in targets:
        operator = _OPERATOR + target.operator
        spelled = [(target.operator, operator), (operator, operator)]
        if not pattern.startswith(_OPERATOR):
            spelled = [*((name, name) for name in (target.key, *target.names)), *spelled]
        for spelling, name in spelled:
            names.setdefault(spelling.casefold(), name)
    if not names:
        return f"{option} {pattern}: this model has no blocks; leave it away."
    near = difflib.get_close_matches(pattern.casefold(), names, n=_OFFERED, cutoff=0.5)
    # Where nothing looks alike, what comes first is an example.
    offered = [names[spelling] for spelling in near or names]
    return (
        f"{option} {pattern}: matches no block and nothing that was refused, by key, node name or "
        f"operator. The nearest names are {', '.join(list(dict.fromkeys(offered))[:_OFFERED])}."
    )
