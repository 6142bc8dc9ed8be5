"""What it takes to measure a block, estimated: work, and memory at its peak."""

from onnx_relusv import forms
from onnx_relusv.parallel import Load
from onnx_relusv.records import Block

_FLOAT32, _FLOAT64 = 4, 8
# Of patches for a fit: enough to tell factors apart, and the share of the memory they may take.
MOST_ROWS, _ROWS_SHARE = 12_000, 4
# At the peak, for a singular value decomposition: the weight, its copies and its factors.
_WEIGHTS = 8
# Of the shorter side: a Gram matrix and what its eigendecomposition works in.
_SQUARES = 3
# Whatever the shape: the ascents and, for a Conv, many frequencies' matrices at a time.
_CONSTANT = 48 << 20
_CONSTANT_OF_CONV = 160 << 20
# In multiplications of matrices: an eigendecomposition, and all that an unfolded kernel needs.
_EIGEN = 10
_UNFOLDED = 3


def measuring_load(block: Block, *, in_data_metric: bool) -> Load:
    """What measuring a block takes, the reading of its linear map and its candidates included.

    Args:
        block: The block.
        in_data_metric: Whether it is measured with moments, whose covariance counts then.
    """
    geometry = block.geometry
    rows, columns, shorter = geometry.rows, geometry.columns, geometry.largest_rank
    # The kernel is decomposed as it is, and unfolded where that gives candidates.
    available, unfolded = forms.available_forms(geometry), 0
    if "spatial" in available:
        unfolded = forms.largest_rank("spatial", geometry)
    numbers = _WEIGHTS * geometry.out_channels * columns + _SQUARES * max(shorter, unfolded) ** 2
    work = shorter * rows * columns + _EIGEN * shorter**3 + _UNFOLDED * unfolded**3
    if in_data_metric:
        # The covariance, and for an unfolded kernel the covariance in another order, and products.
        numbers += (geometry.groups + (2 if unfolded else 0)) * columns**2
        work += rows * columns**2 + (columns**3 // (2 * geometry.kernel[1]) if unfolded else 0)
        if "tucker" in available:
            # Products with the covariance and the root of what is left of it, where unfolded
            # copies are gone; at the largest rank they are as large as the covariance.
            numbers += (1 if unfolded else 3) * columns**2
            work += columns**3 // 3
    constant = _CONSTANT_OF_CONV if geometry.kind == "conv" else _CONSTANT
    return Load(work=float(geometry.groups * work), memory=_FLOAT64 * numbers + constant)


def rows_within(block: Block, memory: int) -> int:
    """How many patches of a block's input, with their targets, are kept for a fit.

    Args:
        block: The block.
        memory: Bytes; a part of it is taken.
    """
    geometry = block.geometry
    numbers = geometry.groups * (geometry.columns + 2 * geometry.rows)
    return max(1, min(MOST_ROWS, memory // (_ROWS_SHARE * _FLOAT32 * numbers)))
