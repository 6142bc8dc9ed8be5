"""How many bytes protobuf takes for the parts of an ONNX file; exact, without making them.

A message is a row of fields: a tag, for texts and messages a length, and a value. Field numbers up
to 15 have tags of one byte.
"""

from collections.abc import Iterable, Mapping, Sequence

Attribute = int | str | Sequence[int]


def number(value: int) -> int:
    """Bytes of a number from 0 on, seven bits in each."""
    return max(1, -(-value.bit_length() // 7))


def entry(length: int) -> int:
    """Bytes of a text, of raw data or of a message of a length, as a field of what holds it."""
    return 1 + number(length) + length


def text(value: str) -> int:
    """Bytes of a text as a field."""
    return entry(len(value.encode()))


def tensor(name: str, dims: Iterable[int], item_size: int) -> int:
    """Bytes of an initializer with its data, as a field of its graph.

    Args:
        name: Its name.
        dims: Its shape.
        item_size: Bytes of one number.
    """
    data, shape = item_size, 0
    for length in dims:
        data *= length
        shape += 1 + number(length)
    return entry(shape + 2 + text(name) + entry(data))


def listed(name: str, dims: Iterable[int]) -> int:
    """Bytes of a tensor's name, type and shape, as an input of its graph."""
    shape = sum(entry(1 + number(length)) for length in dims)
    return entry(text(name) + entry(entry(2 + entry(shape))))


def node(
    operator: str,
    names: Iterable[str],
    attributes: Mapping[str, Attribute] | None = None,
) -> int:
    """Bytes of a node, as a field of its graph.

    Args:
        operator: Of the default domain.
        names: Its own and those of its inputs and outputs.
        attributes: By name.
    """
    found = sum(_attribute(*one) for one in (attributes or {}).items())
    return entry(text(operator) + sum(map(text, names)) + found)


def _attribute(name: str, value: Attribute) -> int:
    if isinstance(value, str):
        own = text(value)
    elif isinstance(value, int):
        own = 1 + number(value)
    else:
        own = sum(1 + number(each) for each in value)
    # The kind's tag has two bytes.
    return entry(text(name) + own + 3)
