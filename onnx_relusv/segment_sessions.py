"""Sessions that take a stream of samples from one cut of a model to the next."""

from collections.abc import Mapping

from onnx_relusv.graph.reference import with_dense
from onnx_relusv.graph.segments import segment
from onnx_relusv.opened import Opened
from onnx_relusv.records import LinearMap
from onnx_relusv.runtime.session import Session
from onnx_relusv.runtime.streams import Stream


def segment_session(
    opened: Opened, stream: Stream, live: tuple[str, ...], dense: Mapping[str, LinearMap]
) -> Session | None:
    """The part of a model from where a stream is to a cut behind it.

    Args:
        opened: The model.
        stream: What is alive now.
        live: What is alive at the cut.
        dense: Linear maps that stand in blocks' places, by key; the others stay as they are.

    Returns:
        None where all of it is there already.
    """
    example = next(iter(stream))
    if all(name in example for name in live):
        return None
    proto, arrays = with_dense(opened.model, opened.blocks, dense)
    part = segment(opened.model, proto, example, live, arrays)
    return Session(part, opened.provider, alone=False)
