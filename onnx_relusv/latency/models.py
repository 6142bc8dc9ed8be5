"""What whole models take: the original and a rewritten one in turn, on the same inputs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from onnx_relusv.fitted import Change
from onnx_relusv.graph.expose import runnable
from onnx_relusv.graph.surgery import rewrite
from onnx_relusv.latency.stand_ins import stand_in
from onnx_relusv.opened import Opened
from onnx_relusv.outcomes import Latency
from onnx_relusv.records import Runnable
from onnx_relusv.runtime.latency import interleaved_latency, undisturbed_latencies
from onnx_relusv.runtime.session import Session
from onnx_relusv.samples import fixed_batch
from onnx_relusv.trials import batch_feeds


class Race:
    """An original, open to be timed against smaller models.

    Args:
        opened: The original; its first samples are what runs, or synthetic inputs without samples.
        batch: Samples in a run, where the model leaves it open.
    """

    def __init__(self, opened: Opened, batch: int) -> None:
        self._opened = opened
        self._original = Session(runnable(opened.model), opened.provider)
        self._feeds = _feeds(opened, self._original, batch)
        self.batch = length(opened, batch)

    def original(self) -> float:
        """Undisturbed seconds of one run of the original."""
        return undisturbed_latencies([self._original], self._feeds)[0]

    def against(self, smaller: Runnable | Path) -> Latency:
        """Median seconds of both, in turn."""
        session = Session(smaller, self._opened.provider)
        before, after = interleaved_latency(self._original, session, self._feeds)
        return Latency(batch=self.batch, before=before, after=after)

    def against_plan(self, changes: Sequence[Change]) -> Latency:
        """The same for a plan that has no factors yet; values do not count for its time."""
        opened = self._opened
        rng = np.random.default_rng(opened.options.seed)
        factors = {
            change.block.key: stand_in(
                change.form, change.block.geometry, opened.folding(change.block), change.rank, rng
            )
            for change in changes
        }
        proto = rewrite(opened.model, opened.blocks, factors, "")
        return self.against(runnable(opened.model, proto))


def length(opened: Opened, batch: int) -> int:
    """Samples in a run: the model's own batch where it is fixed, otherwise the wanted one."""
    return fixed_batch(opened.model.inputs) or batch


def _feeds(opened: Opened, session: Session, batch: int) -> dict[str, np.ndarray]:
    wanted = length(opened, batch)
    if opened.samples is None:
        rng = np.random.default_rng(opened.options.seed)
        return batch_feeds(session, opened.model, rng, wanted)
    given = next(iter(opened.samples.batches(wanted, limit=wanted))).feeds
    return {
        spec.name: _repeated(given[spec.name], spec.samples_axis, wanted)
        for spec in opened.model.inputs
    }


def _repeated(values: np.ndarray, axis: int | None, count: int) -> np.ndarray:
    """Samples, as many as are wanted; fewer are run again and again."""
    if axis is None:
        return values
    places = np.arange(count) % values.shape[axis]
    repeated: np.ndarray = np.take(values, places, axis=axis)
    return repeated
