"""ReLU-aware refinement: factors that are right behind the activation, not only before it.

A regression minimises the error of Lz + b' against Wx + b. What the next layers see is behind the
activation, where an error on an inactive unit is nothing, and where the consumers of a unit decide
how much the rest counts. Objectives say how much (`OwnAnswers`; `Reproduction`, where units are
removed); they are descended by Adam (Kingma, Ba, 2015) on the factors and the bias, over rows that
are drawn from all batches. From time to time rows that no step saw are looked at, and the factors
that are best on them are kept; the start is among them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from onnx_relusv.core.blocks import Floats
from onnx_relusv.core.plans import Factors
from onnx_relusv.fitting.objectives import ROWS_A_STEP, Objective
from onnx_relusv.rewrites.low_rank.forms import FORMS
from onnx_relusv.spectra.product_sums import Rows
from onnx_relusv.work.executors import Advance, unseen

# How often the rows that no step saw are looked at, and how many steps are taken before each look.
# A number of epochs would take fewer steps the fewer rows there are, and it is steps that it needs.
LOOKS = 16
_STEPS_A_LOOK = 12
# Of the root mean square of a factor's entries: how far one step moves each of them, at first.
_STEP = 1.5e-2
_MOMENTUM, _MEMORY = 0.9, 0.99
_TINY = 1e-30


def refined(
    start: Factors,
    objective: Objective,
    fitting: Rows,
    selecting: Rows,
    rng: np.random.Generator,
    advance: Advance = unseen,
) -> Factors:
    """Factors with a smaller objective on the selecting rows, or the start where none are found.

    Args:
        start: Where to begin.
        objective: What to descend.
        fitting: Rows that steps are taken on.
        selecting: Rows that decide at which look the factors are kept.
        rng: Shuffles.
        advance: Called after every look.
    """
    # Steps of one length then do as much to every factor.
    form = FORMS[start.form]
    even = start.with_matrices(form.balanced(*start.matrices))
    others = objective.others(start, fitting, selecting)
    best, least = start, objective.value(start, selecting, others)
    if least <= objective.rounding(selecting):
        advance(LOOKS)
        return start
    spread = float(np.std(fitting.target)) or 1.0
    sizes = [*map(_size, even.matrices), spread, *map(_size, others)]
    optimizer = _Adam([*even.matrices, even.bias, *others])
    steps = LOOKS * _STEPS_A_LOOK
    fitting = fitting.at(rng.permutation(fitting.count))
    parts = _parts(fitting.count, rng)
    for _ in range(LOOKS):
        for part in islice(parts, _STEPS_A_LOOK):
            current, others = _with(even, optimizer.parameters)
            slopes = objective.slopes(current, fitting, part, others)
            # In the precision of the graph: products of factors are as large as its own.
            singles = [matrix.astype(np.float32) for matrix in current.matrices]
            chained = form.slopes(objective.geometry, singles, slopes.map)
            share = _STEP * 0.5 * (1 + np.cos(np.pi * optimizer.steps / steps))
            optimizer.step(
                [*chained, slopes.bias, *slopes.others],
                [share * size for size in sizes],
            )
        current, others = _with(even, optimizer.parameters)
        reached = objective.value(current, selecting, others)
        if reached < least:
            best, least = current, reached
        advance(1)
    return best if best is start else objective.settled(best, fitting)


def _parts(count: int, rng: np.random.Generator) -> Iterator[slice]:
    """The rows of one step after the other, all of them before any comes again, without an end.

    Rows that stand together are read several times faster than rows from everywhere, so that it
    is the parts that come in another order every time, and not the rows within them.
    """
    bounds = np.linspace(0, count, 1 + max(1, count // ROWS_A_STEP)).astype(int)
    while True:
        for at in rng.permutation(len(bounds) - 1):
            yield slice(bounds[at], bounds[at + 1])


def _with(factors: Factors, parameters: Sequence[Floats]) -> tuple[Factors, tuple[Floats, ...]]:
    """Moved factors, and what else is moved."""
    count = len(factors.matrices)
    matrices, bias, others = parameters[:count], parameters[count], tuple(parameters[count + 1 :])
    return replace(factors.with_matrices(matrices), bias=bias), others


def _size(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2)))


class _Adam:
    """First-order steps whose lengths follow the running size of each entry's slope."""

    def __init__(self, parameters: Sequence[Floats]) -> None:
        self.parameters = [np.array(values) for values in parameters]
        self._means = [np.zeros_like(values) for values in parameters]
        self._squares = [np.zeros_like(values) for values in parameters]
        self.steps = 0

    def step(self, slopes: Sequence[Floats], lengths: Sequence[float]) -> None:
        """Moves every entry by about `lengths` at most."""
        self.steps += 1
        first, second = 1 - _MOMENTUM**self.steps, 1 - _MEMORY**self.steps
        for index, slope in enumerate(slopes):
            mean = _MOMENTUM * self._means[index] + (1 - _MOMENTUM) * slope
            square = _MEMORY * self._squares[index] + (1 - _MEMORY) * slope**2
            self._means[index], self._squares[index] = mean, square
            moved = (mean / first) / (np.sqrt(square / second) + _TINY)
            self.parameters[index] = self.parameters[index] - lengths[index] * moved
