"""Operators that move axes or entries about: transposition, joining, parting, looking up."""

from collections.abc import Sequence

import numpy as np
from onnx import NodeProto, helper, numpy_helper

from onnx_relusv.graph.channels.lengths import (
    MOST_NUMBERS,
    Axes,
    Dims,
    Length,
    LengthWalk,
    Numbers,
    Row,
    Step,
    Unknown,
    constant,
    stepped,
)
from onnx_relusv.graph.channels.operator import Cut, Operator, axes_of, handed_on, of_source
from onnx_relusv.graph.channels.walk import NO_UNIT, Barrier, Walk
from onnx_relusv.graph.nodes import attribute, has_input, whole, wholes

# From here on the end of a slice means the end of the axis.
_LAST = 1 << 30
_FIRST_OPSET_WITH_LENGTHS_AS_INPUT = 13


def _transpose(walk: Walk, _index: int, node: NodeProto) -> None:
    """Moves the axis."""
    found = walk.source(node)
    order = wholes(node, "perm") or list(range(found.rank))[::-1]
    walk.put(node, order.index(found.axis), found.units)


@of_source
def _transposed(walk: LengthWalk, node: NodeProto, source: Axes) -> Sequence[Dims]:
    order = attribute(node, "perm", list(range(len(source)))[::-1])
    fits = walk.of_rank(source, len(order)) is not None
    return [tuple(source[place] for place in order) if fits else None]


def _named_axes(walk: Walk, node: NodeProto) -> list[int]:
    axes = axes_of(walk, node)
    if axes is None:
        raise Barrier("takes axes that are not named")
    return axes


def _squeeze(walk: Walk, _index: int, node: NodeProto) -> None:
    """Takes axes of length 1 away."""
    found = walk.source(node)
    gone = {axis % found.rank for axis in _named_axes(walk, node)}
    if found.axis in gone:
        raise Barrier("takes the channels' axis away")
    walk.put(node, found.axis - sum(axis < found.axis for axis in gone), found.units)


@of_source
def _squeezed(walk: LengthWalk, node: NodeProto, source: Axes) -> Sequence[Dims]:
    axes = axes_of(walk, node)
    if not source:
        return []
    if axes is None:
        if len(node.input) > 1 or any(one is None or one.fixed is None for one in source):
            return []
        return [tuple(one for one in source if one is not None and one.fixed != 1)]
    gone = {axis % len(source) for axis in axes}
    for axis in gone:
        walk.require(source[axis], "equal", 1)
    return [tuple(one for axis, one in enumerate(source) if axis not in gone)]


def _unsqueeze(walk: Walk, _index: int, node: NodeProto) -> None:
    """Puts axes of length 1 in."""
    found, rank = walk.source(node), walk.rank(node.output[0])
    new = {axis % rank for axis in _named_axes(walk, node)}
    old = [axis for axis in range(rank) if axis not in new]
    walk.put(node, old[found.axis], found.units)


@of_source
def _unsqueezed(walk: LengthWalk, node: NodeProto, source: Axes) -> Sequence[Dims]:
    axes = axes_of(walk, node)
    if axes is None:
        return []
    rank = len(source) + len(axes)
    new = {axis % rank for axis in axes}
    left = iter(source)
    return [tuple(constant(1) if axis in new else next(left) for axis in range(rank))]


def _concat(walk: Walk, _index: int, node: NodeProto) -> None:
    """Joins channels, or merges them where another axis is joined."""
    labelled = dict(walk.labelled(node))
    axis = whole(node, "axis", 1) % walk.rank(node.output[0])
    places = {found.axis for found in labelled.values()}
    if len(places) > 1:
        raise Barrier("joins channels of different axes")
    (place,) = places
    sized = [walk.has_fixed_channels(node.input[slot]) for slot in labelled]
    if place != axis:
        if len(labelled) < len(node.input):
            raise Barrier("joins channels with some that stay")
        if not all(sized):
            raise Barrier("joins channels that lie otherwise at other sizes")
        units, *others = (found.units for found in labelled.values())
        for other in others:
            units = walk.merge(node, units, other)
        walk.put(node, place, units)
        return
    unlabelled = [name for slot, name in enumerate(node.input) if slot not in labelled]
    sized += [walk.fixed(name)[axis] is not None for name in unlabelled]
    if sized.count(False) > 1:
        # One length of the whole could be made up in several ways.
        raise Barrier("joins channels that lie otherwise at other sizes")
    parts = [
        labelled[slot].units
        if slot in labelled
        else np.full(walk.shape(name)[axis], NO_UNIT, np.int64)
        for slot, name in enumerate(node.input)
    ]
    walk.put(node, axis, np.concatenate(parts))


