"""The methods of rewriting, as plug-ins of one kind: each finds items, and says what may be tried.

A plan decides on the items of all methods together; what becomes of a block is written by `apply`.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from onnx_relusv.core.blocks import Block, Item, Site
from onnx_relusv.core.measures import Measured
from onnx_relusv.core.options import PlanOptions
from onnx_relusv.core.reduction import FittedPlan
from onnx_relusv.graph.model import Model
from onnx_relusv.measuring.blocks import Ground
from onnx_relusv.measuring.case import Case
from onnx_relusv.rewrites.low_rank.method import DoubleLayers
from onnx_relusv.rewrites.prune.method import HarmonicPruning
from onnx_relusv.work.executors import Progress

AnyItem = TypeVar("AnyItem", bound=Item)


class Rewrite(Protocol[AnyItem]):
    """A method of rewriting."""

    @property
    def name(self) -> str:
        """As in --method."""
        ...

    @property
    def nothing(self) -> str:
        """What to say where it finds no item."""
        ...

    @property
    def measuring(self) -> str:
        """What is shown while damages are measured."""
        ...

    def default_error(self, informed: bool) -> float:
        """The common relative error without any budget.

        Args:
            informed: Whether anything is known of the inputs.
        """
        ...

    def items(self, ground: Ground, planning: PlanOptions, progress: Progress) -> list[AnyItem]:
        """What it may change, with the options that its damages are measured at."""
        ...

    def finer(self, item: AnyItem, ground: Ground, planning: PlanOptions) -> AnyItem:
        """An item with all of its options."""
        ...

    def sites(self, items: Sequence[AnyItem], ground: Ground) -> list[Site]:
        """What is tried of the items, to find out what their options do to the outputs."""
        ...

    def with_damages(
        self, item: AnyItem, damages: Mapping[tuple[Any, ...], float]
    ) -> tuple[AnyItem, tuple[Measured, ...]]:
        """An item with the damages of all its options, by those of its tries; and the curves."""
        ...

    def apply(
        self, case: Case, model: Model, blocks: tuple[Block, ...], fitted: FittedPlan
    ) -> tuple[Model, tuple[Block, ...]]:
        """Carries out its part of a plan.

        Args:
            case: The original.
            model: As the methods before have left it.
            blocks: What they have left of the blocks, their nodes those of that model.
            fitted: The plan and its factors.

        Returns:
            The model and the blocks that are left for the methods behind.
        """
        ...


# In the order in which they change a graph.
REWRITES: Mapping[str, Rewrite[Any]] = MappingProxyType(
    {rewrite.name: rewrite for rewrite in (HarmonicPruning(), DoubleLayers())}
)


class Asked(Protocol):
    """What is said of methods."""

    @property
    def method(self) -> str:
        """As in --method."""
        ...

    @property
    def uses_int8(self) -> bool:
        """Whether blocks may be computed with 8-bit integers."""
        ...


def rewrites_of(asked: Asked) -> tuple[Rewrite[Any], ...]:
    """The methods that a --method names: one, or all of them for ``auto``.

    What blocks are computed with is told with their double layers, even where there may be none.
    """
    alone = REWRITES.get(asked.method)
    if alone is None or (asked.uses_int8 and asked.method != DoubleLayers.name):
        return tuple(REWRITES.values())
    return (alone,)
