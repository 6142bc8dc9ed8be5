"""What all class scores of a sample have in common: nothing to a softmax, but seen by others.

A divergence of class scores says nothing of it, so a fit to that leaves it anywhere. Added to every
row of the last map alike, least squares put it where the targets have it, for those who read the
scores themselves.
"""

from dataclasses import replace

import numpy as np

from onnx_relusv.decisions import Factors
from onnx_relusv.positive_definite import solved
from onnx_relusv.spectra.target_rows import Rows

# Of the mean variance of what the last map reads.
_RIDGE = 1e-3
_TINY = 1e-30


def levelled(factors: Factors, rows: Rows) -> Factors:
    """Factors of class scores with a mean over the classes near the target's; softmax is the same.

    Args:
        factors: Of a block with one group, whose last map has a row for every class.
        rows: What the mean is fitted to.
    """
    if factors.form not in ("pair", "channel", "dense"):
        return factors
    *before, last = factors.matrices
    z = rows.z[0].astype(np.float64)
    seen = z if not before else z @ before[0][0].T
    wanted = rows.target[0].astype(np.float64).mean(axis=1)
    missing = wanted - seen @ last[0].mean(axis=0) - factors.bias.mean()
    centred = seen - seen.mean(axis=0)
    gram = centred.T @ centred / len(seen)
    gram[np.diag_indices_from(gram)] += _RIDGE * np.trace(gram) / len(gram) + _TINY
    added = solved(gram, (centred.T @ missing / len(seen))[:, None])[:, 0]
    offset = float(np.mean(missing - seen @ added))
    changed = factors.with_matrices((*before, last + added))
    return replace(changed, bias=factors.bias + offset)
