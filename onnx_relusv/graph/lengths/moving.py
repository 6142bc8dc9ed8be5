"""Lengths through operators that move axes or entries: Reshape, Transpose, Slice, Concat."""

from collections.abc import Sequence

from onnx import NodeProto

from onnx_relusv.graph.lengths.asking import (
    Asking,
    Shape,
    ask_equal,
    attribute,
    broadcast,
    whole_numbers,
)
from onnx_relusv.graph.lengths.lengths import Length, Step, constant, product


def transpose_shapes(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    """What a Transpose makes of shapes."""
    source = shapes[0]
    if source is None:
        return [None]
    order = attribute(node, "perm", list(range(len(source)))[::-1])
    walk.ask_rank(source, len(order))
    return [tuple(source[place] for place in order) if len(order) == len(source) else None]


def axes_of(walk: Asking, node: NodeProto, place: int = 1) -> list[int] | None:
    """The axes that a node names in an attribute, or in an input; None where there are none."""
    named = attribute(node, "axes")
    if named is None and len(node.input) > place and node.input[place]:
        named = whole_numbers(walk.values(node.input[place]))
    return None if named is None else list(named)


def unsqueeze_shapes(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    """What an Unsqueeze makes of shapes."""
    source, places = shapes[0], axes_of(walk, node)
    if source is None or places is None:
        return [None]
    rank = len(source) + len(places)
    new = {place % rank for place in places}
    left = iter(source)
    return [tuple(constant(1) if place in new else next(left) for place in range(rank))]


def squeeze_shapes(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    """What a Squeeze makes of shapes."""
    source, places = shapes[0], axes_of(walk, node)
    if source is None or not source:
        return [None]
    if places is None:
        if len(node.input) > 1 or any(one is None or one.fixed is None for one in source):
            return [None]
        return [tuple(one for one in source if one is not None and one.fixed != 1)]
    gone = {place % len(source) for place in places}
    for place in gone:
        walk.ask(source[place], "equal", 1)
    return [tuple(one for place, one in enumerate(source) if place not in gone)]


def flatten_shapes(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    """What a Flatten makes of shapes."""
    source = shapes[0]
    if source is None:
        return [None]
    place = attribute(node, "axis", 1)
    place = place + len(source) if place < 0 else place
    return [(product(source[:place]), product(source[place:]))]


def reshape_shapes(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    """What a Reshape makes of shapes."""
    source = shapes[0]
    if len(node.input) > 1:
        target = walk.values(node.input[1])
    else:
        target = tuple(map(_signed, attribute(node, "shape", [])))
    if target is None:
        return [None]
    keeps_zero = not attribute(node, "allowzero", 0)
    found: list[Length | None] = []
    open_place: int | None = None
    for place, length in enumerate(target):
        if length is not None and length.fixed == 0 and keeps_zero:
            copied = source is not None and place < len(source)
            found.append(source[place] if source is not None and copied else None)
        elif length is not None and length.fixed == -1:
            open_place = place
            found.append(constant(1))
        else:
            found.append(length)
    total, known = None if source is None else product(source), product(found)
    if open_place is None:
        if total is not None and known is not None:
            quotient = total.over(known)
            if quotient is not None and quotient.fixed is None:
                walk.ask(_numerator(quotient), "equal", quotient.divisor)
            elif known.fixed is not None:
                walk.ask(total, "equal", known.fixed)
        return [tuple(found)]
    left = None if total is None or known is None else total.over(known)
    if left is not None and left.divisor > 1:
        walk.ask(_numerator(left), "multiple", left.divisor)
    found[open_place] = left
    return [tuple(found)]


def _numerator(length: Length) -> Length:
    return Length(length.scale, 1, length.parts)


def _signed(value: int) -> Length:
    return Length(scale=value)


def concat_shapes(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    """What a Concat makes of shapes."""
    known = [shape for shape in shapes if shape is not None]
    if not known or not known[0]:
        return [None]
    rank = len(known[0])
    if any(len(shape) != rank for shape in known):
        return [None]
    place = attribute(node, "axis", 0) % rank
    found: list[Length | None] = list(known[0])
    for shape in known[1:]:
        for number, length in enumerate(shape):
            if number != place:
                ask_equal(walk, found[number], length)
                found[number] = found[number] or length
    found[place] = _total(shapes, place)
    return [tuple(found)]


def _total(shapes: Sequence[Shape], place: int) -> Length | None:
    """The sum of lengths, of which one may depend on an axis, or all be alike."""
    lengths = [None if shape is None else shape[place] for shape in shapes]
    if len({*lengths}) == 1 and lengths[0] is not None:
        return lengths[0].times(constant(len(lengths)))
    moving = [length for length in lengths if length is None or length.fixed is None]
    rest = sum(length.fixed or 0 for length in lengths if length is not None)
    if not moving:
        return constant(rest)
    if len(moving) > 1 or moving[0] is None:
        return None
    return moving[0].stepped(Step(plus=rest))


def split_shapes(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    """What a Split makes of shapes."""
    source, count = shapes[0], len(node.output)
    if source is None or not source:
        return [None] * count
    place = attribute(node, "axis", 0) % len(source)
    sizes = attribute(node, "split")
    if sizes is None and len(node.input) > 1 and node.input[1]:
        sizes = whole_numbers(walk.values(node.input[1]))
        if sizes is None:
            return [None] * count
    if sizes is not None:
        if source[place] is not None and source[place].fixed is None:
            walk.ask(source[place], "equal", sum(sizes))
        parts: list[Length | None] = [constant(size) for size in sizes]
    else:
        each = source[place]
        walk.ask(each, "multiple", count)
        parts = [None if each is None else each.stepped(Step(by=count))] * count
    return [(*source[:place], part, *source[place + 1 :]) for part in parts]


def slice_shapes(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    """What a Slice makes of shapes."""
    source = shapes[0]
    if source is None:
        return [None]
    given = [attribute(node, name) for name in ("starts", "ends", "axes")]
    steps = None
    if given[0] is None:
        read = [
            whole_numbers(walk.values(name)) if name else None
            for name in (*node.input[1:], "", "", "")[:4]
        ]
        given, steps = read[:3], read[3]
        if len(node.input) > 4 and node.input[4] and steps is None:
            return [tuple([None] * len(source))]
    starts, ends, places = given
    if places is None:
        if starts is None and ends is None:
            return [tuple([None] * len(source))]
        places = list(range(len(starts or ends)))
    found = list(source)
    for number, place in enumerate(places):
        step = 1 if steps is None else steps[number]
        known = starts is not None and ends is not None and step == 1
        at = place % len(source)
        found[at] = _sliced(source[at], starts[number], ends[number]) if known else None
    return [tuple(found)]


def _sliced(length: Length | None, start: int, end: int) -> Length | None:
    if length is None:
        return None
    if length.fixed is not None:
        return constant(len(range(*slice(start, end).indices(length.fixed))))
    if start >= 0 and end > LAST:
        return length.stepped(Step(plus=-start))
    if start >= 0 > end:
        return length.stepped(Step(plus=end - start))
    if start < 0 and end > LAST:
        return constant(-start)
    # Of axes that are longer than the slice, which is what exporters mean by one.
    return constant(end - start) if end > start >= 0 or start < end < 0 else None


# From here on the end of a slice means the end of the axis.
LAST = 1 << 30


def pad_shapes(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    """What a Pad makes of shapes."""
    source = shapes[0]
    pads = attribute(node, "pads")
    if pads is None and len(node.input) > 1:
        pads = whole_numbers(walk.values(node.input[1]))
    if source is None:
        return [None]
    if pads is None:
        return [tuple([None] * len(source))]
    places = list(range(len(source)))
    if len(node.input) > 3 and node.input[3]:
        places = [place % len(source) for place in whole_numbers(walk.values(node.input[3])) or []]
    found = list(source)
    count = len(pads) // 2
    for number, place in enumerate(places[:count]):
        length = source[place]
        around = pads[number] + pads[number + count]
        found[place] = None if length is None else length.stepped(Step(plus=around))
    return [tuple(found)]


def gather_shapes(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    """What a Gather makes of shapes."""
    source, indices = shapes[0], shapes[1]
    if source is None or indices is None or not source:
        return [None]
    place = attribute(node, "axis", 0) % len(source)
    return [(*source[:place], *indices, *source[place + 1 :])]


def expand_shapes(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    """What an Expand makes of shapes."""
    target = walk.values(node.input[1])
    if target is None or shapes[0] is None:
        return [None]
    return [broadcast(walk, shapes[0], target)]


def filled_shapes(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    """What a ConstantOfShape makes of shapes."""
    return [walk.values(node.input[0])]


def depth_shapes(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    """What a DepthToSpace or SpaceToDepth makes of shapes."""
    source, size = shapes[0], attribute(node, "blocksize")
    walk.ask_rank(source, 4)
    if source is None or len(source) != 4:
        return [None]
    rows = [None if one is None else one for one in source[2:]]
    if node.op_type == "SpaceToDepth":
        for one in rows:
            walk.ask(one, "multiple", size)
        area = constant(size * size)
        depth = None if source[1] is None else source[1].times(area)
        smaller = [None if one is None else one.stepped(Step(by=size)) for one in rows]
        return [(source[0], depth, *smaller)]
    depth = None if source[1] is None else source[1].stepped(Step(by=size * size))
    larger = [None if one is None else one.stepped(Step(size)) for one in rows]
    return [(source[0], depth, *larger)]


def resize_shapes(walk: Asking, node: NodeProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
    """What a Resize makes of shapes."""
    source = shapes[0]
    sizes = walk.values(node.input[3]) if len(node.input) > 3 and node.input[3] else None
    if source is None or sizes is None or len(sizes) != len(source):
        return [None if source is None else (*source[:2], *[None] * (len(source) - 2))]
    return [sizes]
