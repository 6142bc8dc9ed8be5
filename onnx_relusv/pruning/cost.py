"""What a model costs once so many units of every group are gone; quick, since planning asks often.

Which units go does not count, only how many: along an axis, units of one group come equally often.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt
from onnx import helper

from onnx_relusv.graph.channel_records import NO_UNIT, Channels, ConstantAxis, Units
from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.count import node_macs
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.operators import Shape
from onnx_relusv.records import Floats, ReadOnlyArrays

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Lengths(ReadOnlyArrays):
    """Lengths of axes as linear functions of the groups' counts.

    Attributes:
        fixed: (axes,) float64.
        slopes: (axes, groups) float64.
    """

    fixed: Floats
    slopes: Floats

    def at(self, counts: Counts) -> Floats:
        """(axes,) float64."""
        return np.asarray(self.fixed + self.slopes @ counts)


class CutCost:
    """Bytes and multiply-accumulates of a model by how many units of every group are kept.

    Args:
        model: The model.
        channels: Its groups.
        shapes: Of the tensors around its weighted nodes, for one sample.
    """

    def __init__(self, model: Model, channels: Channels, shapes: Mapping[str, Shape]) -> None:
        self._whole = np.array([len(group.units) for group in channels.groups], np.int64)
        constants, nodes = Constants(model), model.proto.graph.node
        known = dict(shapes)
        for each in model.proto.graph.initializer:
            known[each.name] = tuple(each.dims)
        rows: list[Floats] = []
        fixed: list[float] = []
        sizes: list[float] = []
        macs: list[float] = []
        weighted: set[int] = set()
        weights = {(axis.node, axis.slot) for axis in (*channels.produced, *channels.consumed)}
        for (node, slot), axes in _by_use(channels).items():
            tensor = constants.tensor(nodes[node].input[slot])
            assert tensor is not None  # what is cut is constant
            item = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
            # An axis that no unit runs along has a length that stays.
            pairs = [counts_along(axis.units, channels) for axis in axes[:2]]
            while len(pairs) < 2:
                pairs.append((1.0, np.zeros(len(self._whole))))
            whole = float(prod(constant + slope @ self._whole for constant, slope in pairs))
            fixed.extend(constant for constant, _ in pairs)
            rows.extend(slope for _, slope in pairs)
            size = item * prod(tensor.dims)
            sizes.append(size / max(whole, 1.0))
            is_weight = (node, slot) in weights or (nodes[node].op_type == "Conv" and slot == 1)
            own = node_macs(nodes[node], known) if is_weight and node not in weighted else 0
            weighted.update([node] if is_weight else [])
            macs.append(own / max(whole, 1.0))
        slopes = np.array(rows).reshape(-1, len(self._whole))
        self._lengths = _Lengths(np.array(fixed), slopes)
        self._sizes, self._macs = np.array(sizes), np.array(macs)
        self._before = _products(self._lengths.at(self._whole))

    def saved(self, counts: Counts) -> tuple[float, float]:
        """Bytes and multiply-accumulates for one sample that are saved.

        Args:
            counts: (groups,) int64: units that are kept.
        """
        gone = self._before - _products(self._lengths.at(counts))
        return float(self._sizes @ gone), float(self._macs @ gone)

    def saved_with(self, counts: Counts, place: int, options: Counts) -> tuple[Floats, Floats]:
        """The same with one group at each of some counts, (options,) float64 each.

        Args:
            counts: (groups,) int64.
            place: Which group.
            options: (options,) int64: units that are kept of it.
        """
        steps = np.multiply.outer(options - counts[place], self._lengths.slopes[:, place])
        gone = self._before - _products(self._lengths.at(counts) + steps)
        return gone @ self._sizes, gone @ self._macs


def _products(lengths: Floats) -> Floats:
    """Of pairs of axes: (..., 2 n) to (..., n)."""
    return np.asarray(lengths[..., 0::2] * lengths[..., 1::2])


def counts_along(units: Units, channels: Channels) -> tuple[float, Floats]:
    """What of an axis stays, and how often every group's units come along it, on average."""
    slope = np.array(
        [
            np.sum((units >= group.units.start) & (units < group.units.stop))
            / max(len(group.units), 1)
            for group in channels.groups
        ]
    )
    return float(np.sum(units == NO_UNIT)), slope


def _by_use(channels: Channels) -> dict[tuple[int, int], list[ConstantAxis]]:
    found: dict[tuple[int, int], list[ConstantAxis]] = {}
    for axis in _axes(channels):
        found.setdefault((axis.node, axis.slot), []).append(axis)
    return found


def _axes(channels: Channels) -> Iterator[ConstantAxis]:
    yield from channels.produced
    yield from channels.consumed
    yield from channels.carried
