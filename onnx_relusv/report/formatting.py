"""Numbers and names as people read them, the same in the page and in the terminal.

Three significant digits throughout; whoever needs more reads the JSON.
"""

import math
from collections.abc import Sequence

from onnx_relusv.decisions import Choice
from onnx_relusv.records import Activation, Geometry

NOTHING = "-"
_BYTE_UNITS = ("B", "kB", "MB", "GB", "TB")
_COUNT_UNITS = ("", "k", "M", "G", "T")


def bytes_text(count: float) -> str:
    """Bytes in decimal units: 1234 is 1.23 kB."""
    return _scaled(count, _BYTE_UNITS)


def count_text(count: float) -> str:
    """A count in decimal units: 1234567 is 1.23 M."""
    return _scaled(count, _COUNT_UNITS)


def number_text(value: float | None) -> str:
    """A number with three significant digits; a dash where there is none."""
    if value is None or math.isnan(value):
        return NOTHING
    return f"{value:.3g}"


def percent_text(share: float | None) -> str:
    """A share from 0 to 1 in per cent; a dash where there is none."""
    return NOTHING if share is None else f"{100 * share:.1f} %"


def confidence_text(confidence: float) -> str:
    """A probability near 1 in per cent, with all the nines that matter."""
    return f"{100 * confidence:.6g} %"


def share_text(part: float, whole: float) -> str:
    """A part of a whole in per cent; a dash where the whole is zero."""
    return percent_text(part / whole if whole else None)


def seconds_text(seconds: float) -> str:
    """Seconds as milliseconds."""
    return f"{number_text(1000 * seconds)} ms"


def bracket_text(lower: float, upper: float) -> str:
    """Both ends of a bracket; a dash where neither is known."""
    if math.isnan(lower) and math.isnan(upper):
        return NOTHING
    return f"[{number_text(lower)}, {number_text(upper)}]"


def change_text(before: str, after: str) -> str:
    """From one text to another; once where both are the same."""
    return before if before == after else f"{before} -> {after}"


def geometry_text(geometry: Geometry) -> str:
    """Operator and weight matrix: ``conv 64x288 (3x3)``, per group where there are several."""
    text = f"{geometry.kind} {geometry.rows}x{geometry.columns}"
    if geometry.kernel:
        text += f" ({'x'.join(map(str, geometry.kernel))})"
    if geometry.groups > 1:
        text += f" in {geometry.groups} groups"
    return text


def activation_text(activation: Activation) -> str:
    """The activation with its ceiling or slopes."""
    if activation.kind == "clip":
        return f"clip at {number_text(activation.ceiling)}"
    if activation.kind in ("leaky_relu", "prelu"):
        least, most = float(activation.slopes.min()), float(activation.slopes.max())
        slopes = number_text(least)
        if least != most:
            slopes += f" to {number_text(most)}"
        return f"{activation.kind} {slopes}"
    return activation.kind


def decision_text(choice: Choice | None) -> str:
    """What becomes of a block; of a double layer its form and rank."""
    if choice is None or choice.action == "keep":
        return "kept"
    if choice.action == "double_layer":
        return f"double layer: {choice.form}, rank {choice.rank}"
    return {"refit": "refitted", "prune": "pruned"}[choice.action]


def printable(text: str) -> str:
    """Text from a file with everything invisible spelled out as escapes.

    Names in a model may hold terminal control sequences or marks that reverse the direction of
    writing; both would let a file forge what a reader sees.
    """
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape", "backslashreplace").decode("ascii")
        for character in text
    )


def ranges_text(numbers: Sequence[int], longest: int | None = None) -> str:
    """Increasing whole numbers with their runs drawn together: ``0-3, 7, 12-15``.

    Args:
        numbers: The numbers; a dash where there are none.
        longest: Characters beyond which the rest is left out; None for no limit.
    """
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
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


def _scaled(value: float, units: tuple[str, ...]) -> str:
    scaled, *larger = units
    # 999.5 already rounds to 1000 with three digits.
    while abs(value) >= 999.5 and larger:
        value /= 1000
        scaled, *larger = larger
    digits = f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"
    return f"{digits} {scaled}".rstrip()


def points_text(value: float) -> str:
    """Points of accuracy, three digits."""
    number = number_text(value)
    return f"{number} point" if number == "1" else f"{number} points"
