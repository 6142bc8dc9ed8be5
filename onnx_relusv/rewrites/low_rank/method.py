"""Double layers as a method of rewriting: what every block may become, and how it is tried."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np

from onnx_relusv.core.blocks import Block, Floats, Item, LinearMap, Moments, Site, interpolated
from onnx_relusv.core.options import PlanOptions
from onnx_relusv.core.plans import Candidate, Cost, DamageCurve
from onnx_relusv.core.reduction import FittedPlan
from onnx_relusv.graph.model import Model
from onnx_relusv.rewrites.low_rank.candidates import between_ranks, block_cost, undominated
from onnx_relusv.rewrites.low_rank.factors import as_stored
from onnx_relusv.rewrites.low_rank.forms import FORMS
from onnx_relusv.rewrites.low_rank.surgery import replaced
from onnx_relusv.work.executors import Progress

MOST_RANKS = 4
# Of a block's bytes: what lies outside is not worth a measurement.
_LEAST_SHARE, _MOST_SHARE = 0.02, 0.7
# Of the original's bytes: smaller steps between the ranks of a block are not worth an option.
_FINEST = 1e-3
# By how much a block's time may seem to grow without its being slower: timings vary.
TIMING_NOISE = 0.05
# Without a budget: what these leave of the accuracy is measured in docs/how-it-works.md.
DEFAULT_ERROR, DEFAULT_ERROR_WITHOUT_SAMPLES = 0.02, 0.1


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerItem(Item):
    """A block that may become a double layer.

    Attributes:
        block: The block.
        layers: By option what it becomes, bytes decreasing; None, to stay in its form, is first.
        now: What it costs as it is.
    """

    block: Block
    layers: tuple[Candidate | None, ...]
    now: Cost
    # Of what the changed blocks save on average: a block that saves less stays, for by one common
    # error a small classifier is hurt as much as a large layer.
    least_saving: ClassVar[float] = 0.01

    @property
    def costs(self) -> list[Cost | Candidate]:
        """Of every option, as long as the block has all of its channels."""
        return [self.now, *(layer for layer in self.layers if layer is not None)]

    @property
    def sizes(self) -> Floats:
        """(options,) float64, positive: what options are told apart by, from the largest down."""
        sizes = np.array([cost.bytes for cost in self.costs], np.float64)
        return np.maximum.accumulate(sizes[::-1])[::-1] + 1

    def some(self, places: Sequence[int]) -> Self:
        """With these options alone; the first one has to be among them."""
        chosen = list(places)
        return replace(
            self,
            errors=self.errors[chosen],
            damages=self.damages[chosen],
            layers=tuple(self.layers[place] for place in chosen),
        )

    def fast_enough(self) -> Self:
        """With the options that do not make the block slower."""
        most = self.now.latency * (1 + TIMING_NOISE)
        timed = enumerate(self.costs)
        return self.some([place for place, cost in timed if place == 0 or cost.latency <= most])


def layer_item(block: Block, offered: Sequence[Candidate], latency: float = np.nan) -> LayerItem:
    """A block with the double layers that it may become, whose damages are not known.

    Args:
        block: The block.
        offered: Its candidates.
        latency: Seconds that the block takes as it is, where it was timed.
    """
    ordered = sorted(offered, key=lambda layer: (-layer.bytes, layer.level, layer.macs))
    return LayerItem(
        key=block.key,
        errors=np.array([0.0, *(layer.level for layer in ordered)]),
        damages=np.array([0.0, *[np.nan] * len(ordered)]),
        block=block,
        layers=(None, *ordered),
        now=replace(block_cost(block), latency=latency),
    )


class Measurements(Protocol):
    """What a model's double layers are found from."""

    @property
    def blocks(self) -> Sequence[Block]:
        """The model's, in topological order."""
        ...

    @property
    def candidates(self) -> Mapping[str, Sequence[Candidate]]:
        """What was found of every block, by key."""
        ...

    @property
    def moments(self) -> Mapping[str, Moments | None]:
        """Of the blocks' inputs, by key."""
        ...

    @property
    def folding(self) -> Callable[[Block], LinearMap]:
        """Reads the linear map of a block."""
        ...

    @property
    def model_bytes(self) -> int:
        """Of the original's file, external data included."""
        ...


