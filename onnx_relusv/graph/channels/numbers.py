"""Whole numbers that nodes compute of lengths: shapes, ends of slices, numbers of rows."""

from functools import reduce

from onnx import NodeProto, numpy_helper

from onnx_relusv.graph.channels.lengths import (
    MOST_NUMBERS,
    Length,
    Numbers,
    Row,
    Step,
    Unknown,
    constant,
)
from onnx_relusv.graph.nodes import attribute, has_input, whole, wholes


def shape(walk: Numbers, node: NodeProto) -> Row:
    """Shape: the lengths of all axes, or of some."""
    found = walk.lengths(node.input[0])
    return Row(found[whole(node, "start", 0) : whole(node, "end", len(found))])


def size(walk: Numbers, node: NodeProto) -> Row:
    """Size: how many numbers a tensor has."""
    return Row((_product(walk.lengths(node.input[0])),), rank=0)


def gathered(walk: Numbers, node: NodeProto) -> Row:
    """Gather."""
    entries, places = walk.vector(node.input[0]), walk.row(node.input[1])
    try:
        found = tuple(
            place.somehow(*entries) if place.fixed is None else entries[place.fixed]
            for place in places.entries
        )
    except IndexError:
        raise Unknown from None
    return Row(found, places.rank)


def sliced(walk: Numbers, node: NodeProto) -> Row:
    """Slice; starts and ends are attributes before opset 10, and inputs since."""
    entries, steps = walk.vector(node.input[0]), [1]
    starts, ends = wholes(node, "starts"), wholes(node, "ends")
    if starts is None or ends is None:
        starts, ends = (walk.values(node.input[slot]) for slot in (1, 2))
        steps = walk.values(node.input[4]) if has_input(node, 4) else [1]
    if not len(starts) == len(ends) == len(steps) == 1:
        raise Unknown
    step, end = steps[0], ends[0]
    # A large negative end of a row backwards means its beginning.
    stop = None if step < 0 and end < -len(entries) else end
    return Row(entries[starts[0] : stop : step])


def reshaped(walk: Numbers, node: NodeProto) -> Row:
    """Reshape, Squeeze and Unsqueeze: the same numbers with more axes, or fewer."""
    found = walk.row(node.input[0])
    named = wholes(node, "shape" if node.op_type == "Reshape" else "axes")
    count = None if named is None else len(named)
    if named is None and has_input(node, 1):
        count = len(walk.row(node.input[1]).entries)
    if node.op_type == "Squeeze" and count is None and len(found.entries) == 1:
        return Row(found.entries, rank=0)
    if count is None:
        raise Unknown
    ranks = {"Squeeze": found.rank - count, "Unsqueeze": found.rank + count, "Reshape": count}
    return Row(found.entries, ranks[node.op_type])


def joined(walk: Numbers, node: NodeProto) -> Row:
    """Concat."""
    return Row(tuple(entry for name in node.input for entry in walk.vector(name)))


def unchanged(walk: Numbers, node: NodeProto) -> Row:
    """Identity, and a Cast where the walk follows it."""
    if node.op_type == "Cast" and not walk.keeps(whole(node, "to", 0)):
        raise Unknown
    return walk.row(node.input[0])


def combined(walk: Numbers, node: NodeProto) -> Row:
    """Arithmetic of two tensors, number by number."""
    if len(node.input) != 2:
        raise Unknown
    first, second = (walk.row(name) for name in node.input)
    pairs = zip(*_repeated(first, second), strict=True)
    found = tuple(_result(node.op_type, one, other) for one, other in pairs)
    return Row(found, max(first.rank, second.rank))


def _result(operator: str, first: Length, second: Length) -> Length:
    if operator == "Mul":
        return first.times(second)
    found, by = None, second.fixed
    if operator == "Equal":
        found = _equal(first, second)
    elif operator == "Div" and by and first.fixed is None:
        found = first.stepped(Step(by=by))
    elif operator in ("Add", "Sub") and by is not None:
        found = first.stepped(Step(plus=by if operator == "Add" else -by))
    elif operator == "Add" and first.fixed is not None:
        found = second.stepped(Step(plus=first.fixed))
    return first.somehow(second) if found is None else found


def _equal(first: Length, second: Length) -> Length | None:
    """1 or 0; None where it depends."""
    if first == second and first.exact:
        return constant(1)
    numbers = [one.fixed for one in (first, second) if one.fixed is not None]
    # No axis has a length of -1, which stands for one that is to be kept.
    differ = len(numbers) == 2 or any(number < 0 for number in numbers)
    return constant(0) if differ and first.exact and second.exact else None


def multiplied(walk: Numbers, node: NodeProto) -> Row:
    """ReduceProd over a row."""
    found = _product(walk.vector(node.input[0]))
    return Row((found,), rank=whole(node, "keepdims", 1))


def filled(walk: Numbers, node: NodeProto) -> Row:
    """ConstantOfShape."""
    lengths = walk.vector(node.input[0])
    count = _product(lengths).fixed
    if count is None or count > MOST_NUMBERS:
        raise Unknown
    tensor = attribute(node, "value")
    value = 0 if tensor is None else int(numpy_helper.to_array(tensor).reshape(-1)[0])
    return Row((constant(value),) * count, len(lengths))


def chosen(walk: Numbers, node: NodeProto) -> Row:
    """Where, as far as its condition is known."""
    rows = [walk.row(name) for name in node.input]
    found = []
    for condition, one, other in zip(*_repeated(*rows), strict=True):
        known = condition.fixed
        found.append(condition.somehow(one, other) if known is None else one if known else other)
    return Row(tuple(found), max(row.rank for row in rows))


def _product(lengths: tuple[Length, ...]) -> Length:
    return reduce(Length.times, lengths, Length())


def _repeated(*rows: Row) -> list[tuple[Length, ...]]:
    """Entries of rows that are combined: a single one goes with all of the others."""
    counts = [len(row.entries) for row in rows]
    if not set(counts) <= {1, max(counts)}:
        raise Unknown
    return [row.entries * (max(counts) if len(row.entries) == 1 else 1) for row in rows]
