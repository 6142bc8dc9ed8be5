"""What it takes to measure a block, estimated: work, and memory at its peak."""

from onnx_relusv import forms
from onnx_relusv.parallel import Load
from onnx_relusv.records import Block

_FLOAT64 = 8
# At the peak, for a singular value decomposition: the weight, its copies and its factors.
_WEIGHTS = 6
# Of the shorter side: a Gram matrix and what its eigendecomposition works in.
_SQUARES = 3
# An eigendecomposition in multiplications of such matrices.
_EIGEN = 10


def measuring_load(block: Block, *, in_data_metric: bool) -> Load:
    """What measuring a block takes, the reading of its linear map and its candidates included.

    Args:
        block: The block.
        in_data_metric: Whether it is measured with moments, whose covariance counts then.
    """
    geometry = block.geometry
    rows, columns, shorter = geometry.rows, geometry.columns, geometry.largest_rank
    numbers = _WEIGHTS * geometry.out_channels * columns + _SQUARES * shorter**2
    work = shorter * rows * columns + _EIGEN * shorter**3
    spatial = "spatial" in forms.available_forms(geometry)
    if spatial:
        # The unfolded kernel is decomposed, and its candidates' gaps are as many small matrices.
        work += 2 * _EIGEN * forms.largest_rank("spatial", geometry) ** 3
    if in_data_metric:
        # The covariance, and where the kernel is unfolded it in another order and its products.
        numbers += geometry.groups * columns**2 + (2 * columns**2 if spatial else 0)
        work += rows * columns**2 + (columns**3 // geometry.kernel[1] if spatial else 0)
    return Load(work=float(geometry.groups * work), memory=_FLOAT64 * numbers)
