"""Channels through nodes that move numbers about: transposition, reshaping, joining, parting."""

from collections.abc import Sequence

import numpy as np
from onnx import NodeProto

from onnx_relusv.graph.channels.sizes import Reshaping, Run, destination
from onnx_relusv.graph.channels.walk import (
    NO_UNIT,
    Barrier,
    Units,
    Walk,
    attribute,
    given,
    whole,
    wholes,
)


def transpose(walk: Walk, _index: int, node: NodeProto) -> None:
    """Moves the axis."""
    found = walk.source(node)
    order = wholes(node, "perm") or list(range(found.rank))[::-1]
    walk.put(node, order.index(found.axis), found.units)


def squeeze(walk: Walk, _index: int, node: NodeProto) -> None:
    """Takes axes of length 1 away."""
    found = walk.source(node)
    gone = {axis % found.rank for axis in _axes(walk, node)}
    if found.axis in gone:
        raise Barrier("takes the channels' axis away")
    walk.put(node, found.axis - sum(axis < found.axis for axis in gone), found.units)


def unsqueeze(walk: Walk, _index: int, node: NodeProto) -> None:
    """Puts axes of length 1 in."""
    found, rank = walk.source(node), walk.rank(node.output[0])
    new = {axis % rank for axis in _axes(walk, node)}
    old = [axis for axis in range(rank) if axis not in new]
    walk.put(node, old[found.axis], found.units)


def _axes(walk: Walk, node: NodeProto) -> list[int]:
    axes = walk.numbers(node.input[1]) if given(node, 1) else wholes(node, "axes")
    if axes is None:
        raise Barrier("takes axes that are not named")
    return axes


def reshape(walk: Walk, _index: int, node: NodeProto) -> None:
    """Flatten and Reshape: wherever an index of one axis is of one channel."""
    found, source = walk.source(node), node.input[0]
    if not walk.has_fixed_channels(source):
        raise Barrier("reshapes channels that lie otherwise at other sizes")
    fixed = walk.fixed(source)
    before = tuple(
        measured if length is None else length
        for length, measured in zip(fixed, walk.shape(source), strict=True)
    )
    each, times = _pattern(found.units)
    run = Run(found.axis, each, times)
    to = destination(_reshaping(walk, node), before, run, fixed)
    if to is None:
        raise Barrier("tears channels apart, or does at other sizes")
    if node.op_type == "Reshape":
        _check_counts(walk, node, to.axis, found.units)
    row = found.units.reshape(times, -1, each)[0, :, 0]
    walk.put(node, to.axis, np.tile(row.repeat(to.each), to.times))


def _reshaping(walk: Walk, node: NodeProto) -> Reshaping:
    if node.op_type == "Flatten":
        return Reshaping(None, axis=whole(node, "axis", 1))
    wanted: Sequence[int] | None = walk.numbers(node.input[1])
    if wanted is None:
        wanted = walk.chains.vectors.get(node.output[0])
    if wanted is None:
        raise Barrier("takes a shape that is computed")
    return Reshaping(tuple(wanted), bool(whole(node, "allowzero", 0)))


def _check_counts(walk: Walk, node: NodeProto, axis: int, units: Units) -> None:
    """Numbers of channels in a computed shape: they may only be of those that come to lie there.

    Raises:
        Barrier: They are of others, or elsewhere; with fewer channels, the shape would not fit.
    """
    sizes = walk.chains.sizes.get(node.input[1])
    for place, entry in enumerate(sizes.entries if sizes is not None else ()):
        counted = list(walk.counts_of(entry))
        if not counted:
            continue
        (own, *more) = counted
        if place != axis or more or not entry.is_product or not np.array_equal(own, units):
            raise Barrier("takes a shape that depends on how many channels there are")


def _pattern(units: Units) -> tuple[int, int]:
    """How many neighbours are of one channel everywhere, and how often the row of them comes."""
    length = len(units)
    divisors = [each for each in range(length, 0, -1) if not length % each]
    each = next(e for e in divisors if np.array_equal(units[::e].repeat(e), units))
    row = units[::each]
    times = next(t for t in divisors if not len(row) % t and np.array_equal(row, _tiled(row, t)))
    return each, times


def _tiled(row: Units, times: int) -> Units:
    return np.tile(row[: len(row) // times], times)


def concat(walk: Walk, _index: int, node: NodeProto) -> None:
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


def split(walk: Walk, _index: int, node: NodeProto) -> None:
    """Parts channels, or hands all of them to every part."""
    found = walk.source(node)
    if given(node, 1) and walk.constants.tensor(node.input[1]) is None:
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


def pad(walk: Walk, _index: int, node: NodeProto) -> None:
    """Pads positions."""
    found = walk.source(node)
    pads = walk.numbers(node.input[1]) if given(node, 1) else wholes(node, "pads")
    axes: list[int] | None = list(range(found.rank))
    if given(node, 3):
        axes = walk.numbers(node.input[3])
    if pads is None or axes is None:
        raise Barrier("takes pads that are computed")
    for place, axis in enumerate(axes):
        if axis % found.rank == found.axis and (pads[place] or pads[place + len(axes)]):
            raise Barrier("adds or drops channels")
    walk.put(node, found.axis, found.units)


def resize(walk: Walk, _index: int, node: NodeProto) -> None:
    """Resize and Upsample over positions."""
    found = walk.source(node)
    if any(walk.constants.tensor(name) is None for name in node.input[1:] if name):
        raise Barrier("takes sizes that are computed")
    if attribute(node, "coordinate_transformation_mode") == b"tf_crop_and_resize":
        raise Barrier("crops")
    scale = _scale(walk, node, found.axis, found.rank)
    if scale != 1:
        # Even one that leaves their number as it is would mix them.
        raise Barrier("resizes the channels' axis")
    walk.put(node, found.axis, found.units)


def _scale(walk: Walk, node: NodeProto, axis: int, rank: int) -> float:
    """By what an axis is scaled; where sizes are given, by what they say."""
    axes = [each % rank for each in wholes(node, "axes") or range(rank)]
    if axis not in axes:
        return 1
    place = axes.index(axis)
    named = attribute(node, "scales")
    if named is None:
        slot = 1 if node.op_type == "Upsample" or walk.opset < 11 else 2
        named = walk.constants.array(node.input[slot]) if given(node, slot) else ()
    scales = np.asarray(named, np.float64)
    if scales.size:
        return float(scales[place])
    sizes = walk.numbers(node.input[3])
    assert sizes is not None  # computed ones have been refused
    return sizes[place] / walk.shape(node.input[0])[axis]


def slicing(walk: Walk, _index: int, node: NodeProto) -> None:
    """Slice over positions."""
    found = walk.source(node)
    if given(node, 3):
        axes = walk.numbers(node.input[3])
    elif given(node, 1):
        axes = list(range(walk.shape(node.input[1])[0]))
    else:
        axes = wholes(node, "axes") or list(range(len(wholes(node, "starts") or ())))
    if axes is None:
        raise Barrier("takes axes that are computed")
    if found.axis in {axis % found.rank for axis in axes}:
        raise Barrier("takes some of the channels")
    walk.put(node, found.axis, found.units)
