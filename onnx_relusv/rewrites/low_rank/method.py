"""Double layers as a method of rewriting: what every block may become, and how it is tried."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np

from onnx_relusv.core.blocks import Block, Floats, Item, LinearMap, Moments, Site, interpolated
from onnx_relusv.core.measures import DamageCurve, IntegerDamage
from onnx_relusv.core.options import PlanOptions
from onnx_relusv.core.plans import Candidate, Cost
from onnx_relusv.core.reduction import FittedPlan
from onnx_relusv.graph.model import Model
from onnx_relusv.rewrites.low_rank.candidates import (
    between_ranks,
    block_cost,
    block_macs,
    can_be_int8,
    in_int8,
    undominated,
)
from onnx_relusv.rewrites.low_rank.factors import as_stored
from onnx_relusv.rewrites.low_rank.forms import DENSE, FORMS
from onnx_relusv.rewrites.low_rank.rounding import rounded
from onnx_relusv.rewrites.low_rank.surgery import replaced
from onnx_relusv.work.effort import Spending
from onnx_relusv.work.executors import Progress

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
        layers: By option what it becomes, bytes decreasing; the first is to stay in its form: None
            as it is, or a dense layer of other numbers.
        now: What it costs as it is.
    """

    block: Block
    layers: tuple[Candidate | None, ...]
    now: Cost
    # Of what the changed blocks save on average: a block that saves less stays, for by one common
    # error a small classifier is hurt as much as a large layer.
    least_saving: ClassVar[float] = 0.01

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """What the block may become, in the order of its options."""
        return tuple(layer for layer in self.layers if layer is not None)

    @property
    def costs(self) -> list[Cost | Candidate]:
        """Of every option, as long as the block has all of its channels."""
        return [self.now if layer is None else layer for layer in self.layers]

    @property
    def sizes(self) -> Floats:
        """(options,) float64, positive: what options are told apart by, from the largest down."""
        sizes = np.array([cost.bytes for cost in self.costs], np.float64)
        return np.maximum.accumulate(sizes[::-1])[::-1] + 1

    @property
    def is_int8(self) -> bool:
        """Whether all of its options are computed with 8-bit integers."""
        return all(layer is not None and layer.is_int8 for layer in self.layers)

    @property
    def dense_place(self) -> int | None:
        """The option to stay in its form with other numbers; None where there is none."""
        places = (
            place
            for place, layer in enumerate(self.layers)
            if layer is not None and FORMS[layer.form].one_layer
        )
        return next(places, None)

    def some(self, places: Sequence[int]) -> Self:
        """With these options alone; the first one has to be among them."""
        chosen = list(places)
        return replace(
            self,
            errors=self.errors[chosen],
            damages=self.damages[chosen],
            layers=tuple(self.layers[place] for place in chosen),
        )

    def timed(self, layers: Sequence[Candidate], latency: float) -> Self:
        """With estimated times of all that the block may become, and of what it is now."""
        found = {(layer.form, layer.rank): layer for layer in layers}
        return replace(
            self,
            layers=tuple(one and found[one.form, one.rank] for one in self.layers),
            now=replace(self.now, latency=latency),
        )

    def or_as_it_is(self) -> Self:
        """With the block as it is as the first option, before what stood there."""
        return replace(
            self,
            errors=np.append(0.0, self.errors),
            damages=np.append(0.0, self.damages),
            layers=(None, *self.layers),
        )

    def fast_enough(self) -> Self:
        """With the options that do not make the block slower than where it stays in its form."""
        most = self.costs[0].latency * (1 + TIMING_NOISE)
        timed = enumerate(self.costs)
        return self.some([place for place, cost in timed if place == 0 or cost.latency <= most])


def layer_item(
    block: Block,
    offered: Sequence[Candidate],
    latency: float = np.nan,
    *,
    stays: Candidate | None = None,
) -> LayerItem:
    """A block with the double layers that it may become, whose damages are not known.

    Args:
        block: The block.
        offered: Its candidates.
        latency: Seconds that the block takes as it is, where it was timed.
        stays: What it is where it stays in its form; None for what it is now.
    """
    ordered = sorted(offered, key=lambda layer: (-layer.bytes, layer.level, layer.macs))
    return LayerItem(
        key=block.key,
        errors=np.array([0.0, *(layer.level for layer in ordered)]),
        damages=np.array([0.0 if stays is None else np.nan, *[np.nan] * len(ordered)]),
        block=block,
        layers=(stays, *ordered),
        now=replace(block_cost(block), latency=latency),
    )


