"""Variants of a model whose times tell what kernels take: fewer channels, lower ranks, integers.

They are drawn, always the same ones for a model: first every group of channels, or every block, at
once, then some of them, each by as much as it comes, so that what single blocks take can be told
apart. What stays in a group does not count, only how much of it.
"""

import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from onnx_relusv.core.blocks import Block
from onnx_relusv.core.codec import Count, Limits
from onnx_relusv.core.plans import (
    KEPT,
    Budgets,
    ChannelMask,
    Choice,
    GroupChoice,
    Int8Format,
    Plan,
    Precision,
)
from onnx_relusv.core.reduction import masked_block
from onnx_relusv.graph.channels.walk import ChannelGroup
from onnx_relusv.measuring.case import Case
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.rewrites.changes import changes_of
from onnx_relusv.rewrites.low_rank.candidates import block_macs, can_be_int8
from onnx_relusv.rewrites.low_rank.forms import DENSE, FORMS, available_forms
from onnx_relusv.rewrites.prune.units import kept_channels

# What is left of channels, and of the multiply-accumulates of a block as a double layer.
_SHARES = (0.75, 0.5, 0.25)
# How often some of all are changed, and how many of them then.
_DRAWN, _CHANGED = 5, 0.6
# Numbers that kernels like, of as many channels as that leaves a choice of.
_EVEN, _LEAST_EVEN = 4, 16

Seconds = Annotated[float, Limits(above=0, most=sys.float_info.max)]


@dataclass(frozen=True, kw_only=True)
class TimedBlock:
    """What became of a block in a model that was timed.

    Attributes:
        key: The block's.
        inputs: Input channels of one group that are left.
        outputs: Output channels that are left.
        form: Of its layers.
        rank: Their inner width, per group.
        precision: What they are computed with.
    """

    key: str
    inputs: Count
    outputs: Count
    form: str
    rank: Count
    precision: Precision


@dataclass(frozen=True, kw_only=True)
class TimedVariant:
    """A variant of a model that was timed in turns with it.

    Attributes:
        blocks: Those that are not as they were.
        before: Seconds of the fastest of many runs of the original.
        after: The same of the variant.
    """

    blocks: tuple[TimedBlock, ...]
    before: Seconds
    after: Seconds


def changed_blocks(case: Case, inputs: Inputs, plan: Plan) -> tuple[TimedBlock, ...]:
    """What of a plan counts for its time."""
    changes = {change.block.key: change for change in changes_of(case, inputs, plan)}
    left = kept_channels(case, plan)
    found = []
    for block in case.blocks:
        change, kept = changes.get(block.key), left.get(block.key)
        if change is None and kept is None:
            continue
        geometry = masked_block(block, kept).geometry
        found.append(
            TimedBlock(
                key=block.key,
                inputs=geometry.in_channels // geometry.groups,
                outputs=geometry.out_channels,
                form=DENSE.name if change is None else change.form,
                rank=DENSE.largest_rank(geometry) if change is None else change.rank,
                precision="int8" if change is not None and change.is_int8 else KEPT,
            )
        )
    return tuple(found)


def variants(case: Case, int8_format: Int8Format | None) -> Iterator[Plan]:
    """Plans to be timed.

    Args:
        case: The model, with its channels where units may go.
        int8_format: What layers of integers read; None where blocks stay floats.
    """
    drawing = _Drawing(case, int8_format, np.random.default_rng(0))
    if drawing.has_groups:
        yield drawing.plan(cut=0.5)
        yield drawing.plan(cut=0.25)
    if drawing.has_layers:
        yield drawing.plan(rank=0.5)
        yield drawing.plan(rank=0.25)
    for _ in range(_DRAWN if drawing.has_groups or drawing.has_layers else 0):
        yield drawing.plan(cut=None, rank=None)
    if drawing.has_integers:
        yield drawing.plan(integers=1.0)
        if drawing.has_groups:
            yield drawing.plan(cut=0.5, integers=1.0)
        for _ in range(_DRAWN):
            yield drawing.plan(cut=None, rank=None, integers=_CHANGED)


