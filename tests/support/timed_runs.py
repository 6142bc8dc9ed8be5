"""Times that tests decide, in place of clocks; the sessions really run what they are fed."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from onnx_relusv.checking import latency as final_latency
from onnx_relusv.core.blocks import Block
from onnx_relusv.core.plans import Plan
from onnx_relusv.core.reduction import block_of_size
from onnx_relusv.planning.latency import models as model_latency
from onnx_relusv.planning.latency.kernels import Kernels
from onnx_relusv.planning.latency.models import Race
from onnx_relusv.planning.latency.variants import TimedBlock, TimedVariant, changed_blocks
from onnx_relusv.runtime.session import Session

Feeds = dict[str, np.ndarray]
# Of a block or what is left of it, its key first: form, rank, whether integers compute it.
Seconds = Callable[[str, Block, str | None, int | None, bool], float]


class TimedRuns:
    """A machine on which a block takes a second by itself, and its double layer what it is told.

    Attributes:
        shares: Of the original's time, what smaller models take, one after the other; the last one
            from then on.
        layer: Seconds of a block's double layer by itself.
        raced: How many pairs of models ran.
    """

    def __init__(self, shares: Sequence[float], layer: float = 0.5) -> None:
        self.shares = list(shares)
        self.layer = layer
        self.raced = 0

    def blocks(self, sessions: Sequence[Session], feeds: Feeds) -> tuple[float, ...]:
        for session in sessions:
            session.run(feeds)
        return 1.0, self.layer

    def race(self, sessions: Sequence[Session], feeds: Feeds) -> tuple[float, float]:
        for session in sessions:
            session.run(feeds)
        self.raced += 1
        return 2.0, 2.0 * (self.shares.pop(0) if len(self.shares) > 1 else self.shares[0])


def timed_runs(
    monkeypatch: pytest.MonkeyPatch, shares: Sequence[float], layer: float = 0.5
) -> TimedRuns:
    """Puts such a machine in the place of the real one; its kernels are those of the model."""
    made = TimedRuns(shares, layer)
    monkeypatch.setattr(model_latency, "undisturbed_latencies", made.race)
    monkeypatch.setattr(final_latency, "undisturbed_latencies", made.blocks)
    on_machine(monkeypatch, of_kernels)
    return made


def of_kernels(key: str, block: Block, form: str | None, rank: int | None, integers: bool) -> float:
    """What the model of the kernels says, in nanoseconds of a product."""
    return 1e-9 * Kernels(1, 16).of_form(block, form, rank, integers=integers)


def on_machine(monkeypatch: pytest.MonkeyPatch, seconds: Seconds) -> list[int]:
    """Lets variants take what a machine's blocks do, and a tenth of the original besides.

    Returns:
        How many variants were timed together, one number for every time.
    """
    timed: list[int] = []

    def undisturbed(race: Race, plans: Sequence[Plan]) -> tuple[float, ...]:
        case, inputs = race.case, race.inputs
        changed = [changed_blocks(case, inputs, plan) for plan in plans]
        timed.append(len(plans))
        blocks = {block.key: block for block in case.blocks}
        before, *_ = times_of(blocks, [()], seconds)
        return (before, *times_of(blocks, changed, seconds))

    monkeypatch.setattr(Race, "undisturbed", undisturbed)
    return timed


def times_of(
    blocks: dict[str, Block], variants: Sequence[Sequence[TimedBlock]], seconds: Seconds
) -> tuple[float, ...]:
    """Seconds of variants on a machine, a tenth of the original's blocks besides their own."""

    def taken(changed: Sequence[TimedBlock]) -> float:
        changes = {one.key: one for one in changed}
        total = 0.0
        for key, block in blocks.items():
            one = changes.get(key)
            if one is None:
                total += seconds(key, block, None, None, False)
            else:
                left = block_of_size(block, one.inputs, one.outputs)
                total += seconds(key, left, one.form, one.rank, one.precision == "int8")
        return total

    rest = 0.1 * taken(())
    return tuple(rest + taken(changed) for changed in variants)


def timed_variants_of(
    blocks: dict[str, Block], variants: Sequence[Sequence[TimedBlock]], seconds: Seconds
) -> tuple[TimedVariant, ...]:
    """The records of what variants take on a machine."""
    (before,) = times_of(blocks, [()], seconds)
    times = times_of(blocks, variants, seconds)
    return tuple(
        TimedVariant(blocks=tuple(changed), before=before, after=after)
        for changed, after in zip(variants, times, strict=True)
    )
