"""Arguments from Python: their types are checked, and paths may be text.

Options: a field of a record that is an option of the command line declares it once, with its name,
type, default, range and help; the record's checks and the command line follow from that.

Which blocks and groups of units a run may change, by --include and --exclude.
"""

import difflib
import errno
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields, is_dataclass, replace
from fnmatch import fnmatchcase
from numbers import Integral, Real
from pathlib import Path
from types import GenericAlias, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from onnx_relusv.core.codec import Limits, schema
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


def converted(name: str, value: object, kind: Any) -> Any:
    """A value as a record of options holds it; numbers of numpy become Python's.

    Args:
        name: The argument's name.
        value: The value.
        kind: The type that it is to have: int, float, str, Path, a Literal, a class, or a tuple of
            one of these. A whole number stays one where a float is expected and holds it.

    Raises:
        TypeError: It is of another type. True and False are no numbers here, and a single text is
            not taken apart into its letters.
    """
    if get_origin(kind) is Literal:
        check_type(name, value, str, either(get_args(kind)))
        return value
    if get_origin(kind) is tuple:
        each = get_args(kind)[0]
        check_type(name, value, (tuple, list), f"a tuple of {_KINDS[each][1].split()[-1]}s")
        assert isinstance(value, Sequence)
        return tuple(converted(f"an entry of {name}", part, each) for part in value)
    if kind is Path:
        return as_path(name, value)
    check_type(name, value, *_KINDS.get(kind, (kind, f"a {kind.__name__}")))
    if kind is int:
        return int(value)  # type: ignore[call-overload]
    if kind is float and type(value) is not int:
        return float(value)  # type: ignore[arg-type]
    # Whole numbers of Python have no end.
    return math.inf if kind is float and value > sys.float_info.max else value  # type: ignore[operator]


_KINDS: Mapping[type, tuple[type, str]] = {
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "a text"),
}


def either(choices: Sequence[str]) -> str:
    """Some texts, of which one is to be chosen."""
    return f"{', '.join(choices[:-1])} or {choices[-1]}"


def check_type(name: str, value: object, expected: type | tuple[type, ...], words: str) -> None:
    """Checks the type of an argument.

    Args:
        name: The argument's name.
        value: The value.
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


@dataclass(frozen=True)
class Option:
    """What a field of a record declares about its option.

    Attributes:
        help: What the command line says of it.
        name: Its long name without dashes; that of the field unless it is given.
        metavar: What stands for its value there.
        joined: Whether several values are one text with commas between them.
        stated: Whether a report states it among the settings that repeat a run.
        field: The field, as all that follows known from it by `options_of`.
        kind: The type of its values, besides None.
        word: A text that it may be in place of a number; empty where there is none.
        limits: The range of its numbers; None where they have none.
        optional: Whether it may be None.
        default: Its default.
    """

    help: str
    _: KW_ONLY
    name: str = ""
    metavar: str | None = None
    joined: bool = False
    stated: bool = True
    field: str = ""
    kind: Any = None
    word: str = ""
    limits: Limits | None = None
    optional: bool = False
    default: Any = None

    @property
    def choices(self) -> tuple[str, ...]:
        """The texts that it may be; none unless it is one of a few."""
        return get_args(self.kind) if get_origin(self.kind) is Literal else ()

    def check(self, value: Any) -> None:
        """Checks that a value of its type is in its range.

        Raises:
            UsageError: It is not.
        """
        if self.choices and value not in self.choices:
            raise UsageError(f"--{self.name} {value!r}: use {either(self.choices)}.")
        if self.limits is None or (self.word and value == self.word):
            return
        for number in value if isinstance(value, tuple) else (value,):
            if not self.limits.hold(number):
                shown = f"{number:g}" if isinstance(number, float) else number
                finite = "finite " if math.isinf(number) and self.limits.below is None else ""
                raise UsageError(f"--{self.name} {shown}: use a {finite}number{self.limits}.")


@dataclass(frozen=True, kw_only=True)
class Options:
    """A record whose fields declare options; they are converted and checked when it is made.

    Raises:
        TypeError: A value is of another type.
        UsageError: It is out of range.
    """

    def __post_init__(self) -> None:
        self.convert()
        self.check()

    def convert(self) -> None:
        """Converts all values to the types of their options."""
        for name, option in options_of(type(self)).items():
            value = getattr(self, name)
            if option.word and isinstance(value, str):
                if value != option.word:
                    raise UsageError(
                        f"--{option.name} {value!r}: use a whole number, or {option.word}."
                    )
                continue
            if value is not None or not option.optional:
                put(self, name, converted(name, value, option.kind))

    def check(self) -> None:
        """Checks that all values are in the ranges of their options."""
        for name, option in options_of(type(self)).items():
            if getattr(self, name) is not None:
                option.check(getattr(self, name))


def options_of(record: type) -> dict[str, Option]:
    """The options that the fields of a record declare, by field; without those of nested records.

    A field declares one by its type, as in ``seed: Annotated[Whole, Option("...")] = 0``.
    """
    found = {}
    for each in fields(record):
        declared = next((one for one in get_args(each.type)[1:] if isinstance(one, Option)), None)
        if declared is None:
            continue
        annotation: Any = each.type
        kind: Any
        kind, limits, _, _, optional = schema(annotation)
        parts: tuple[Any, ...] = get_args(kind)
        word = ""
        if get_origin(kind) in (UnionType, Union):
            kind, literal = parts
            (word,) = get_args(literal)
        if get_origin(kind) is tuple:
            element, limits, *_ = schema(parts[0])
            kind = GenericAlias(tuple, (element, *parts[1:]))
        found[each.name] = replace(
            declared,
            name=declared.name or each.name.replace("_", "-"),
            field=each.name,
            kind=kind,
            word=word,
            limits=limits,
            optional=optional,
            default=each.default,
        )
    return found


def nested_records(record: type) -> dict[str, type]:
    """The records of options that a record always holds, by field."""
    return {
        each.name: each.type
        for each in fields(record)
        if isinstance(each.type, type) and is_dataclass(each.type)
    }


_SCALAR = "scalar"


def parsed_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """An input's name and shape out of the text of an --input-shape.

    Raises:
        UsageError: It is of another form.
    """
    name, sign, shape = text.rpartition("=")
    lengths = [] if shape == _SCALAR else shape.split("x")
    if not (sign and name) or not all(one.isascii() and one.isdigit() for one in lengths):
        raise UsageError(
            f"--input-shape {text}: use an input's name and its lengths, as in NAME=1x80x200, or "
            f"NAME={_SCALAR}."
        )
    if any(int(one) < 1 for one in lengths):
        raise UsageError(f"--input-shape {text}: every length is 1 or more.")
    return name, tuple(map(int, lengths))


def shape_text(shape: Sequence[int | None]) -> str:
    """A shape as in --input-shape; ? where an axis is dynamic."""
    return "x".join("?" if length is None else str(length) for length in shape) or _SCALAR


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
