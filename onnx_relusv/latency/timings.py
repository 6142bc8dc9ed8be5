"""What the time of a block by itself depends on, and where such times are kept."""

from collections.abc import MutableMapping
from dataclasses import dataclass

from onnx_relusv.decisions import Form
from onnx_relusv.records import ActivationKind, Geometry


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
    form: Form | None = None
    rank: int | None = None


# Seconds of one run. Times that are compared with one another are put there together.
Timings = MutableMapping[TimingKey, float]
