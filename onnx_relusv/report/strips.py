"""A group of units as a strip: one place a unit, kept or removed."""

from collections.abc import Iterator, Sequence
from html import escape

from onnx_relusv.report.colours import light

_HEIGHT = 10


def strip_svg(units: int, kept: Sequence[int], label: str) -> str:
    """The SVG element of a strip, as wide as there is room, in the page's colours.

    Args:
        units: How many there are.
        kept: Increasing: those that stay.
        label: What the picture shows, for those who do not see it.
    """
    path = "".join(f"M{first} 0h{length}v{_HEIGHT}h-{length}z" for first, length in _runs(kept))
    # Stretched to the room: with more units than points of the screen, shades tell how many stay.
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {units} {_HEIGHT}" '
        f'preserveAspectRatio="none" style="width: 100%; height: 1.1rem" role="img" '
        f'aria-label="{escape(label)}">'
        f'<rect width="{units}" height="{_HEIGHT}" style="fill: {_variable("before")}"/>'
        f'<path d="{path}" style="fill: {_variable("after")}"/></svg>'
    )


def _runs(kept: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First unit and length of every run of kept units."""
    first = length = 0
    for unit in kept:
        if length and unit == first + length:
            length += 1
            continue
        if length:
            yield first, length
        first, length = unit, 1
    if length:
        yield first, length


def _variable(role: str) -> str:
    return f"var(--plot-{role}, {light(role)})"