def _joined(walk: LengthWalk, node: NodeProto, dims: Sequence[Dims]) -> Sequence[Dims]:
    known = [own for own in dims if own is not None]
    if not known or not known[0]:
        return [None]
    rank = len(known[0])
    if any(len(own) != rank for own in known):
        return [None]
    axis = attribute(node, "axis", 0) % rank
    found: list[Length | None] = list(known[0])
    for own in known[1:]:
        for place, length in enumerate(own):
            if place != axis:
                walk.require_equal(found[place], length)
                found[place] = found[place] or length
    found[axis] = _total([None if own is None else own[axis] for own in dims])
    return [tuple(found)]


def _total(lengths: Sequence[Length | None]) -> Length | None:
    """The sum of lengths, of which one may depend on an axis, or all be alike."""
    if len({*lengths}) == 1 and lengths[0] is not None:
        return lengths[0].times(constant(len(lengths)))
    moving = [length for length in lengths if length is None or length.fixed is None]
    rest = sum(length.fixed or 0 for length in lengths if length is not None)
    if not moving:
        return constant(rest)
    if len(moving) > 1 or moving[0] is None:
        return None
    return moving[0].stepped(Step(plus=rest))


def _split(walk: Walk, _index: int, node: NodeProto) -> None:
    """Parts channels, or hands all of them to every part."""
    found = walk.source(node)
    if has_input(node, 1) and walk.constants.tensor(node.input[1]) is None:
        raise Barrier("takes lengths that are computed")
    axis = whole(node, "axis", 0) % found.rank
    if axis == found.axis and not walk.has_fixed_channels(node.input[0]):
        raise Barrier("parts channels that lie otherwise at other sizes")
    start = 0
    for slot, name in enumerate(node.output):
        if axis != found.axis:
            walk.put(node, found.axis, found.units, slot)
            continue
        length = walk.shape(name)[axis]
        walk.put(node, axis, found.units[start : start + length], slot)
        start += length


