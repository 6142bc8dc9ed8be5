"""How pictures become inputs: settings by key, from presets, TOML files and single texts.

They are texts until all of them are known, so that the command line, a TOML file and Python say the
same in the same words, and a report states what repeats a run. Later ones win.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from onnx_relusv.core.arguments import StrPath, either
from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.work.files import check_readable

Fit = Literal["resize", "crop"]
Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
Layout = Literal["NCHW", "NHWC"]
Colour = Literal["RGB", "BGR", "grey"]
# In place of a file of classes: the folders' names in order, as torchvision numbers them.
SORTED = "sorted"
_OPTION = "--preprocess"

PRESETS: Mapping[str, Mapping[str, str]] = {
    # As torchvision's classifiers were trained: He et al., "Deep residual learning" (2015), and the
    # means and deviations of ImageNet's training set.
    "imagenet": {
        "size": "224",
        "fit": "crop",
        "shorter": "256",
        "interpolation": "bilinear",
        "colour": "RGB",
        "scale": "1/255",
        "mean": "0.485,0.456,0.406",
        "std": "0.229,0.224,0.225",
    },
}


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What is done with a picture; None is settled by the model's input.

    Pixels are 8-bit numbers from 0 to 255, and inputs (pixel * multiplier / divisor - mean) / std.

    Attributes:
        size: Height and width that the model sees.
        fit: ``resize`` stretches a picture to the size; ``crop`` resizes it, its shape kept, and
            cuts the size out of its middle.
        shorter: With ``crop``, the length of the shorter side before it is cut; None for as little
            as covers the size.
        interpolation: Pillow's filter by which it is resized.
        layout: Where the channels lie.
        colour: Which channels there are, in their order.
        scale: The multiplier and the divisor.
        mean: One number, or one a channel.
        std: Likewise.
        dtype: Of the input.
        classes: A file with one class a line, in the model's order, or ``sorted``; None for no
            labels.
        groups: A regular expression: pictures whose paths in the folder match with the same text,
            that of its first group where it has one, belong together.
        texts: The settings that were given, by key.
    """

    size: tuple[int, int] | None = None
    fit: Fit = "resize"
    shorter: int | None = None
    interpolation: Interpolation = "bilinear"
    layout: Layout | None = None
    colour: Colour | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    dtype: np.dtype[np.generic] | None = None
    classes: Path | Literal["sorted"] | None = None
    groups: re.Pattern[str] | None = None
    texts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.shorter is not None and self.fit != "crop":
            raise UsageError(f"{_OPTION} shorter={self.shorter}: this goes with fit=crop.")
        if self.shorter is not None and self.size is not None and self.shorter < max(self.size):
            raise UsageError(
                f"{_OPTION} shorter={self.shorter}: a picture of that side has no room for the "
                f"size {self.size[0]}x{self.size[1]}; use {max(self.size)} or more."
            )
        if self.dtype is not None:
            self.check_type(self.dtype)

    def check_type(self, dtype: np.dtype[np.generic]) -> None:
        """Checks that inputs of a type hold what pixels become.

        Raises:
            UsageError: They are whole numbers, and what pixels become is not.
        """
        if dtype.kind not in "iu":
            return
        held: np.iinfo[Any] = np.iinfo(dtype)
        whole = (
            self.scale == (1, 1) and set(self.std) == {1} and all(m == int(m) for m in self.mean)
        )
        if not whole or not all(held.min <= -m and 255 - m <= held.max for m in self.mean):
            raise UsageError(
                f"{_OPTION}: pixels from 0 to 255 by this scale, mean and std do not become "
                f"{dtype}. For an input of whole numbers leave scale and std away, and use a whole "
                "mean."
            )

    @property
    def options(self) -> list[str]:
        """The settings as --preprocess takes them."""
        return [f"{key}={text}" for key, text in self.texts.items()]


