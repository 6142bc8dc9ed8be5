"""What whole models take: the original and a rewritten one in turn, on the same inputs.

A plan's file is timed before anything is fitted, with numbers of any values: for time, values do
not count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from onnx_relusv.core.blocks import Runnable
from onnx_relusv.core.measures import Latency
from onnx_relusv.core.plans import Factors, Int8Format, Plan
from onnx_relusv.core.reduction import ActivationScale, Change, restrict
from onnx_relusv.graph.reference import runnable
from onnx_relusv.measuring.case import Case, Workspace
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.measuring.trials import batch_feeds
from onnx_relusv.rewrites.apply import unfitted
from onnx_relusv.rewrites.low_rank.rounding import rounded
from onnx_relusv.rewrites.low_rank.surgery import random_factors
from onnx_relusv.runtime.latency import undisturbed_latencies
from onnx_relusv.runtime.session import Session
from onnx_relusv.samples.samples import fixed_batch

# What a session and what it was opened from hold, in weights.
_COPIES = 3


class Race:
    """An original, open to be timed against smaller models.

    Args:
        case: The original; its first samples are what runs, or synthetic inputs without samples.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        batch: Samples in a run, where the model leaves it open.

    Attributes:
        case, inputs: As given.
        batch: Samples in a run.
    """

    def __init__(self, case: Case, inputs: Inputs, workspace: Workspace, batch: int) -> None:
        self.case = case
        self.inputs = inputs
        self._workspace = workspace
        self._original = Session(runnable(case.model), workspace.provider)
        self._feeds = _feeds(case, inputs, workspace, self._original, batch)
        self.batch = length(case, batch)

    def against(self, smaller: Runnable | Path) -> Latency:
        """Seconds of the fastest run of both, in turns."""
        session = Session(smaller, self._workspace.provider)
        before, after = undisturbed_latencies([self._original, session], self._feeds)
        return Latency(batch=self.batch, before=before, after=after)

    def against_plan(self, plan: Plan) -> Latency:
        """The same for a plan that was not fitted.

        Raises:
            InputError: The plan is not for this model.
        """
        return self.against(self.stand_in(plan))

    def share(self, plan: Plan) -> float:
        """The share of the original's time that it takes; errors as there."""
        found = self.against_plan(plan)
        return found.after / found.before

    def undisturbed(self, plans: Sequence[Plan]) -> tuple[float, ...]:
        """Seconds of the fastest run of the original, and of each of some plans without a fit."""
        provider = self._workspace.provider
        sessions = [Session(self.stand_in(plan), provider) for plan in plans]
        return undisturbed_latencies([self._original, *sessions], self._feeds)

    @property
    def at_once(self) -> int:
        """How many plans' models there is memory for at a time."""
        model, workspace = self.case.model, self._workspace
        return max(1, workspace.free_bytes(model) // max(_COPIES * model.bytes, 1))

    def stand_in(self, plan: Plan) -> Runnable:
        """The file of a plan that was not fitted, with numbers of any values."""
        case = self.case
        rng = np.random.default_rng(self._workspace.options.seed)
        proto = unfitted(
            case,
            self.inputs,
            self._workspace,
            plan,
            lambda change: any_factors(case, change, rng),
            _any_scales,
        )
        return runnable(case.model, proto)


def any_factors(case: Case, change: Change, rng: np.random.Generator) -> Factors:
    """Factors of any values, in the numbers of a change."""
    block, left = change.block, change.reduced
    linear = restrict(block.geometry, case.folding(block), change.kept)
    drawn = random_factors(change.form, left.geometry, linear, change.rank, rng)
    if change.is_int8:
        drawn = rounded(left.geometry, drawn, None, 0, fed_back=False)
    return replace(drawn, kept=change.kept)


def _any_scales(tensors: Mapping[str, str], int8_format: Int8Format) -> dict[str, ActivationScale]:
    """Scales of tensors that begin at 0, so that activations go into kernels."""
    places = {shared: at for at, shared in enumerate(dict.fromkeys(tensors.values()), 1)}
    signed = int8_format == "s8s8"
    return {
        name: ActivationScale(float(places[shared]), 0, signed) for name, shared in tensors.items()
    }


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
