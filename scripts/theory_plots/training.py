"""What training makes of a layer: trained blocks against untrained ones of the same shape."""

import math
from collections.abc import Sequence

from bundled import MeasuredBlock
from page import markdown_table

from onnx_relusv.core.measures import Spectrum

_HEADS = (
    "block",
    "shape",
    "sigma_1 / F",
    "stable rank",
    "w / F",
    "w_phi / w",
    "s_0 / sigma_1",
)


def table(blocks: Sequence[MeasuredBlock]) -> str:
    """Blocks with an activation, trained over untrained in every cell."""
    rows = []
    for one in blocks:
        if one.has_activation:
            trained, untrained = _figures(one.spectrum), _figures(one.untrained)
            pairs = [f"{a} / {b}" for a, b in zip(trained, untrained, strict=True)]
            rows.append([one.name, one.shape, *pairs])
    return markdown_table(_HEADS, rows)


def _figures(spectrum: Spectrum) -> list[str]:
    frobenius = math.sqrt(float((spectrum.sigma**2).sum()))
    return [
        f"{spectrum.sigma[0] / frobenius:.3f}",
        f"{spectrum.stable_rank:.1f}",
        f"{spectrum.mean_width / frobenius:.4f}",
        f"{spectrum.relu_mean_width / spectrum.mean_width:.2f}",
        f"{spectrum.lower[0] / spectrum.sigma[0]:.3f}",
    ]
