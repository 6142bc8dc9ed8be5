"""Orders and damage curves of groups in the cache."""

import hashlib
from collections.abc import Iterable, Mapping

from onnx_relusv.cache import NO_CACHE, Fields
from onnx_relusv.damage_measure import DamageMeasure
from onnx_relusv.decisions import GroupCurve
from onnx_relusv.entries.groups import group_curve_arrays, group_curve_of, is_order
from onnx_relusv.opened import Opened
from onnx_relusv.pruning.elimination import Elimination

_ORDER, _CURVE = "order", "cuts"


class KeptOrders:
    """The orders of a model's groups.

    Args:
        opened: The model and its samples, split.
    """

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    def get(
        self, group: str, units: int, dead: Iterable[int], first: Iterable[int]
    ) -> Elimination | None:
        """What was found before for a group of which some units are dead, and some go first."""
        arrays = self._opened.cache.get(_ORDER, self._fields(group, dead, first))
        if arrays is None or not is_order(arrays, units):
            return None
        return Elimination(order=arrays["order"], levels=arrays["levels"])

    def put(
        self, group: str, dead: Iterable[int], first: Iterable[int], found: Elimination
    ) -> None:
        """Keeps an order.

        Raises:
            UsageError: There is no room for it.
        """
        fields = self._fields(group, dead, first)
        arrays = {"order": found.order, "levels": found.levels}
        self._opened.cache.put(_ORDER, fields, arrays)

    def _fields(self, group: str, dead: Iterable[int], first: Iterable[int]) -> Fields:
        return {
            **self._opened.identity,
            "group": group,
            "dead": [int(unit) for unit in dead],
            "first": [int(unit) for unit in first],
        }


class KeptCurves:
    """The damage curves of a model's groups, examined together.

    Args:
        opened: The model and its samples, split.
        measure: What damage is; nobody knows what somebody else's code depends on, so that of a
            metric is not kept.
        counts: Of every group by its key, those that are measured.
    """

    def __init__(
        self, opened: Opened, measure: DamageMeasure, counts: Mapping[str, tuple[int, ...]]
    ) -> None:
        self._opened, self._measure, self._counts = opened, measure, counts
        self._cache = opened.cache if measure.metric is None else NO_CACHE

    def get(self, key: str, elimination: Elimination) -> GroupCurve | None:
        """What was measured before."""
        arrays = self._cache.get(_CURVE, self._fields(key, elimination))
        return None if arrays is None else group_curve_of(arrays, key, self._counts[key])

    def put(self, curve: GroupCurve, elimination: Elimination) -> None:
        """Keeps a curve.

        Raises:
            UsageError: There is no room for it.
        """
        fields = self._fields(curve.key, elimination)
        self._cache.put(_CURVE, fields, group_curve_arrays(curve))

    def _fields(self, key: str, elimination: Elimination) -> Fields:
        return {
            **self._opened.identity,
            "measure": self._measure.words,
            # Which groups are examined decides how the model is cut, and so how it rounds.
            "groups": list(self._counts),
            "group": key,
            "counts": list(self._counts[key]),
            "order": hashlib.sha256(elimination.order.tobytes()).hexdigest(),
        }
