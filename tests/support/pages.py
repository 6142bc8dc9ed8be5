"""What stands in a page of a report, and what is drawn in its pictures, without the looks."""

import re
from html.parser import HTMLParser
from xml.dom import minidom


class Outline(HTMLParser):
    """Elements with their attributes, the text of each, and whether tags are balanced."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            # A number and its unit stay together on the page.
            text = data.strip().replace("\N{NO-BREAK SPACE}", " ")
            self.texts.append((self.open[-1], text))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


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
