"""What kernels take on a machine: the model of the kernels, fitted to variants that were timed.

A run takes the rest of the model, and for every block what its kernels do, times their prices,
times a factor of the block's own. All of these are positive, so their logarithms are sought, the
most likely ones where measured times are off by some per cent, prices lie around those of the model
of the kernels, and the factors of blocks around 1. With few variants the model keeps the say in
what these do not tell.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from onnx_relusv.core.blocks import Block, Floats
from onnx_relusv.core.reduction import block_of_size
from onnx_relusv.planning.latency.kernels import PRICES, WORK, Kernels, ModelledTimes
from onnx_relusv.planning.latency.variants import TimedBlock, TimedVariant

# Standard deviations of logarithms: of a measured time, of a price, of a block's factor, and of
# what a run takes besides its blocks, which is a tenth of it or so.
_NOISE, _PRICE, _FACTOR, _REST = 0.05, 0.5, 0.2, 1.5
_TENTH = 0.1


def fitted(
    kernels: Kernels,
    blocks: Mapping[str, Block],
    variants: Sequence[TimedVariant],
) -> ModelledTimes:
    """The times of a model's blocks, whatever becomes of them.

    Args:
        kernels: The model of the kernels, at its own prices.
        blocks: All of the model's, whole, by key.
        variants: What was timed of it; one at least.

    Returns:
        Times in seconds, whose total is the median of the original's. They are estimates.
    """
    whole = float(np.median([one.before for one in variants]))
    shares = np.log([one.after / one.before for one in variants])
    original = _work(kernels, blocks, ())
    # (variants, blocks with floats and then with integers, work), in the time of the original.
    works = np.stack([original, *(_work(kernels, blocks, one.blocks) for one in variants)])
    prices = np.array(PRICES)
    works *= prices * (1 - _TENTH) / max(float((original @ prices).sum()), 1e-300)
    ends = np.cumsum([len(WORK), 2 * len(blocks), 1])

    def parts(found: Floats) -> tuple[Floats, Floats, float]:
        priced, own, rest = np.split(np.exp(found), ends[:-1])
        return priced, own, _TENTH * float(rest[0])

    def times(found: Floats) -> Floats:
        priced, own, rest = parts(found)
        return works @ priced @ own + rest

    spread = np.repeat([_PRICE, _FACTOR, _REST], np.diff(ends, prepend=0))

    def residuals(found: Floats) -> Floats:
        taken = np.log(times(found))
        return np.concatenate([(taken[1:] - taken[0] - shares) / _NOISE, found / spread])

    best = least_squares(residuals, np.zeros(ends[-1])).x
    priced, own, rest = parts(best)
    unit = whole / float(times(best)[0])
    scale = unit * (1 - _TENTH) / max(float((original @ prices).sum()), 1e-300)
    by_numbers = [(key, is_int8) for is_int8 in (False, True) for key in blocks]
    return ModelledTimes(
        Kernels(kernels.batch, kernels.pack, tuple((scale * prices * priced).tolist())),
        blocks,
        dict(zip(by_numbers, own.tolist(), strict=True)),
        unit * rest,
    )


def _work(
    kernels: Kernels, blocks: Mapping[str, Block], changed: Sequence[TimedBlock]
) -> npt.NDArray[np.float64]:
    """(blocks with floats and then with integers, work) of a variant."""
    found = np.zeros((2, len(blocks), len(WORK)))
    changes = {one.key: one for one in changed}
    for place, (key, block) in enumerate(blocks.items()):
        one = changes.get(key)
        if one is None:
            found[0, place] = kernels.work(block, None, None, integers=False)
            continue
        left = block_of_size(block, one.inputs, one.outputs)
        integers = one.precision == "int8"
        found[int(integers), place] = kernels.work(left, one.form, one.rank, integers=integers)
    return found.reshape(-1, len(WORK))
