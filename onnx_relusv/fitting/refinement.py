"""ReLU-aware refinement: factors that are right behind the activation, not only before it.

A regression minimises the error of Lz + b' against Wx + b. What the next layers see is behind the
activation, where an error on an inactive unit is nothing, and where the consumers of a unit decide
how much the rest counts. Objectives say how much (`OwnAnswers`; `Reproduction`, where units are
removed); they are descended by Adam (Kingma, Ba, 2015) on the factors and the bias, over rows that
are drawn from all batches. From time to time rows that no step saw are looked at, and the factors
that are best on them are kept; the start is among them. Where every look of several is worse than
the one before, steps fit what is particular to their rows, and no more are taken.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from math import ceil

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
# Looks, each worse than the one before and than the best, after which no more steps are taken. The
# first steps are long, and what they spoil is mended by the second or third look.
_WORSE_LOOKS = 4
# Of the root mean square of a factor's entries: how far one step moves each of them, at first.
_STEP = 1.5e-2
_MOMENTUM, _MEMORY = 0.9, 0.99
# Of a parameter's largest first slope: what is less than that is none.
_TINY = np.float32(1e-12)
# Entries that are moved at a time.
_MOVED = 1 << 15


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
    judges = objective.compared(selecting)
    wanted = objective.compared(fitting)
    others = objective.others(start, wanted, judges)
    best, least = start, objective.value(start, judges, others)
    if least <= objective.rounding(judges):
        advance(LOOKS)
        return start
    spread = float(np.std(fitting.target)) or 1.0
    sizes = [*map(_size, even.matrices), spread, *map(_size, others)]
    optimizer = _Adam([*even.matrices, even.bias, *others])
    steps = LOOKS * _STEPS_A_LOOK
    wanted = wanted.at(rng.permutation(wanted.count))
    parts = _parts(wanted.count, rng)
    before, worse = least, 0
    for look in range(LOOKS):
        for part in islice(parts, _STEPS_A_LOOK):
            current, others = _with(even, optimizer.parameters)
            slopes = objective.slopes(current, wanted, part, others)
            share = _STEP * 0.5 * (1 + np.cos(np.pi * optimizer.steps / steps))
            optimizer.step(
                [*slopes.matrices, slopes.bias, *slopes.others],
                [share * size for size in sizes],
            )
        current, others = _with(even, optimizer.parameters)
        reached = objective.value(current, judges, others)
        worse = worse + 1 if reached > max(before, least) else 0
        before = reached
        if reached < least:
            best, least = _exact(current), reached
        if worse == _WORSE_LOOKS:
            advance(LOOKS - look)
            break
        advance(1)
    return best if best is start else objective.settled(best, fitting)


def _exact(factors: Factors) -> Factors:
    """A copy in float64 of factors that go on to be moved."""
    matrices = [matrix.astype(np.float64) for matrix in factors.matrices]
    return replace(factors.with_matrices(matrices), bias=factors.bias.astype(np.float64))


def _parts(count: int, rng: np.random.Generator) -> Iterator[slice]:
    """The rows of one step after the other, all of them before any comes again, without an end.

    Rows that stand together are read several times faster than rows from everywhere, so that it
    is the parts that come in another order every time, and not the rows within them.
    """
    bounds = np.linspace(0, count, 1 + max(1, ceil(count / ROWS_A_STEP))).astype(int)
    while True:
        for at in rng.permutation(len(bounds) - 1):
            yield slice(bounds[at], bounds[at + 1])


def _with(
    factors: Factors, parameters: Sequence[np.ndarray]
) -> tuple[Factors, tuple[np.ndarray, ...]]:
    """Moved factors, and what else is moved."""
    count = len(factors.matrices)
    matrices, bias, others = parameters[:count], parameters[count], tuple(parameters[count + 1 :])
    return replace(factors.with_matrices(matrices), bias=bias), others


def _size(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2)))


class _Adam:
    """First-order steps whose lengths follow the running size of each entry's slope.

    All is float32, as slopes are: steps are far longer than its roundings. Slopes count in units of
    their parameter's largest first one, so that their squares are within float32's range. Entries
    are moved where they lie, as many at a time as stay in a core's own cache.

    Args:
        start: Where to begin; it is copied.

    Attributes:
        parameters: In the shapes and order of the start.
        steps: How many were taken.
    """

    def __init__(self, start: Sequence[Floats]) -> None:
        self.parameters = [np.array(values, np.float32, order="C") for values in start]
        self._means = [np.zeros(values.size, np.float32) for values in start]
        self._squares = [np.zeros(values.size, np.float32) for values in start]
        self._units: list[np.float32] = []
        self.steps = 0

    def step(self, slopes: Sequence[np.ndarray], lengths: Sequence[float]) -> None:
        """Moves every entry by about `lengths` at most."""
        if not self.steps:
            largest = (np.abs(slope).max(initial=0.0) for slope in slopes)
            self._units = [np.float32(unit) if unit > 0 else np.float32(1) for unit in largest]
        self.steps += 1
        first, second = 1 - _MOMENTUM**self.steps, 1 - _MEMORY**self.steps
        for number, (values, slope) in enumerate(zip(self.parameters, slopes, strict=True)):
            flat, along = values.reshape(-1), np.ascontiguousarray(slope, np.float32).reshape(-1)
            length = np.float32(lengths[number] / first)
            for start in range(0, flat.size, _MOVED):
                some = slice(start, start + _MOVED)
                mean, square = self._means[number][some], self._squares[number][some]
                fresh = along[some] / self._units[number]
                mean *= np.float32(_MOMENTUM)
                mean += np.float32(1 - _MOMENTUM) * fresh
                square *= np.float32(_MEMORY)
                square += np.float32(1 - _MEMORY) * fresh**2
                moved = np.sqrt(square * np.float32(1 / second))
                moved += _TINY
                np.divide(mean, moved, out=moved)
                moved *= length
                flat[some] -= moved
