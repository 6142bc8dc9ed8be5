"""Puts the better bounds where they hold and are cheap: the bracket's refinement for one layer."""

from collections.abc import Sequence

import numpy as np

from onnx_relusv.records import Floats
from onnx_relusv.spectra.certificates import (
    LARGEST_K,
    largest_upper_bound,
    least_on_subspace,
    truncation_upper_bound,
)
from onnx_relusv.spectra.layer import Layer


def improved_lower(lower: Floats, layer: Layer) -> Floats:
    """Lower bounds with the subspace bound at k = 1 and 2, where L's answer at 0 is 0.

    Args:
        lower: (r,) certified lower bounds.
        layer: The layer; L keeps its bias.
    """
    lower = lower.copy()
    plain = layer.homogeneous and layer.rotation is None and layer.activation.kind != "none"
    if plain and layer.reduced.any():
        for k in range(1, min(LARGEST_K + 1, len(lower))):
            found = least_on_subspace(layer.reduced[:, : k + 1], layer.activation.slopes)
            lower[k] = max(lower[k], found)
    return nested_lower(lower)


def improved_upper(upper: Floats, layer: Layer, ranks: Sequence[int], steps: int) -> Floats:
    """Upper bounds by duality at some k, for a Relu or Clip without bias.

    Args:
        upper: (r,) certified upper bounds.
        layer: The layer.
        ranks: The k.
        steps: Eigendecompositions for each k; 0 changes nothing for a Relu on the ball.
    """
    upper = upper.copy()
    plain = not layer.bias.any() and not layer.activation.slopes.any()
    if not plain or layer.activation.kind == "none" or not layer.reduced.any():
        return upper
    sigma = np.linalg.norm(layer.reduced, axis=0)
    for k in ranks if steps else ():
        dropped = layer.reduced[:, k:]
        largest = largest_upper_bound(dropped @ dropped.T, steps)
        found = truncation_upper_bound(sigma[k], sigma[0], largest) if k else largest
        upper[k] = min(upper[k], found)
    if layer.rotation is not None:
        # For x >= 0, ReLU(Wx) is at most W's positive part times x, entry by entry.
        positive = np.maximum(layer.reduced @ layer.rotation, 0)
        upper[0] = min(upper[0], float(np.linalg.norm(positive, 2)) * (1 + 1e-9))
    return nested_upper(upper)


def nested_lower(lower: Floats) -> Floats:
    """Lower bounds of a sequence that does not increase: what holds for k holds before it."""
    return np.asarray(np.maximum.accumulate(lower[::-1])[::-1])


def nested_upper(upper: Floats) -> Floats:
    """Upper bounds of a sequence that does not increase: what holds for k holds after it."""
    return np.asarray(np.minimum.accumulate(upper))