def _resplit(cut: Cut, node: NodeProto) -> None:
    """The lengths of its parts."""
    axis = cut.axis(node.input[0])
    if axis is None or whole(node, "axis", 0) % axis.rank != axis.axis:
        return
    count, total = len(node.output), len(axis.units)
    lengths = cut.numbers(node, 1) or wholes(node, "split")
    if lengths is None:
        each = -(-total // count)
        lengths = [min(each, total - place * each) for place in range(count)]
    ends = np.cumsum([0, *lengths])
    sizes = [cut.left(axis.units[ends[part] : ends[part + 1]]) for part in range(count)]
    kept = [each for each in node.attribute if each.name not in ("split", "num_outputs")]
    del node.attribute[:]
    node.attribute.extend(kept)
    if cut.opset < _FIRST_OPSET_WITH_LENGTHS_AS_INPUT:
        node.attribute.append(helper.make_attribute("split", sizes))
        return
    del node.input[1:]
    node.input.append(cut.vector(node, sizes))


@of_source
def _parted(walk: LengthWalk, node: NodeProto, source: Axes) -> Sequence[Dims]:
    if not source:
        return []
    axis, count = attribute(node, "axis", 0) % len(source), len(node.output)
    sizes, own = attribute(node, "split"), source[axis]
    if sizes is None and has_input(node, 1):
        sizes = walk.known(node.input[1])
        if sizes is None:
            return []
    if sizes is not None:
        if own is not None and own.fixed is None:
            walk.require(own, "equal", sum(sizes))
        parts: list[Length | None] = [constant(size) for size in sizes]
    else:
        walk.require(own, "multiple", count)
        parts = [stepped(own, Step(by=count))] * count
    return [(*source[:axis], part, *source[axis + 1 :]) for part in parts]


def _pad(walk: Walk, index: int, node: NodeProto) -> None:
    """Pads positions."""
    found = walk.source(node)
    pads = walk.known(node.input[1]) if has_input(node, 1) else wholes(node, "pads")
    axes: list[int] | None = list(range(found.rank))
    if has_input(node, 3):
        axes = walk.known(node.input[3])
    if pads is None or axes is None:
        raise Barrier("takes pads that are computed")
    for place, axis in enumerate(axes):
        if axis % found.rank == found.axis and (pads[place] or pads[place + len(axes)]):
            raise Barrier("adds or drops channels")
    handed_on(walk, index, node)


@of_source
def _padded(walk: LengthWalk, node: NodeProto, source: Axes) -> Sequence[Dims]:
    pads = attribute(node, "pads")
    if pads is None and len(node.input) > 1:
        pads = walk.known(node.input[1])
    if pads is None:
        return [(None,) * len(source)]
    axes = list(range(len(source)))
    if has_input(node, 3):
        axes = [axis % len(source) for axis in walk.known(node.input[3]) or []]
    found, count = list(source), len(pads) // 2
    for place, axis in enumerate(axes[:count]):
        found[axis] = stepped(source[axis], Step(plus=pads[place] + pads[place + count]))
    return [tuple(found)]


def _slice(walk: Walk, index: int, node: NodeProto) -> None:
    """Slice over positions."""
    found = walk.source(node)
    if has_input(node, 3):
        axes = walk.known(node.input[3])
    elif has_input(node, 1):
        axes = list(range(walk.shape(node.input[1])[0]))
    else:
        axes = wholes(node, "axes") or list(range(len(wholes(node, "starts") or ())))
    if axes is None:
        raise Barrier("takes axes that are computed")
    if found.axis in {axis % found.rank for axis in axes}:
        raise Barrier("takes some of the channels")
    handed_on(walk, index, node)


@of_source
def _sliced(walk: LengthWalk, node: NodeProto, source: Axes) -> Sequence[Dims]:
    nothing: Dims = (None,) * len(source)
    starts, ends, axes = (attribute(node, name) for name in ("starts", "ends", "axes"))
    steps = None
    if starts is None:
        starts, ends, axes, steps = (
            walk.known(name) if name else None for name in (*node.input[1:], "", "", "")[:4]
        )
        if has_input(node, 4) and steps is None:
            return [nothing]
    if axes is None:
        if starts is None and ends is None:
            return [nothing]
        axes = list(range(len(starts or ends)))
    found = list(source)
    for place, each in enumerate(axes):
        step = 1 if steps is None else steps[place]
        known = starts is not None and ends is not None and step == 1
        axis = each % len(source)
        found[axis] = _cut_out(source[axis], starts[place], ends[place]) if known else None
    return [tuple(found)]


def _cut_out(length: Length | None, start: int, end: int) -> Length | None:
    """What a slice leaves of an axis."""
    if length is None:
        return None
    if length.fixed is not None:
        return constant(len(range(*slice(start, end).indices(length.fixed))))
    if start >= 0 and end > _LAST:
        return length.stepped(Step(plus=-start))
    if start >= 0 > end:
        return length.stepped(Step(plus=end - start))
    if start < 0 and end > _LAST:
        return constant(-start)
    # Of axes that are longer than the slice, which is what exporters mean by one.
    return constant(end - start) if end > start >= 0 or start < end < 0 else None


def _gathered(walk: LengthWalk, node: NodeProto, dims: Sequence[Dims]) -> Sequence[Dims]:
    source, indices = dims[0], dims[1]
    if not source:
        return [None]
    axis = attribute(node, "axis", 0) % len(source)
    _look_up(walk, node.input[1], source[axis])
    return [None if indices is None else (*source[:axis], *indices, *source[axis + 1 :])]


def _embedded(walk: LengthWalk, node: NodeProto, dims: Sequence[Dims]) -> Sequence[Dims]:
    """EmbedLayerNormalization, which looks words and segments up."""
    for slot, table in ((0, 2), (1, 4)):
        rows = dims[table] if table < len(dims) else None
        if rows:
            _look_up(walk, node.input[slot], rows[0])
    return []


def _look_up(walk: LengthWalk, name: str, rows: Length | None) -> None:
    """An input of whole numbers may be an index into so many rows."""
    source = walk.scope[name].source
    if source is not None and rows is not None and rows.fixed is not None:
        fewest = walk.found.tables.get(source, rows.fixed)
        walk.found.tables[source] = min(fewest, rows.fixed)


def _expanded(walk: LengthWalk, node: NodeProto, dims: Sequence[Dims]) -> Sequence[Dims]:
    return [walk.broadcast(dims[0], walk.dims_in(node.input[1]))]


def _filled(walk: LengthWalk, node: NodeProto, _dims: Sequence[Dims]) -> Sequence[Dims]:
    return [walk.dims_in(node.input[0])]


def _shape(_walk: LengthWalk, _node: NodeProto, dims: Sequence[Dims]) -> Sequence[Dims]:
    return [None if dims[0] is None else (constant(len(dims[0])),)]


def _size(_walk: LengthWalk, _node: NodeProto, _dims: Sequence[Dims]) -> Sequence[Dims]:
    return [()]


def _lengths(walk: Numbers, node: NodeProto) -> Row:
    """Shape: the lengths of all axes, or of some."""
    found = walk.lengths(node.input[0])
    return Row(found[whole(node, "start", 0) : whole(node, "end", len(found))])


def _size_of(walk: Numbers, node: NodeProto) -> Row:
    """Size: how many numbers a tensor has."""
    return Row((Row(walk.lengths(node.input[0])).product,), rank=0)


def _looked_up(walk: Numbers, node: NodeProto) -> Row:
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


def _sliced_row(walk: Numbers, node: NodeProto) -> Row:
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


def same_numbers(walk: Numbers, node: NodeProto) -> Row:
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


def _joined_rows(walk: Numbers, node: NodeProto) -> Row:
    """Concat."""
    return Row(tuple(entry for name in node.input for entry in walk.vector(name)))


def _filled_row(walk: Numbers, node: NodeProto) -> Row:
    """ConstantOfShape."""
    lengths = walk.vector(node.input[0])
    count = Row(lengths).product.fixed
    if count is None or count > MOST_NUMBERS:
        raise Unknown
    tensor = attribute(node, "value")
    value = 0 if tensor is None else int(numpy_helper.to_array(tensor).reshape(-1)[0])
    return Row((constant(value),) * count, len(lengths))


OPERATORS = {
    "Transpose": Operator(lengths=_transposed, channels=_transpose, passes_values=True),
    "Squeeze": Operator(
        lengths=_squeezed, channels=_squeeze, numbers=same_numbers, passes_values=True
    ),
    "Unsqueeze": Operator(
        lengths=_unsqueezed, channels=_unsqueeze, numbers=same_numbers, passes_values=True
    ),
    "Concat": Operator(lengths=_joined, channels=_concat, numbers=_joined_rows),
    "Split": Operator(lengths=_parted, channels=_split, settings=_resplit, all_outputs=True),
    "Pad": Operator(lengths=_padded, channels=_pad),
    "Slice": Operator(lengths=_sliced, channels=_slice, numbers=_sliced_row),
    # Channels end at these, and only how many there are goes on.
    "Gather": Operator(lengths=_gathered, numbers=_looked_up),
    "EmbedLayerNormalization": Operator(lengths=_embedded),
    "Expand": Operator(lengths=_expanded),
    "ConstantOfShape": Operator(lengths=_filled, numbers=_filled_row),
    "Shape": Operator(lengths=_shape, numbers=_lengths),
    "Size": Operator(lengths=_size, numbers=_size_of),
}