def dense_int8(block: Block) -> Candidate:
    """A block in its own form, computed with 8-bit integers."""
    rank = DENSE.largest_rank(block.geometry)
    return in_int8(
        block, Candidate(form=DENSE.name, rank=rank, level=0.0, bytes=0, macs=block_macs(block))
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

    @property
    def opset(self) -> int:
        """The original's operator set."""
        ...

    @property
    def spending(self) -> Spending:
        """What is done for a better file."""
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
            item
            for block in measured.blocks
            if planning.allows(block.key)
            and (item := self._item(block, measured, planning)) is not None
        ]

    def _item(
        self, block: Block, measured: Measurements, planning: PlanOptions
    ) -> LayerItem | None:
        lowers_ranks = planning.lowers_ranks and not planning.changes_precision_alone
        offered = measured.candidates.get(block.key, ()) if lowers_ranks else ()
        if planning.uses_int8 and can_be_int8(block, measured.opset):
            stays = dense_int8(block)
            # Scales and nodes may take more than a small block saves.
            if stays.bytes < block.original_bytes:
                layers = [in_int8(block, layer) for layer in offered]
                return layer_item(block, layers, stays=stays)
        return layer_item(block, offered) if offered else None

    def finer(self, item: LayerItem, measured: Measurements, planning: PlanOptions) -> LayerItem:
        """With what lies between the ranks of its candidates, so that budgets can be used.

        Relative errors are interpolated between neighbouring ranks. Times are not, so there are no
        such options where these count.
        """
        stays = item.layers[0]
        candidates = [layer for layer in item.candidates if layer is not stays]
        grid = sorted(candidates, key=lambda layer: (layer.form, layer.rank))
        finest = _FINEST * measured.model_bytes
        convolved = len(item.block.geometry.kernel) == 2
        between = between_ranks(item.block, grid, finest, planning.multiple if convolved else None)
        return layer_item(item.block, [*candidates, *between], stays=stays)

    def sites(self, items: Sequence[LayerItem], measured: Measurements) -> list[Site]:
        """What is tried of every block: a few ranks of the forms that no other form beats."""
        return [self._site(item, measured) for item in items]

    def _site(self, item: LayerItem, measured: Measurements) -> Site:
        block, ranks = item.block, ranks_to_measure(item, measured.spending.most_ranks)
        integers = item.is_int8

        def maps() -> Iterator[Mapping[str, LinearMap]]:
            linear, moments = measured.folding(block), measured.moments[block.key]
            for form, own in ranks.items():
                for factors in FORMS[form].factors(block.geometry, linear, moments, own):
                    if integers:
                        factors = rounded(block.geometry, factors, moments, 0, fed_back=False)
                    yield {block.key: as_stored(block, factors)}

        tried = tuple((form, rank) for form, own in ranks.items() for rank in own)
        return Site(item.key, (block,), tried, maps, quantized=integers)

    def with_damages(
        self, item: LayerItem, damages: Mapping[tuple[Any, ...], float]
    ) -> tuple[LayerItem, tuple[DamageCurve | IntegerDamage, ...]]:
        """With the damages of all ranks of the forms that were tried, and the curves they lie on.

        Args:
            item: A block with all of its options.
            damages: By form and rank, what was measured.
        """
        forms = list(dict.fromkeys(form for form, _ in damages))
        found = item.damages.copy()
        curves: list[DamageCurve | IntegerDamage] = []
        for form in forms:
            ranks = tuple(rank for own, rank in damages if own == form)
            measured = tuple(damages[form, rank] for rank in ranks)
            if FORMS[form].one_layer:
                curves.append(IntegerDamage(key=item.key, damage=measured[0]))
            else:
                curves.append(DamageCurve(key=item.key, form=form, ranks=ranks, damages=measured))
            layers = enumerate(item.layers)
            ranked = {p: c.rank for p, c in layers if c is not None and c.form == form}
            places, errors = list(ranked), item.errors[list(ranked)]
            by_rank = dict(zip(ranked.values(), errors.tolist(), strict=True))
            known = np.array([by_rank[rank] for rank in ranks])
            found[places] = interpolated(errors, known, np.array(measured))
        kept = [0, *np.flatnonzero(~np.isnan(found[1:])) + 1]
        # Where it stays in its form with other numbers, a lower rank does no less than these.
        item = replace(item, damages=np.maximum(found, found[0])).some(kept)
        return item, tuple(curves)

    def apply(
        self, case: object, model: Model, blocks: tuple[Block, ...], fitted: FittedPlan
    ) -> tuple[Model, tuple[Block, ...]]:
        """The model with the factors of a plan in place of its blocks, which are there no more."""
        return replace(model, proto=replaced(model, blocks, fitted.factors)), ()


def ranks_to_measure(item: LayerItem, most: int) -> dict[str, tuple[int, ...]]:
    """By form, increasing: a geometric ladder, of so many, over the sizes worth having."""
    stays = item.layers[0]
    whole = item.block.original_bytes if stays is None else stays.bytes
    candidates = [layer for layer in item.candidates if layer is not stays]
    offered = undominated(candidates, _LEAST_SHARE * whole, _MOST_SHARE * whole)
    found: dict[str, tuple[int, ...]] = {}
    if stays is not None:
        found[stays.form] = (stays.rank,)
    for form in sorted({layer.form for layer in offered}, key=list(FORMS).index):
        own = sorted((c for c in offered if c.form == form), key=lambda layer: layer.rank)
        shares = np.array([layer.bytes for layer in own]) / whole
        low, high = max(_LEAST_SHARE, shares.min()), min(_MOST_SHARE, shares.max())
        ladder = np.geomspace(low, high, most)
        places = {int(np.argmin(np.abs(np.log(shares / share)))) for share in ladder}
        found[form] = tuple(sorted(own[place].rank for place in places))
    return found
