"""What is drawn in a picture, by the role of its colour."""

import re
from xml.dom import minidom


def paths(svg: str, role: str) -> list[list[tuple[float, float]]]:
    """Corners of everything drawn with a role's colour, filled or as a line."""
    return [
        [
            (float(x), float(y))
            for x, y in re.findall(r"[ML] (\S+) (\S+)", element.getAttribute("d"))
        ]
        for element in minidom.parseString(svg).getElementsByTagName("path")
        if f": var(--plot-{role}," in element.getAttribute("style")
    ]
