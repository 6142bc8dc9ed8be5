"""Numbers that can be worked with: finite, and small enough for float32 to sum their squares."""

from collections.abc import Sequence

import numpy as np

# Graphs that judge and refine add squares up in float32, which ends at 3.4e38: so large numbers
# leave room for 1e12 of them.
LARGEST = 1e13
NOT_A_NUMBER = "NaN"
INFINITE = "infinite values"


class UnusableValuesError(Exception):
    """A tensor holds numbers that cannot be worked with; told to the user with where they are from.

    Attributes:
        tensor: Its name.
        positions: Of the samples that they were computed for, increasing.
        problem: What is wrong with the first of them, as `problem_of` says it.
    """

    def __init__(self, tensor: str, positions: Sequence[int], problem: str) -> None:
        super().__init__(f"{tensor} holds {problem}")
        self.tensor = tensor
        self.positions = tuple(positions)
        self.problem = problem


def problem_of(values: np.ndarray) -> str | None:
    """What is wrong with numbers, in words that follow "holds"; None where nothing is.

    Args:
        values: Of any shape and type; what is no floating point number is fine.
    """
    if not values.size or not is_floating(values):
        return None
    # Types that numpy does not know itself complain about a NaN when they are compared.
    with np.errstate(invalid="ignore"):
        low, high = float(values.min()), float(values.max())
    if low >= -LARGEST and high <= LARGEST:
        return None
    if np.isnan(low) or np.isnan(high):
        return NOT_A_NUMBER
    largest = max(-low, high)
    return INFINITE if np.isinf(largest) else f"numbers up to {largest:.2g}"


def is_floating(values: np.ndarray) -> bool:
    """Whether an array is of floating point numbers, bfloat16 included."""
    return isinstance(values, np.ndarray) and (
        values.dtype.kind == "f" or values.dtype.name == "bfloat16"
    )


def check_usable(tensor: str, values: np.ndarray, start: int, count: int, size: int) -> None:
    """Checks a tensor of a batch.

    Args:
        tensor: Its name.
        values: Its values, the samples along axis 0 where its length is a multiple of theirs.
        start: Position of the first sample.
        count: How many samples of the batch are real.
        size: How many it has.

    Raises:
        UnusableValuesError: With the samples that it is unusable for.
    """
    if problem_of(values) is not None:
        found = problems(values, count, size)
        if found:
            positions = [start + place for place in sorted(found)]
            raise UnusableValuesError(tensor, positions, found[min(found)])


def problems(values: np.ndarray, count: int, size: int) -> dict[int, str]:
    """What is wrong with a tensor, by the places of the batch's real samples that it is wrong for.

    Args:
        values: The tensor, (samples, ...) or (samples times rows, ...); where axis 0 is neither,
            all samples have a part in it.
        count: How many samples of the batch are real.
        size: How many it has.
    """
    if not values.ndim or len(values) % size:
        found = problem_of(values)
        return {} if found is None else dict.fromkeys(range(count), found)
    each = values.reshape(size, -1)
    listed = ((place, problem_of(each[place])) for place in range(count))
    return {place: found for place, found in listed if found is not None}
