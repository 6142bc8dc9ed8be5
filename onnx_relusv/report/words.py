"""Numbers, names and settings as people read them, the same in the page and in the terminal.

Three significant digits throughout; the JSON has all of them.
"""

import json
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from onnx_relusv.core.blocks import Activation, Floats, Geometry
from onnx_relusv.core.plans import KEPT, Choice
from onnx_relusv.core.results import Setting, Settings

NOTHING = "-"
# What became of a block.
Fate = Literal["kept", "values", "channels", "double layer", "numbers"]


def fate(choice: Choice | None) -> Fate:
    """What became of a block, by its choice; without one it is kept."""
    if choice is None or choice.is_kept:
        return "kept"
    if choice.is_double_layer:
        return "double layer"
    if choice.loses_channels:
        return "channels"
    return "numbers" if choice.is_int8 or choice.is_fp16 else "values"


def size(number: float) -> str:
    """Bytes in decimal units: 1234 is 1.23 kB."""
    return _scaled(number, ("B", "kB", "MB", "GB", "TB"))


def count(number: float) -> str:
    """A count in decimal units: 1234567 is 1.23 M."""
    return _scaled(number, ("", "k", "M", "G", "T"))


def number(value: float | None) -> str:
    """A number with three significant digits; a dash where there is none."""
    if value is None or math.isnan(value):
        return NOTHING
    return f"{value:.3g}"


def percent(share: float | None) -> str:
    """A share from 0 to 1 in per cent; a dash where there is none."""
    return NOTHING if share is None else f"{100 * share:.1f} %"


def confidence(probability: float) -> str:
    """A probability near 1 in per cent, with all the nines that matter."""
    return f"{100 * probability:.6g} %"


def share(part: float, whole: float) -> str:
    """A part of a whole in per cent; a dash where the whole is zero."""
    return percent(part / whole if whole else None)


def ratio(part: float, whole: float) -> str:
    """A part over a whole; a dash where the whole is zero."""
    return number(part / whole if whole else None)


def seconds(time: float) -> str:
    """Seconds as milliseconds."""
    return f"{number(1000 * time)} ms"


def bracket(lower: float, upper: float) -> str:
    """Both ends of a bracket; a dash where neither is known."""
    if math.isnan(lower) and math.isnan(upper):
        return NOTHING
    return f"[{number(lower)}, {number(upper)}]"


def change(before: Any, after: Any, text: Callable[[Any], str] = str) -> str:
    """From one value to another; once where both have the same text."""
    first, second = text(before), text(after)
    return first if first == second else f"{first} -> {second}"


# Between a number and its unit, or the next number in its bracket.
_UNIT = re.compile(r"(\d,?) (?=(?:%|[kMGT]?B|[kMGT]|ms|s)(?![A-Za-z])|[^\[\] ]+\])")


def whole(text: str) -> str:
    """A text whose numbers are never parted from their units at the end of a line."""
    return _UNIT.sub("\\1\N{NO-BREAK SPACE}", text)


def lines(text: str, width: int, indent: int = 0) -> list[str]:
    """A text in lines of a width, broken between words; within one where it is longer than a line.

    Numbers and their units count as one word. All lines but the first begin with an indent.
    """
    broken = textwrap.wrap(
        whole(text),
        max(width, indent + 1),
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
    )
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in broken] or [""]


def geometry(geometry: Geometry) -> str:
    """Operator and weight matrix: ``conv 64x288 (3x3)``, per group where there are several."""
    kernel = f" ({'x'.join(map(str, geometry.kernel))})" if geometry.kernel else ""
    groups = f" in {geometry.groups} groups" if geometry.groups > 1 else ""
    return f"{geometry.kind} {geometry.rows}x{geometry.columns}{kernel}{groups}"


def activation(activation: Activation) -> str:
    """The activation with its ceiling or slopes."""
    if activation.kind == "clip":
        return f"clip at {number(activation.ceiling)}"
    if activation.kind in ("leaky_relu", "prelu"):
        ends = dict.fromkeys((float(activation.slopes.min()), float(activation.slopes.max())))
        return f"{activation.kind} {' to '.join(map(number, ends))}"
    return activation.kind


