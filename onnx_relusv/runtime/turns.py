"""Sessions that take turns: a model's weights are in memory only while it runs."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from onnx_relusv.mapped_arrays import released_while_read
from onnx_relusv.records import Runnable
from onnx_relusv.runtime.session import Session


class Turn:
    """A model that is opened for every run and closed behind it; its weights are not copied.

    Opening it takes little where they are mapped, and what is mapped counts as memory in use.

    Args:
        source: A model, or the path of one.
        provider: The execution provider.
        optimized: Whether onnxruntime may rewrite the graph.

    Raises:
        InputError: onnxruntime cannot open it.
    """

    def __init__(self, source: Runnable | Path, provider: str, *, optimized: bool) -> None:
        self._new = partial(Session, source, provider, optimized=optimized, packed=False)
        self._arrays = list(source.arrays.values()) if isinstance(source, Runnable) else []
        session = self._opened()
        self.input_names = session.input_names
        self.output_names = session.output_names

    def run(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Opens the model, runs it, and closes it.

        Raises:
            InputError: onnxruntime refuses the feeds or fails.
        """
        return self._opened().run(feeds, outputs)

    def _opened(self) -> Session:
        # It copies them.
        with released_while_read(self._arrays):
            return self._new()