def _whole(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 1 << 16:
        raise ValueError("use a whole number from 1 to 65536")
    return number


def _size(text: str) -> tuple[int, int]:
    lengths = [_whole(part) for part in text.split("x")]
    if len(lengths) > 2:
        raise ValueError("use one length, or HEIGHTxWIDTH")
    return lengths[0], lengths[-1]


def _number(text: str) -> float:
    number = float(text)
    if not np.isfinite(number):
        raise ValueError("use a finite number")
    return number


def _scale(text: str) -> tuple[float, float]:
    multiplier, _, divisor = text.partition("/")
    found = _number(multiplier), _number(divisor or "1")
    if 0 in found:
        raise ValueError("use numbers other than 0")
    return found


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(_number(part) for part in text.split(","))


def _deviations(text: str) -> tuple[float, ...]:
    found = _numbers(text)
    if not all(each > 0 for each in found):
        raise ValueError("use numbers above 0")
    return found


def _one_of(kind: Any) -> Callable[[str], str]:
    choices = get_args(kind)

    def chosen(text: str) -> str:
        found = next((each for each in choices if each.casefold() == text.casefold()), None)
        if found is None:
            raise ValueError(f"use {either(choices)}")
        return str(found)

    return chosen


_TYPES = ("float32", "float16", "float64", "uint8", "int8", "int16", "int32", "int64")


def _dtype(text: str) -> np.dtype[np.generic]:
    if text not in _TYPES:
        raise ValueError(f"use {either(_TYPES)}")
    return np.dtype(text)


def _classes(text: str) -> Path | str:
    return SORTED if text == SORTED else Path(text)


# By key what a text means; a ValueError says what to use instead.
_READ: Mapping[str, Callable[[str], Any]] = {
    "size": _size,
    "fit": _one_of(Fit),
    "shorter": _whole,
    "interpolation": _one_of(Interpolation),
    "layout": _one_of(Layout),
    "colour": _one_of(Colour),
    "scale": _scale,
    "mean": _numbers,
    "std": _deviations,
    "dtype": _dtype,
    "classes": _classes,
    "groups": re.compile,
}


def preprocessing(values: Sequence[StrPath]) -> Preprocessing:
    """What is done with pictures.

    Args:
        values: Names of presets, paths of TOML files, and single settings, KEY=VALUE.

    Raises:
        UsageError: One is none of these, a key is unknown, or a value is out of range.
        InputError: A file cannot be read, or is no TOML.
    """
    texts: dict[str, str] = {}
    for value in values:
        text = os.fspath(value)
        key, sign, setting = text.partition("=")
        if sign and key.isidentifier():
            texts[_known(key, f"{_OPTION} {text}")] = _absolute(key, setting, Path())
        elif text in PRESETS:
            texts |= PRESETS[text]
        elif text.endswith(".toml"):
            texts |= _from_toml(Path(text))
        else:
            raise UsageError(
                f"{_OPTION} {text}: use a preset, {either(['', *PRESETS]).removeprefix(' or ')}, a "
                f"file that ends in .toml, or KEY=VALUE with one of {', '.join(_READ)}."
            )
    found: dict[str, Any] = {}
    for key, text in texts.items():
        try:
            found[key] = _READ[key](text)
        except (ValueError, re.error) as error:
            raise UsageError(f"{_OPTION} {key}={text}: {error}.") from error
    return Preprocessing(texts=texts, **found)


def _known(key: str, where: str) -> str:
    if key not in _READ:
        near = difflib.get_close_matches(key, [*_READ], n=1)
        hint = f" Do you mean {near[0]}?" if near else ""
        raise UsageError(f"{where}: there is no such setting; use {', '.join(_READ)}.{hint}")
    return key


def _absolute(key: str, text: str, folder: Path) -> str:
    """A setting that may be used from anywhere: what names a file starts at a folder."""
    if key != "classes" or text == SORTED:
        return text
    return str((folder / text).absolute())


def _from_toml(path: Path) -> dict[str, str]:
    check_readable(path, _OPTION)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{_OPTION} {path}: cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{_OPTION} {path}: not TOML ({error}).") from error
    texts: dict[str, str] = {}
    preset = values.pop("preset", None)
    if preset is not None:
        if not isinstance(preset, str) or preset not in PRESETS:
            raise UsageError(f"{_OPTION} {path}: preset = {preset!r}: use {', '.join(PRESETS)}.")
        texts |= PRESETS[preset]
    for key, value in values.items():
        where = f"{_OPTION} {path}: {key}"
        texts[_known(key, where)] = _absolute(key, _text(where, value), path.parent)
    return texts


def _text(where: str, value: Any) -> str:
    listed = value if isinstance(value, list) else [value]
    if any(isinstance(each, bool) or not isinstance(each, str | int | float) for each in listed):
        raise UsageError(f"{where} = {value!r}: use a text, a number or a list of numbers.")
    separator = "x" if where.endswith(" size") else ","
    return separator.join(each if isinstance(each, str) else repr(each) for each in listed)
