"""What a block is fitted to: patches of its input, with the original's answers, batch by batch.

A block of which channels are gone sees and answers nothing of them.
"""

import numpy as np

from onnx_relusv.decisions import Kept
from onnx_relusv.records import Block, Geometry, LinearMap
from onnx_relusv.reduction import kept_outputs, kept_rows, reduced_geometry
from onnx_relusv.runtime.moment_kernels import answers_kernel, patches_kernel
from onnx_relusv.runtime.session import as_array, as_value
from onnx_relusv.spectra.sampling import Draw, Sampling, patch_feeds
from onnx_relusv.spectra.target_moments import Seen
from onnx_relusv.spectra.target_rows import Rows


class TargetPatches:
    """Takes patches of what is delivered to a block, with what the original answers.

    Args:
        block: The whole block.
        linear: Its linear map.
        kept: What is left of its channels; None where all are.
        samples: How many samples there are in all.
        provider: Execution provider.
        most: About how many patches are taken of them; by default as many as moments need.
        all_answers: Whether targets are those of all outputs, also of the ones that are gone.

    Attributes:
        geometry: Of what is left of the block.
        rows_per_sample: How many patches are taken of a sample, if it has as many.
    """

    def __init__(
        self,
        block: Block,
        linear: LinearMap,
        kept: Kept | None,
        samples: int,
        provider: str,
        most: int | None = None,
        *,
        all_answers: bool = False,
    ) -> None:
        self.geometry = reduced_geometry(block.geometry, kept)
        self._whole, self._kept, self._provider = block.geometry, kept, provider
        self._answering = None if all_answers else kept
        self._is_conv = block.geometry.kind == "conv"
        self._sampling = Sampling(block, samples, most)
        self.rows_per_sample = self._sampling.rows_per_sample
        left = kept_outputs(block.geometry, linear, self._answering)
        bias = left.bias.reshape(block.geometry.groups, 1, -1)
        self._map = {
            "weight": left.weight.astype(np.float32),
            "bias": bias.astype(np.float32),
        }

    def of(self, seen: Seen, rng: np.random.Generator) -> Rows:
        """Patches of the real samples of a batch."""
        draw = self._sampling.draw(seen.delivered.shape, seen.real, seen.size, rng)
        x, z = as_value(seen.original), self._left(seen.delivered)
        answers = answers_kernel(self._provider, self._is_conv, x.element_type())
        feeds = patch_feeds(self.geometry, z.shape, seen.real, draw.places)
        delivered = as_value(z)
        patches = patches_kernel(self._provider, self._is_conv, delivered.element_type())
        target = as_array(
            answers.run_on_device({"x": x, **self._map, **draw.feeds}, ["answers"])["answers"]
        )
        rows = as_array(patches.run_on_device({"x": delivered, **feeds}, ["z"])["z"])
        shift = None
        if seen.shortcut is not None:
            exact, shift = (self._added(values, draw, seen.real) for values in seen.shortcut)
            target = target + exact
        return Rows(rows.astype(np.float32, copy=False), target, shift)

    def _left(self, values: np.ndarray) -> np.ndarray:
        """An input without the channels that are gone."""
        if self._kept is None:
            return values
        inputs = self._kept.inputs
        if not self._is_conv:
            return np.ascontiguousarray(values[..., inputs])
        channels = self._whole.in_channels // self._whole.groups
        groups = np.arange(self._whole.groups)[:, None] * channels
        return values[:, (groups + inputs).reshape(-1)]

    def _added(self, values: np.ndarray, draw: Draw, real: int) -> np.ndarray:
        found = self._sampling.answers(values, draw, real).astype(np.float32)
        return found if self._answering is None else of_rows(self._whole, found, self._answering)


def of_rows(geometry: Geometry, values: np.ndarray, kept: Kept) -> np.ndarray:
    """Of (groups, n, rows) answers of a whole block those that are left."""
    return np.take_along_axis(values, kept_rows(geometry, kept)[:, None, :], axis=2)
