"""Mean widths and more of the activated operators of a layer given as plain arrays."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from onnx_relusv.errors import UsageError
from onnx_relusv.measures import ActivatedWidths
from onnx_relusv.options import ProviderName
from onnx_relusv.records import Activation
from onnx_relusv.runtime.session import as_value, choose_provider
from onnx_relusv.runtime.trace_kernels import STEPS
from onnx_relusv.spectra.activated_operators import ActivatedOperators
from onnx_relusv.spectra.brackets import RELU
from onnx_relusv.spectra.layers import checked_bias, checked_weight, finite

_CHUNK_BYTES = 32 << 20
# Well inside float32.
_FARTHEST = 1e38


def activated_mean_width(
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None,
    inputs: npt.ArrayLike,
    *,
    activation: Activation = RELU,
    exact: bool = False,
    seed: int = 0,
    provider: ProviderName = "auto",
) -> ActivatedWidths:
    """Measures what the layer phi(Wx + b) is at single inputs: A_x = diag(phi'(Wx + b)) W.

    The mean width w(A_x) lies, certified, in [F^3 / (F^4 + 2 sum sigma^4)^(1/2), F], F being the
    Frobenius norm of A_x and sigma its singular values; that costs no decomposition. Exact widths
    take one eigendecomposition an input, of as many rows as are active.

    Args:
        weight: (out, in) W.
        bias: (out,) b; None for none.
        inputs: (n, in) the x.
        activation: phi; of a Clip, a unit is active strictly between 0 and the ceiling.
        exact: Whether `value` is computed.
        seed: Goes into the record, as of the other measures; nothing is drawn.
        provider: Where the graph runs.

    Returns:
        The record, with one number an input in every array.

    Raises:
        UsageError: An array has another shape or is not finite, or the provider does not work.
    """
    W = checked_weight(weight)
    out, columns = W.shape
    b = checked_bias(bias, out)
    x = finite(inputs, "inputs")
    if x.ndim != 2 or x.shape[1] != columns or not len(x):
        raise UsageError(
            f"The inputs have shape {x.shape}; for a weight of shape {W.shape} they have to be "
            f"(n, {columns}), with one input at least."
        )
    if len(activation.slopes) not in (1, out):
        raise UsageError(f"{len(activation.slopes)} slopes for {out} rows: use 1 or {out}.")
    chosen = choose_provider(provider)
    # The layer divided by its largest weight, because the graph computes in float32.
    peak = float(np.abs(W).max()) or 1.0
    if activation.ceiling is not None:
        activation = replace(activation, ceiling=activation.ceiling / peak)
    W, b = W / peak, b / peak
    operators = ActivatedOperators(W[None], activation, is_conv=False, provider=chosen, exact=exact)
    length = max(1, _CHUNK_BYTES // (8 * out))
    parts = []
    for start in range(0, len(x), length):
        y = np.clip(x[start : start + length] @ W.T + b, -_FARTHEST, _FARTHEST)
        parts.append(operators.measure(as_value(y), len(y), np.array([0])))

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name)[:, 0] for part in parts])

    return ActivatedWidths(
        active=joined("active"),
        lower=peak * joined("lower"),
        upper=peak * joined("upper"),
        value=peak * joined("width"),
        largest=peak * joined("largest"),
        margin=joined("margin"),
        iterations=STEPS,
        converged=joined("converged"),
        seed=seed,
        provider=chosen,
    )
