"""Where graphs run, with how much memory, and where long work is kept for the next run."""

from collections.abc import Iterable
from dataclasses import dataclass

from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.reference import runnable
from onnx_relusv.runtime.session import Session
from onnx_relusv.work.cache import NO_CACHE, Cache

# What a session that rewrites and packs weights holds besides them, in weights; measured.
_COPIES = 2
# The share of the memory for measuring that these copies may take.
_COPIES_SHARE = 4


@dataclass(frozen=True, eq=False)
class Workspace:
    """Where a model is worked on.

    Attributes:
        provider: The execution provider in force.
        options: The seed, the memory and what else was asked for.
        cache: Where long work is kept for the next run.
    """

    provider: str
    options: MeasureOptions
    cache: Cache = NO_CACHE

    def session(self, model: Model, exposed: Iterable[str] = ()) -> Session:
        """Opens a model with some of its tensors as further outputs, to measure on the way.

        Weights are rewritten and packed for speed only where the copies are small beside the
        memory that there is for measuring; otherwise they are read where they lie.
        """
        source = runnable(model, exposed=exposed)
        return Session(source, self.provider, lean=self.is_lean(model), alone=False)

    def is_lean(self, model: Model) -> bool:
        """Whether sessions read weights where they lie, since copies would take too much memory."""
        return _COPIES_SHARE * _COPIES * model.bytes > self.options.working_bytes

    def free_bytes(self, model: Model) -> int:
        """What of the memory for measuring is left besides a session's copies of the weights."""
        copies = 0 if self.is_lean(model) else _COPIES * model.bytes
        return self.options.working_bytes - copies
