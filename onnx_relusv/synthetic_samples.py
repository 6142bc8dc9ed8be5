"""Synthetic samples in place of real ones, for what has to be fitted where there are none.

Where units are removed, consumers and kept units have to be fitted anew. Synthetic samples then
stand in for real ones in all stages; what is made of them is blind all the same.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from onnx_relusv.errors import InputError
from onnx_relusv.graph.view import view
from onnx_relusv.opened import Opened
from onnx_relusv.output_values import output_value
from onnx_relusv.samples import Samples, open_samples
from onnx_relusv.synthetic import varied_count, write_varied
from onnx_relusv.synthetic_scale import Normalisations, input_normalisations
from onnx_relusv.temporary_files import temporary_folder

# Synthetic samples that tell how large inputs are.
_TRIED = 64
# Those that show whether any can be run at all; inputs may be large.
_BATCH = 4


@contextmanager
def samples_where_units_go(
    opened: Opened, input_range: tuple[float, float] | None, *, go: bool
) -> Iterator[Opened]:
    """A model with samples; synthetic ones, in a folder that is gone afterwards, if it has none.

    What is made of these is blind all the same. The model is as it was where no units go, where an
    input is of whole numbers, and where synthetic inputs lead to numbers that are not finite.

    Args:
        opened: The model.
        input_range: What was declared of its inputs, or None.
        go: Whether units are to be removed.
    """
    example = synthetic_example(opened) if go and opened.samples is None else None
    if example is None:
        yield opened
        return

    def write(path: Path, normalised: Normalisations, count: int = _TRIED) -> None:
        write_varied(path, example, normalised, input_range, opened.options.seed, count)

    with temporary_folder() as folder:
        seen = view(opened.model)
        normalised, told = input_normalisations(opened, seen, input_range, folder, write)
        path = folder / "synthetic.npz"
        write(path, normalised, varied_count(example))
        samples = open_samples(path, opened.model.inputs)
        if not _runs(opened, samples):
            yield opened
            return
        yield replace(opened, samples=samples, blind=True, scale_told=told)


def _runs(opened: Opened, samples: Samples) -> bool:
    session = opened.session(block.source for block in opened.blocks)
    batch = next(iter(samples.batches(_BATCH, limit=_BATCH)))
    try:
        answers = session.run(batch.feeds).values()
    except InputError:  # of more samples than the one that was tried
        return False
    arrays = [values for value in answers for values in output_value(value).arrays]
    return all(np.isfinite(values).all() for values in arrays if values.dtype.kind == "f")


def synthetic_example(opened: Opened) -> Mapping[str, np.ndarray] | None:
    """A sample of a size that runs, the axis of samples first.

    Args:
        opened: The model.

    Returns:
        By input; None where one is no tensor of floats, but means something.
    """
    inputs = opened.model.inputs
    if any(spec.dtype.kind in "iubO" or not spec.shape for spec in inputs):
        return None
    return {
        spec.name: opened.example[spec.name][None]
        if spec.samples_axis is None
        else np.moveaxis(opened.example[spec.name], spec.samples_axis, 0)[:1]
        for spec in inputs
    }
