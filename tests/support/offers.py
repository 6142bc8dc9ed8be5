"""Blocks with candidates for allocation, and the plan's rule written word by word."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from examples import block, gemm
from hypothesis import strategies as st

from onnx_relusv.core.blocks import Block
from onnx_relusv.core.measures import DamageCurve
from onnx_relusv.core.plans import Budgets, Candidate, Cost, Plan
from onnx_relusv.measuring.answers import Answers
from onnx_relusv.planning.decisions import Offered
from onnx_relusv.planning.limits import Origin
from onnx_relusv.planning.objective import DivergenceMeasure
from onnx_relusv.planning.offer import Offer
from onnx_relusv.rewrites.low_rank.candidates import block_cost
from onnx_relusv.rewrites.low_rank.method import LayerItem, layer_item

ADDED = 50
LEAST_SAVING = LayerItem.least_saving


@dataclass(frozen=True, kw_only=True)
class Priced(Candidate):
    """A candidate with what it does to the outputs."""

    damage: float = math.nan


Offers = dict[str, list[Priced]]


def planned(
    blocks: Sequence[Block],
    offers: Mapping[str, Sequence[Priced]],
    budgets: Budgets,
    source: Origin,
    *,
    by_damage: bool = False,
    latencies: Mapping[str, float] | None = None,
    curves: tuple[DamageCurve, ...] = (),
) -> Plan:
    """The plan of double layers alone.

    Args:
        blocks: In topological order.
        offers: What they may become, by key; other blocks are left out.
        budgets: Of the plan.
        source: What it is for.
        by_damage: Whether the least damage is sought, and not one common error.
        latencies: Seconds of the blocks as they are, by key; None where nothing was timed.
        curves: What damages come from.
    """
    items = []
    for each in blocks:
        if offers.get(each.key):
            own = layer_item(each, offers[each.key], (latencies or {}).get(each.key, math.nan))
            damages = [layer.damage for layer in own.layers if isinstance(layer, Priced)]
            item = replace(own, damages=np.array([0.0, *damages]))
            items.append(item if latencies is None else item.fast_enough())
    offered = Offered(
        blocks=tuple(blocks),
        items=tuple(items),
        origin=source,
        statistics={},
        left_out=frozenset(each.key for each in blocks if each.key not in offers),
        curves=curves,
    )
    logits = DivergenceMeasure(Answers(("y",), None, probabilities=False)) if by_damage else None
    return Offer(offered, refit=lambda plan: plan, measure=logits).plan(budgets)


def origin(total: Cost) -> Origin:
    return Origin(
        model_sha256="a" * 64,
        samples_sha256=None,
        total=total,
        added_bytes=ADDED,
        seed=3,
        method="double-layer",
    )


def total_of(blocks: Sequence[Block], *, rest: int = 500) -> Cost:
    return Cost(
        bytes=rest + sum(item.original_bytes for item in blocks),
        macs=rest + sum(block_cost(item).macs for item in blocks),
    )


def candidate(rank: int, level: float, size: int, macs: int, form: str = "pair") -> Priced:
    return Priced(form=form, rank=rank, level=level, bytes=size, macs=macs)


def price(cost: Cost | Candidate, total: Cost, budgets: Budgets) -> float:
    size, macs = cost.bytes / total.bytes, cost.macs / total.macs
    if budgets.macs is None:
        return size
    return macs if budgets.size is None else size + macs


def at_level(
    blocks: Sequence[Block], offers: Offers, total: Cost, budgets: Budgets, level: float
) -> dict[str, Priced]:
    """The rule, word by word, with no regard to speed."""
    taken: dict[str, Priced] = {}
    for item in blocks:
        smallest: dict[str, Priced] = {}
        for offer in offers.get(item.key, []):
            known = smallest.get(offer.form)
            if offer.level <= level and (known is None or offer.rank < known.rank):
                smallest[offer.form] = offer
        if smallest:
            taken[item.key] = min(smallest.values(), key=lambda c: price(c, total, budgets))
    saved = {
        item.key: price(block_cost(item), total, budgets) - price(taken[item.key], total, budgets)
        for item in blocks
        if item.key in taken
    }
    average = sum(saved.values()) / max(len(saved), 1)
    # A saving at the very limit may fall on either side of it by rounding: no drawn case has one.
    return {key: c for key, c in taken.items() if saved[key] >= LEAST_SAVING * average}


def cost_of(blocks: Sequence[Block], taken: Mapping[str, Candidate], total: Cost) -> Cost:
    size, macs = total.bytes + ADDED, total.macs
    for item in blocks:
        if item.key in taken:
            size += taken[item.key].bytes - item.original_bytes
            macs += taken[item.key].macs - block_cost(item).macs
    return Cost(bytes=size, macs=macs)


def holds(cost: Cost, total: Cost, budgets: Budgets) -> bool:
    return (budgets.size is None or cost.bytes <= budgets.size * total.bytes) and (
        budgets.macs is None or cost.macs <= budgets.macs * total.macs
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Block], Offers, Cost]:
    """Blocks of very different sizes, with up to two forms of up to four ranks each."""
    blocks: list[Block] = []
    offers: Offers = {}
    for number in range(draw(st.integers(1, 4))):
        columns = draw(st.sampled_from([20, 40, 400, 4000]))
        item = block(gemm(columns, 10), key=f"block{number}", original_bytes=40 * columns)
        blocks.append(item)
        if draw(st.booleans()) or number == 0:
            offers[item.key] = []
            for form in draw(st.sampled_from([("channel",), ("channel", "spatial")])):
                count = draw(st.integers(1, 4))
                shares = sorted(draw(st.lists(st.integers(1, 19), min_size=count, max_size=count)))
                ease = draw(st.integers(1, 20))
                levels = sorted(
                    draw(st.lists(st.integers(1, 30), min_size=count, max_size=count)), reverse=True
                )
                offers[item.key] += [
                    candidate(
                        rank + 1,
                        level / 32,
                        item.original_bytes * share // 20,
                        block_cost(item).macs * share * ease // 400,
                        form,
                    )
                    for rank, (share, level) in enumerate(zip(shares, levels, strict=True))
                ]
    return blocks, offers, total_of(blocks)


@st.composite
def cases_with_budgets(draw: st.DrawFn) -> tuple[list[Block], Offers, Cost, Budgets]:
    """Budgets that some level keeps exactly, which is where a search goes wrong, or any."""
    blocks, offers, total = draw(cases())
    tolerance = draw(st.one_of(st.none(), st.integers(1, 31).map(lambda level: level / 32)))
    currency = draw(st.sampled_from([("size",), ("macs",), ("size", "macs")]))
    shares = {name: draw(st.integers(2, 19)) / 20 for name in currency}
    if draw(st.booleans()):
        level = draw(st.integers(1, 30)) / 32
        kept = cost_of(blocks, at_level(blocks, offers, total, Budgets(**shares), level), total)
        exact = {"size": kept.bytes / total.bytes, "macs": kept.macs / total.macs}
        shares = {name: exact[name] for name in currency}
    return blocks, offers, total, Budgets(**shares, tolerance=tolerance)


@st.composite
def cases_with_damage(
    draw: st.DrawFn, currencies: tuple[str, ...]
) -> tuple[list[Block], Offers, Cost, Budgets]:
    """Up to four blocks of very different sizes; coarse damages, so that there are many ties."""
    blocks: list[Block] = []
    offers: Offers = {}
    for number in range(draw(st.integers(1, 4))):
        columns = draw(st.sampled_from([20, 40, 400, 4000]))
        item = block(gemm(columns, 10), key=f"block{number}", original_bytes=40 * columns)
        blocks.append(item)
        if draw(st.booleans()) or number == 0:
            shares = draw(st.lists(st.tuples(st.integers(1, 19), st.integers(1, 20)), max_size=4))
            offers[item.key] = [
                replace(
                    candidate(
                        rank,
                        draw(st.integers(1, 31)) / 32,
                        item.original_bytes * size // 20,
                        block_cost(item).macs * macs // 20,
                        draw(st.sampled_from(["channel", "spatial"])),
                    ),
                    damage=draw(st.one_of(st.integers(1, 16), st.sampled_from([1e-9, 1e30]))),
                )
                for rank, (size, macs) in enumerate(shares, 1)
            ]
    total = total_of(blocks)
    budgets = {name: draw(st.integers(2, 22)) / 20 for name in currencies}
    tolerance = draw(st.one_of(st.none(), st.integers(1, 31).map(lambda level: level / 32)))
    return blocks, offers, total, Budgets(**budgets, tolerance=tolerance)


def curve(count: int, scale: float = 1.0, size: int = 4_000) -> list[Priced]:
    """Candidates on a convex curve: damage falls with the fourth power of what is left."""
    return [
        replace(
            candidate(rank, 0.9**rank, size * rank // (count + 1), 10 * rank),
            damage=scale * (1 - rank / (count + 1)) ** 4,
        )
        for rank in range(1, count + 1)
    ]


def convex(scales: Sequence[float], count: int = 100) -> tuple[list[Block], Offers, Cost]:
    blocks = [
        block(gemm(100, 10), key=f"b{number}", original_bytes=40_000)
        for number in range(len(scales))
    ]
    offers = {
        item.key: curve(count, scale, 40_000) for item, scale in zip(blocks, scales, strict=True)
    }
    return blocks, offers, total_of(blocks)


def opposite(count: int = 3) -> tuple[list[Block], Offers, Cost]:
    """Equal blocks, each with a channel form small in bytes and a spatial one small in MACs."""
    blocks = [block(gemm(100, 10), key=f"b{i}", original_bytes=4_000) for i in range(count)]
    offers = {
        item.key: [
            replace(candidate(1, 0.4, 1_000, 800, "channel"), damage=1.0),
            replace(candidate(2, 0.3, 3_000, 200, "spatial"), damage=1.0),
        ]
        for item in blocks
    }
    return blocks, offers, total_of(blocks)
