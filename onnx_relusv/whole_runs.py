"""Damage of changes that no block's place can hold, by running whole models."""

from collections.abc import Iterable, Iterator

import numpy as np

from onnx_relusv.damage_measure import DamageMeasure
from onnx_relusv.graph.expose import runnable
from onnx_relusv.opened import Opened
from onnx_relusv.progress import Advance
from onnx_relusv.records import Runnable
from onnx_relusv.runtime.session import Session
from onnx_relusv.runtime.streams import Stream
from onnx_relusv.samples import Samples
from onnx_relusv.spectra.passes import batch_length
from onnx_relusv.temporary_files import temporary_folder


def whole_damages(
    opened: Opened,
    samples: Samples,
    changed: Iterable[Runnable],
    measure: DamageMeasure,
    advance: Advance,
) -> tuple[float, ...]:
    """What changed models do to the outputs, one after the other; each takes a pass.

    Args:
        opened: The original.
        samples: What runs through it and through them.
        changed: Models with the outputs that the measure compares.
        measure: What damage is.
        advance: Told of every model.
    """
    names, sizes = measure.answers.outputs, list[tuple[int, int]]()

    def feeds() -> Iterator[dict[str, np.ndarray]]:
        for batch in samples.batches(batch_length(opened.blocks, opened.options.working_bytes)):
            sizes.append((batch.count, batch.size))
            yield batch.feeds

    found = []
    with temporary_folder() as folder:
        stream = Stream(folder, feeds())
        original = Session(runnable(opened.model, exposed=names), opened.provider, alone=False)
        exact = stream.advanced(original, names, lambda steps: None)
        begin = measure.distances(samples, exact, sizes)
        for source in changed:
            session, distance = Session(source, opened.provider, alone=False), begin()
            for size, values, right in zip(sizes, stream, exact, strict=True):
                distance.add(right, session.run(values, names) if names else {}, *size)
            found.append(distance.value)
            advance(1)
    return tuple(found)