class DoubleLayers:
    """Lowers the rank of blocks: each may become a pair, or more, of thinner layers."""

    name: Literal["double-layer"] = "double-layer"
    nothing = "no block of this model can be made smaller"
    measuring = "Damage of the blocks' forms"

    def default_error(self, informed: bool) -> float:
        """The common relative error without any budget.

        Args:
            informed: Whether anything is known of the inputs. A plain error overstates what a
                change does to real ones, so it may be larger.
        """
        return DEFAULT_ERROR if informed else DEFAULT_ERROR_WITHOUT_SAMPLES

    def items(
        self, measured: Measurements, planning: PlanOptions, progress: Progress
    ) -> list[LayerItem]:
        """The blocks that may change and have a form that makes them smaller."""
        return [
            layer_item(block, measured.candidates[block.key])
            for block in measured.blocks
            if measured.candidates.get(block.key) and planning.allows(block.key)
        ]

    def finer(self, item: LayerItem, measured: Measurements) -> LayerItem:
        """With what lies between the ranks of its candidates, so that budgets can be used.

        Relative errors are interpolated between neighbouring ranks. Times are not, so there are no
        such options where these count.
        """
        candidates = [layer for layer in item.layers if layer is not None]
        grid = sorted(candidates, key=lambda layer: (layer.form, layer.rank))
        between = between_ranks(item.block, grid, _FINEST * measured.model_bytes)
        return layer_item(item.block, [*candidates, *between])

    def sites(self, items: Sequence[LayerItem], measured: Measurements) -> list[Site]:
        """What is tried of every block: a few ranks of the forms that no other form beats."""
        return [self._site(item, measured) for item in items]

    def _site(self, item: LayerItem, measured: Measurements) -> Site:
        block, ranks = item.block, ranks_to_measure(item)

        def maps() -> Iterator[Mapping[str, LinearMap]]:
            linear, moments = measured.folding(block), measured.moments[block.key]
            for form, own in ranks.items():
                for factors in FORMS[form].factors(block.geometry, linear, moments, own):
                    yield {block.key: as_stored(block, factors)}

        tried = tuple((form, rank) for form, own in ranks.items() for rank in own)
        return Site(item.key, (block,), tried, maps)

    def with_damages(
        self, item: LayerItem, damages: Mapping[tuple[Any, ...], float]
    ) -> tuple[LayerItem, tuple[DamageCurve, ...]]:
        """With the damages of all ranks of the forms that were tried, and the curves they lie on.

        Args:
            item: A block with all of its options.
            damages: By form and rank, what was measured.
        """
        forms = list(dict.fromkeys(form for form, _ in damages))
        found, curves = item.damages.copy(), []
        for form in forms:
            ranks = tuple(rank for own, rank in damages if own == form)
            measured = tuple(damages[form, rank] for rank in ranks)
            curves.append(DamageCurve(key=item.key, form=form, ranks=ranks, damages=measured))
            layers = enumerate(item.layers)
            ranked = {p: c.rank for p, c in layers if c is not None and c.form == form}
            places, errors = list(ranked), item.errors[list(ranked)]
            by_rank = dict(zip(ranked.values(), errors.tolist(), strict=True))
            known = np.array([by_rank[rank] for rank in ranks])
            found[places] = interpolated(errors, known, np.array(measured))
        kept = [0, *np.flatnonzero(~np.isnan(found[1:])) + 1]
        return replace(item, damages=found).some(kept), tuple(curves)

    def apply(
        self, case: object, model: Model, blocks: tuple[Block, ...], fitted: FittedPlan
    ) -> tuple[Model, tuple[Block, ...]]:
        """The model with the factors of a plan in place of its blocks, which are there no more."""
        return replace(model, proto=replaced(model, blocks, fitted.factors)), ()


def ranks_to_measure(item: LayerItem) -> dict[str, tuple[int, ...]]:
    """By form, increasing: a geometric ladder over the sizes worth having."""
    whole = item.block.original_bytes
    candidates = [layer for layer in item.layers if layer is not None]
    offered = undominated(candidates, _LEAST_SHARE * whole, _MOST_SHARE * whole)
    found: dict[str, tuple[int, ...]] = {}
    for form in sorted({layer.form for layer in offered}, key=list(FORMS).index):
        own = sorted((c for c in offered if c.form == form), key=lambda layer: layer.rank)
        shares = np.array([layer.bytes for layer in own]) / whole
        low, high = max(_LEAST_SHARE, shares.min()), min(_MOST_SHARE, shares.max())
        ladder = np.geomspace(low, high, MOST_RANKS)
        places = {int(np.argmin(np.abs(np.log(shares / share)))) for share in ladder}
        found[form] = tuple(sorted(own[place].rank for place in places))
    return found
