"""Flatten and Reshape: where they take channels, and what they make of lengths.

Shapes come from a run with one sample. Another batch or another size of image may make something
else of one and the same Reshape, so what is decided has to hold for these too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
import onnx_graphsurgeon as gs
from onnx import NodeProto

from onnx_relusv.graph.channels import lengths
from onnx_relusv.graph.channels.lengths import Axes, Dims, Length, LengthWalk, constant
from onnx_relusv.graph.channels.moving import same_numbers
from onnx_relusv.graph.channels.operator import (
    ChannelStatistics,
    Cut,
    Operator,
    StatisticsWalk,
    of_source,
)
from onnx_relusv.graph.channels.walk import Barrier, Units, Walk
from onnx_relusv.graph.nodes import Shape, attribute, whole

# By what lengths that are not fixed are multiplied when a reshape is tried at other sizes.
_FACTORS = (1, 2, 3)


@dataclass(frozen=True)
class Reshaping:
    """What a Flatten or a Reshape does to shapes.

    Attributes:
        wanted: A Reshape's shape as given, with 0 and -1; None for a Flatten.
        allow_zero: Whether a 0 is a length of 0, and not that of the input.
        axis: A Flatten's.
    """

    wanted: tuple[int, ...] | None
    allow_zero: bool = False
    axis: int = 1

    def __call__(self, before: Sequence[int]) -> Shape | None:
        """The new shape; None where there is none."""
        if self.wanted is None:
            axis = self.axis + len(before) if self.axis < 0 else self.axis
            return prod(before[:axis]), prod(before[axis:])
        after = list(self.wanted)
        if not self.allow_zero:
            if any(not each and place >= len(before) for place, each in enumerate(after)):
                return None
            after = [each or before[place] for place, each in enumerate(after)]
        total = prod(before)
        if -1 in after:
            known = -prod(after)
            if not known or total % known:
                return None
            after[after.index(-1)] = total // known
        return tuple(after) if prod(after) == total else None


@dataclass(frozen=True)
class Run:
    """How channels lie along an axis.

    Attributes:
        axis: The axis.
        each: How many neighbouring indices belong to one channel.
        times: How often the row of all channels comes.
    """

    axis: int
    each: int = 1
    times: int = 1

    def count(self, shape: Shape) -> int:
        """How many channels there are."""
        return shape[self.axis] // (self.each * self.times)


def destination(
    reshaping: Reshaping, before: Shape, run: Run, fixed: Sequence[int | None]
) -> Run | None:
    """Where a reshape takes channels; None if not to one axis, or not to the same at all sizes.

    Args:
        reshaping: What is done.
        before: The shape of its input at one size.
        run: How channels lie in it. Their axis has this length at all sizes.
        fixed: Which of the other lengths are the same at all sizes.
    """
    found = [_moved(reshaping, before, run)]
    for other in _other_sizes(before, run.axis, fixed):
        # A size that cannot be reshaped cannot come.
        if reshaping(other) is not None:
            found.append(_moved(reshaping, other, run))
    first = found[0]
    if first is None or any(each is None or each.axis != first.axis for each in found):
        return None
    # If both vary, an axis of one length can be made in several ways.
    for along in ("each", "times"):
        if len({getattr(each, along) for each in found}) == 1:
            return first if _stays_valid(reshaping, before, run, first) else None
    return None


def _other_sizes(before: Shape, channels: int, fixed: Sequence[int | None]) -> Iterator[Shape]:
    free = [place != channels and length is None for place, length in enumerate(fixed)]
    for factors in product(*(_FACTORS if each else (1,) for each in free)):
        yield tuple(length * factor for length, factor in zip(before, factors, strict=True))


def _moved(reshaping: Reshaping, before: Shape, run: Run) -> Run | None:
    """Where channels are at one size: on the axis that takes all of them up, and never the first.

    With C channels, T rows and E indices each in front, it has to have t C e indices, where
    t divides what is in front of the channels and e what is behind them.
    """
    after = reshaping(before)
    if after is None or not prod(after):
        return None
    count = run.count(before)
    front = prod(before[: run.axis]) * run.times
    back = prod(before[run.axis + 1 :]) * run.each
    for axis in range(1, len(after)):
        new_front, new_back = prod(after[:axis]), prod(after[axis + 1 :])
        times, each = front // new_front, back // new_back
        whole = times * new_front == front and each * new_back == back
        if whole and after[axis] == times * count * each:
            return Run(axis, each, times)
    return None


def _stays_valid(reshaping: Reshaping, before: Shape, run: Run, place: Run) -> bool:
    """Whether, with a channel less, the given shape with its renamed length means the same."""
    after = reshaping(before)
    assert after is not None  # the channels have been found in it
    if run.count(before) == 1:
        return True
    fewer, wanted = list(before), list(after)
    fewer[run.axis] -= run.each * run.times
    wanted[place.axis] -= place.each * place.times
    renamed = reshaping
    if reshaping.wanted is not None and reshaping.wanted[place.axis] > 0:
        lengths = list(reshaping.wanted)
        lengths[place.axis] = wanted[place.axis]
        renamed = Reshaping(tuple(lengths), reshaping.allow_zero)
    return renamed(fewer) == tuple(wanted)


def _reshape(walk: Walk, _index: int, node: NodeProto) -> None:
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
    wanted: Sequence[int] | None = walk.known(node.input[1])
    if wanted is None:
        wanted = walk.inferred.vectors.get(node.output[0])
    if wanted is None:
        raise Barrier("takes a shape that is computed")
    return Reshaping(tuple(wanted), bool(whole(node, "allowzero", 0)))


def _check_counts(walk: Walk, node: NodeProto, axis: int, units: Units) -> None:
    """Numbers of channels in a computed shape: they may only be of those that come to lie there.

    Raises:
        Barrier: They are of others, or elsewhere; with fewer channels, the shape would not fit.
    """
    row = walk.inferred.rows.get(node.input[1])
    for place, entry in enumerate(() if row is None else row.entries):
        counted = list(walk.counts_of(entry))
        if not counted:
            continue
        (own, *more) = counted
        if place != axis or more or not entry.is_product or not np.array_equal(own, units):
            raise Barrier("takes a shape that depends on how many channels there are")


def _renamed(cut: Cut, node: NodeProto) -> None:
    """The length of the channels' axis, where a Reshape's shape names it."""
    found = cut.axis(node.output[0])
    if found is not None:
        cut.rename_length(node, 1, found.axis)


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


@of_source
def _flattened(_walk: LengthWalk, node: NodeProto, source: Axes) -> Sequence[Dims]:
    axis = attribute(node, "axis", 1)
    axis = axis + len(source) if axis < 0 else axis
    return [(lengths.product(source[:axis]), lengths.product(source[axis:]))]


def _reshaped(walk: LengthWalk, node: NodeProto, dims: Sequence[Dims]) -> Sequence[Dims]:
    source = dims[0]
    if len(node.input) > 1:
        target = walk.dims_in(node.input[1])
    else:
        target = tuple(map(constant, attribute(node, "shape", [])))
    if target is None:
        return [None]
    keeps_zero = not attribute(node, "allowzero", 0)
    found: list[Length | None] = []
    open_place: int | None = None
    for place, length in enumerate(target):
        if length is not None and length.fixed == 0 and keeps_zero:
            found.append(source[place] if source is not None and place < len(source) else None)
        elif length is not None and length.fixed == -1:
            open_place = place
            found.append(constant(1))
        else:
            found.append(length)
    total, known = None if source is None else lengths.product(source), lengths.product(found)
    left = None if total is None or known is None else total.over(known)
    if open_place is not None:
        if left is not None and left.divisor > 1:
            walk.require(_numerator(left), "multiple", left.divisor)
        found[open_place] = left
    elif left is not None and left.fixed is None:
        walk.require(_numerator(left), "equal", left.divisor)
    elif known is not None and known.fixed is not None:
        walk.require(total, "equal", known.fixed)
    return [tuple(found)]


def _numerator(length: Length) -> Length:
    return Length(length.scale, 1, length.parts)


def _of_flatten(
    _walk: StatisticsWalk, node: gs.Node, before: Sequence[ChannelStatistics | None]
) -> ChannelStatistics | None:
    found = before[0]
    if found is None or node.attrs.get("axis", 1) != 1:
        return None
    return ChannelStatistics(found.mean, found.variance, flattened=True)


OPERATORS = {
    "Flatten": Operator(
        lengths=_flattened, channels=_reshape, statistics=_of_flatten, passes_values=True
    ),
    "Reshape": Operator(
        lengths=_reshaped,
        channels=_reshape,
        settings=_renamed,
        numbers=same_numbers,
        passes_values=True,
    ),
}
