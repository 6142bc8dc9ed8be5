"""What whole models take: the original and a rewritten one in turn, on the same inputs.

What the time of a block by itself depends on. In the cache, times are those of one machine.
"""

import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from onnx_relusv.core.blocks import ActivationKind, Geometry, Runnable
from onnx_relusv.core.codec import Limits, to_data
from onnx_relusv.core.measures import Latency
from onnx_relusv.core.reduction import Change
from onnx_relusv.graph.reference import runnable
from onnx_relusv.measuring.case import Case, Workspace, run_identity
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.measuring.trials import batch_feeds
from onnx_relusv.rewrites.low_rank.surgery import random_factors, rewrite
from onnx_relusv.runtime.latency import interleaved_latency, undisturbed_latencies
from onnx_relusv.runtime.session import Session
from onnx_relusv.samples.samples import fixed_batch
from onnx_relusv.work.executors import Task, available_cores


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
        rng = np.random.default_rng(self._workspace.options.seed)
        factors = {
            change.block.key: random_factors(
                change.form,
                change.block.geometry,
                self._case.folding(change.block),
                change.rank,
                rng,
            )
            for change in changes
        }
        model = self._case.model
        proto = rewrite(model, self._case.blocks, factors, "")
        return self.against(runnable(model, proto))


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
    """

    geometry: Geometry
    operators: tuple[str, ...]
    activation: ActivationKind
    element_type: int
    source_shape: tuple[int, ...]
    provider: str
    form: str | None = None
    rank: int | None = None


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
