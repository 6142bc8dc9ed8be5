"""What whole models take: the original and a rewritten one in turn, on the same inputs.

What the time of a block by itself depends on. In the cache, times are those of one machine.
"""

import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from onnx import ModelProto

from onnx_relusv.core.blocks import ActivationKind, Geometry, Runnable
from onnx_relusv.core.codec import Limits, to_data
from onnx_relusv.core.measures import Latency
from onnx_relusv.core.plans import Factors
from onnx_relusv.core.reduction import Change
from onnx_relusv.graph.reference import runnable
from onnx_relusv.measuring.case import Case, Workspace, run_identity
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.measuring.trials import batch_feeds
from onnx_relusv.rewrites.int8.isolated import OnIntegers, with_stand_ins
from onnx_relusv.rewrites.low_rank.rounding import rounded
from onnx_relusv.rewrites.low_rank.surgery import random_factors, rewrite
from onnx_relusv.runtime.latency import interleaved_latency, undisturbed_latencies
from onnx_relusv.runtime.session import Session
from onnx_relusv.samples.samples import fixed_batch
from onnx_relusv.work.executors import Task, available_cores

# Of the time of the whole model: what floats have to save for a block to be left its own.
_WORTH = 0.02


class Race:
    """An original, open to be timed against smaller models.

    Args:
        case: The original; its first samples are what runs, or synthetic inputs without samples.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        batch: Samples in a run, where the model leaves it open.
    """

    def __init__(self, case: Case, inputs: Inputs, workspace: Workspace, batch: int) -> None:
        self._case = case
        self._workspace = workspace
        self._original = Session(runnable(case.model), workspace.provider)
        self._feeds = _feeds(case, inputs, workspace, self._original, batch)
        self.batch = length(case, batch)

    def original(self) -> float:
        """Undisturbed seconds of one run of the original."""
        return undisturbed_latencies([self._original], self._feeds)[0]

    def against(self, smaller: Runnable | Path) -> Latency:
        """Median seconds of both, in turn."""
        session = Session(smaller, self._workspace.provider)
        before, after = interleaved_latency(self._original, session, self._feeds)
        return Latency(batch=self.batch, before=before, after=after)

    def against_plan(self, changes: Sequence[Change]) -> Latency:
        """The same for a plan that has no factors yet; values do not count for its time."""
        return self.against(self._planned(changes))

    def share(self, changes: Sequence[Change], others: Sequence[Change]) -> float:
        """What a plan takes, over what another one does, in turn."""
        first, second = (
            Session(self._planned(each), self._workspace.provider) for each in (changes, others)
        )
        after, before = interleaved_latency(first, second, self._feeds)
        return after / before

    def _planned(self, changes: Sequence[Change]) -> Runnable:
        proto = with_changes(self._case, self._workspace, changes)
        integers = next((change.integers for change in changes if change.integers), None)
        if integers is not None:
            proto = with_stand_ins(proto, integers.format)
        return runnable(self._case.model, proto)


def with_changes(case: Case, workspace: Workspace, changes: Sequence[Change]) -> ModelProto:
    """A model with blocks in other forms and weights, of any values; no tensor is quantized.

    Args:
        case: The model.
        workspace: Its seed draws the values.
        changes: Of blocks that keep all of their channels.
    """
    rng = np.random.default_rng(workspace.options.seed)
    factors = {change.block.key: any_factors(case, change, rng) for change in changes}
    return rewrite(case.model, case.blocks, factors, "")


def any_factors(case: Case, change: Change, rng: np.random.Generator) -> Factors:
    """Factors of any values, in the numbers of a change."""
    block, linear = change.block, case.folding(change.block)
    drawn = random_factors(change.form, block.geometry, linear, change.rank, rng)
    if not change.is_int8:
        return drawn
    return rounded(block.geometry, drawn, None, 0, fed_back=False)


def worth(suspects: Sequence[str], gain: Callable[[Sequence[str]], float]) -> list[str]:
    """Those of some blocks that make the whole model faster where they keep their numbers.

    By itself a block may be slower with integers, and yet spare what is around it the way to floats
    and back. So the whole model is timed: with all of them, and where that does not help, with
    either half.

    Args:
        suspects: Blocks that are slower with integers by themselves.
        gain: Told some of them, measures what they spare, as a share of the model's time.
    """
    if not suspects:
        return []
    if gain(suspects) > _WORTH:
        return list(suspects)
    if len(suspects) == 1:
        return []
    half = len(suspects) // 2
    return [*worth(suspects[:half], gain), *worth(suspects[half:], gain)]


def length(case: Case, batch: int) -> int:
    """Samples in a run: the model's own batch where it is fixed, otherwise the wanted one."""
    return fixed_batch(case.model.inputs) or batch


def _feeds(
    case: Case, inputs: Inputs, workspace: Workspace, session: Session, batch: int
) -> dict[str, np.ndarray]:
    wanted = length(case, batch)
    if inputs.samples is None:
        rng = np.random.default_rng(workspace.options.seed)
        return batch_feeds(session, case.model, rng, wanted)
    given = next(iter(inputs.samples.batches(wanted, limit=wanted))).feeds
    return {
        spec.name: _repeated(given[spec.name], spec.samples_axis, wanted)
        for spec in case.model.inputs
    }


def _repeated(values: np.ndarray, axis: int | None, count: int) -> np.ndarray:
    """Samples, as many as are wanted; fewer are run again and again."""
    if axis is None:
        return values
    places = np.arange(count) % values.shape[axis]
    repeated: np.ndarray = np.take(values, places, axis=axis)
    return repeated


@dataclass(frozen=True, kw_only=True)
class TimingKey:
    """What the time of a block depends on, on one machine with one version of onnxruntime.

    Attributes:
        geometry: The block's.
        operators: Of its nodes.
        activation: What follows.
        element_type: ONNX element type of its weight.
        source_shape: Of its input, with the batch that is timed.
        provider: The execution provider.
        form: Of the double layer; None for the block as it is.
        rank: Of the double layer, or None.
        integers: How it is computed with integers; None where it is with floats.
    """

    geometry: Geometry
    operators: tuple[str, ...]
    activation: ActivationKind
    element_type: int
    source_shape: tuple[int, ...]
    provider: str
    form: str | None = None
    rank: int | None = None
    integers: OnIntegers | None = None


# Seconds of one run.
Timings = dict[TimingKey, float]


@dataclass(frozen=True)
class Timing:
    """A time that was measured.

    Attributes:
        seconds: Of one run.
    """

    seconds: Annotated[float, Limits(above=0, most=sys.float_info.max)]


def timing_task(case: Case, inputs: Inputs, workspace: Workspace, key: TimingKey) -> Task[Timing]:
    """The time of a block by itself, on this machine."""
    machine = [platform.node(), platform.machine(), available_cores()]
    return Task(
        kind="timing",
        key={**run_identity(case, inputs, workspace), "machine": machine, "timing": to_data(key)},
        result=Timing,
    )