def decision(choice: Choice | None) -> str:
    """What becomes of a block; of a double layer its form and rank."""
    numbers = "" if choice is None or choice.precision == KEPT else f", {choice.precision}"
    if choice is None or choice.is_kept:
        return f"kept{numbers}"
    if choice.is_double_layer:
        return f"double layer: {choice.form}, rank {choice.rank}{numbers}"
    return {"refit": "refitted", "prune": "pruned"}[choice.action] + numbers


def printable(text: str) -> str:
    """Text from a file with everything invisible spelled out as escapes.

    Names in a model may hold terminal control sequences or marks that reverse the direction of
    writing; both would let a file forge what a reader sees.
    """
    return "".join(one if one.isprintable() else _escape(one) for one in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of every run of neighbours among increasing whole numbers."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def ranges(numbers: Sequence[int], longest: int | None = None) -> str:
    """Increasing whole numbers with their runs drawn together: ``0-3, 7, 12-15``.

    Args:
        numbers: The numbers; a dash where there are none.
        longest: Characters beyond which the rest is left out; None for no limit.
    """
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in runs(numbers)]
    text = ", ".join(texts)
    if longest is None or len(text) <= longest:
        return text or NOTHING
    # A comma and a space behind them belong to no number.
    shown = text[: longest + 2].rpartition(", ")[0]
    return f"{shown}, ..." if shown else "..."


def middle_cut(text: str, length: int) -> str:
    """Text without its middle where it is too long: names differ at their ends."""
    if len(text) <= length:
        return text
    kept = length - 3
    return f"{text[: kept - kept // 2]}...{text[len(text) - kept // 2 :]}"


def _scaled(value: float, units: Sequence[str]) -> str:
    # 999.5 already rounds to 1000 with three digits.
    if abs(value) >= 999.5 and len(units) > 1:
        return _scaled(value / 1000, units[1:])
    digits = f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"
    return f"{digits} {units[0]}".rstrip()


def counted(amount: int | str, noun: str) -> str:
    """A number with its noun, in the plural but for 1."""
    return f"{amount} {noun}" if str(amount) == "1" else f"{amount} {noun}s"


def listed(texts: Sequence[str]) -> str:
    """Texts as a sentence lists them."""
    *others, last = texts
    return f"{', '.join(others)} and {last}" if others else last


def terms(texts: Iterable[str]) -> str:
    """What the terms mean that are used in some texts; empty without any."""
    used = " ".join(texts)
    meanings = {
        "level": "a level is a relative error",
        "damage": "damage is the expected change of the outputs",
        "joint damage": "joint damage is that with all other changes made",
    }
    said = "; ".join(meaning for word, meaning in meanings.items() if word in used)
    return f"{said[0].upper()}{said[1:]}." if said else ""


def points(value: float) -> str:
    """Points of accuracy, three digits."""
    return counted(number(value), "point")


def settings(values: Settings) -> str:
    """Settings as TOML, one a line; empty without any.

    Args:
        values: By the options' long names. A path that is not UTF-8 gives a text that is no TOML,
            which has no way to say it.
    """
    return "".join(f"{name} = {_value(value)}\n" for name, value in values.items())


def _value(value: Setting) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_value(each) for each in value)}]"
    if isinstance(value, str):
        # All escapes of JSON are TOML's; TOML wants one more.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    # Numbers, and true and false, are written alike.
    return json.dumps(value)


BARS = "▁▂▃▄▅▆▇█"
# A bar of full height is sigma_1, the lowest one a hundredth of it or less.
_DECADES = 2


def sparkline(values: Floats, largest: float) -> str:
    """Values from a hundredth of the largest one up to it, as bars of eight heights.

    Args:
        values: (n,) non-negative; NaN is left blank.
        largest: What a full bar stands for.
    """
    return "".join(_bar(float(value) / largest if largest > 0 else 0.0) for value in values)


def _bar(share: float) -> str:
    if math.isnan(share):
        return " "
    if share <= 0:
        return BARS[0]
    height = 1 + math.log10(share) / _DECADES
    return BARS[min(max(math.ceil(height * len(BARS)) - 1, 0), len(BARS) - 1)]