class _Drawing:
    def __init__(
        self, case: Case, int8_format: Int8Format | None, rng: np.random.Generator
    ) -> None:
        self._case, self._format, self._rng = case, int8_format, rng
        self._groups = () if case.channels is None else case.channels.groups

    @property
    def has_groups(self) -> bool:
        return any(len(group.units) > 1 for group in self._groups)

    @property
    def has_layers(self) -> bool:
        return any(
            _rank_at(block, 0.5, form)
            for block in self._case.blocks
            for form in available_forms(block.geometry)
        )

    @property
    def has_integers(self) -> bool:
        return any(self._can_be_int8(block) for block in self._case.blocks)

    def plan(
        self, cut: float | None = 1.0, rank: float | None = 1.0, integers: float = 0.0
    ) -> Plan:
        """One of them.

        Args:
            cut: What is left of every group; None to draw it for some of them.
            rank: What is left of the multiply-accumulates of every block; None likewise.
            integers: What share of the blocks is computed with integers.
        """
        groups = tuple(self._group(group, self._share(cut)) for group in self._groups)
        whole = self._plan(groups, ())
        left = kept_channels(self._case, whole)
        choices = tuple(
            self._choice(block, left.get(block.key), self._share(rank), integers)
            for block in self._case.blocks
        )
        return self._plan(groups, choices)

    def _share(self, of_all: float | None) -> float:
        drawn, place = self._rng.random(), self._rng.integers(len(_SHARES))
        if of_all is not None:
            return of_all
        return _SHARES[place] if drawn < _CHANGED else 1.0

    def _group(self, group: ChannelGroup, share: float) -> GroupChoice:
        units = len(group.units)
        kept = _even(max(1, round(share * units)))
        return GroupChoice(
            key=group.key,
            units=units,
            kept=tuple(range(kept)),
            level=0.0,
            producers=group.producers,
            consumers=group.consumers,
            why="",
        )

    def _choice(
        self, block: Block, kept: ChannelMask | None, share: float, integers: float
    ) -> Choice:
        left = masked_block(block, kept)
        forms, drawn = available_forms(block.geometry), self._rng.random()
        form = forms[int(drawn * len(forms))] if forms else ""
        rank = _rank_at(left, share, form) if forms and share < 1 else 0
        is_int8 = self._can_be_int8(block) and self._rng.random() < integers
        precision: Precision = "int8" if is_int8 else KEPT
        if rank:
            return Choice(
                key=block.key, action="double_layer", form=form, rank=rank, precision=precision
            )
        if kept is None and not is_int8:
            return Choice(key=block.key)
        return Choice(
            key=block.key,
            action="refit" if kept is None else "prune",
            form=DENSE.name,
            rank=DENSE.largest_rank(left.geometry),
            precision=precision,
        )

    def _can_be_int8(self, block: Block) -> bool:
        return self._format is not None and can_be_int8(block, self._case.model.opset)

    def _plan(self, groups: Sequence[GroupChoice], choices: Sequence[Choice]) -> Plan:
        return Plan(
            model_sha256=self._case.model.sha256,
            samples_sha256=None,
            budgets=Budgets(),
            method="auto",
            seed=0,
            allocation="level",
            level=0.0,
            size=1.0,
            macs=1.0,
            choices=tuple(choices),
            damage=None,
            curves=(),
            groups=tuple(groups),
            int8_format=self._format or "u8s8",
            precision=KEPT if self._format is None else "int8",
        )


def _rank_at(block: Block, share: float, name: str) -> int:
    """The rank with which a form takes about a share of a block's products; 0 where none does."""
    form, geometry, shape = FORMS[name], block.geometry, block.source_shape
    most, largest = share * block_macs(block), form.largest_rank(geometry)
    ranks = range(1, largest)
    rank = bisect_right(ranks, most, key=lambda one: form.macs(geometry, one, shape))
    return _even(rank) if form.macs(geometry, _even(max(rank, 1)), shape) <= most else 0


def _even(count: int) -> int:
    """A number of channels, or ranks, as kernels like them."""
    return count if count < _LEAST_EVEN else count - count % _EVEN
