"""Files tested in sequence: how often one that loses too much is taken, with known truths."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from onnx_relusv.checking.certificate import last_passed
from onnx_relusv.measuring.bounds import Discordance

SAMPLES, MOST, ERROR, DRAWS = 400, 0.05, 0.1, 4000
# Three that keep the limit by far, and many that miss it by next to nothing.
RATES = np.array([0.001, 0.002, 0.004, *(MOST + 1e-6 * (1 + np.arange(12)))])
GOOD = int(np.sum(RATES <= MOST))
# Standard errors of a share that is ERROR.
SIGMA = (ERROR * (1 - ERROR) / DRAWS) ** 0.5

Counts = np.ndarray


def apart(rng: np.random.Generator) -> Counts:
    """Changed answers of every file, on samples that each file changes for reasons of its own."""
    return rng.binomial(SAMPLES, RATES)


def nested(rng: np.random.Generator) -> Counts:
    """The same, where a smaller file changes what a larger one does, and more."""
    return np.sum(rng.random(SAMPLES)[:, None] < RATES, axis=0)


def passes(changed: int) -> bool:
    return Discordance(SAMPLES, changed, None).bound(ERROR) <= MOST


def one_too_many(changed: int) -> bool:
    """A bound that is off by a single sample."""
    return passes(max(changed - 1, 0))


def in_sequence(counts: Counts, test: Callable[[int], bool]) -> int | None:
    return last_passed(range(len(counts)), lambda file: test(int(counts[file])))


def behind_a_failure(counts: Counts, test: Callable[[int], bool]) -> int | None:
    """The smallest that passes, whatever failed before it."""
    passed = [file for file, count in enumerate(counts) if test(int(count))]
    return passed[-1] if passed else None


def bisected(counts: Counts, test: Callable[[int], bool]) -> int | None:
    """A search by the very tests."""
    low, high = 0, len(counts)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if test(int(counts[middle])) else (low, middle)
    return low - 1 if low else None


def by_what_was_seen(counts: Counts, test: Callable[[int], bool]) -> int | None:
    """In sequence, but what comes next is what lost the least."""
    order = np.argsort(counts, kind="stable").tolist()
    return last_passed(order, lambda file: test(int(counts[file])))


def wrongly_taken(
    draw: Callable[[np.random.Generator], Counts],
    take: Callable[[Counts, Callable[[int], bool]], int | None],
    test: Callable[[int], bool] = passes,
) -> float:
    """How often a file is taken that loses too much."""
    # What a test says of any count is asked for again and again.
    known = [test(count) for count in range(SAMPLES + 1)]
    rng = np.random.default_rng(0)
    taken = [take(draw(rng), known.__getitem__) for _ in range(DRAWS)]
    return float(np.mean([file is not None and file >= GOOD for file in taken]))


@pytest.mark.parametrize("draw", [apart, nested])
def test_what_loses_too_much_is_seldom_taken(
    draw: Callable[[np.random.Generator], Counts],
) -> None:
    found = wrongly_taken(draw, in_sequence)
    assert found <= ERROR + 3 * SIGMA
    # Nearly all of the error is used, so a bound that is off by one sample shows.
    assert found > ERROR / 2
    assert wrongly_taken(draw, in_sequence, one_too_many) > ERROR + 3 * SIGMA


@pytest.mark.parametrize("take", [behind_a_failure, bisected, by_what_was_seen])
def test_other_orders_of_the_same_tests_take_more(
    take: Callable[[Counts, Callable[[int], bool]], int | None],
) -> None:
    assert wrongly_taken(apart, take) > ERROR + 3 * SIGMA


def files(count: int, made: list[int]) -> Iterator[int]:
    for file in range(count):
        made.append(file)
        yield file


@pytest.mark.parametrize(
    ("results", "taken", "looked"),
    [
        ([True, True, False, True], 1, 3),
        ([False, True], None, 1),
        ([True, True], 1, 2),
        ([], None, 0),
    ],
)
def test_none_behind_the_first_that_fails_is_made(
    results: Sequence[bool], taken: int | None, looked: int
) -> None:
    made: list[int] = []
    assert last_passed(files(len(results), made), lambda file: results[file]) == taken
    assert made == list(range(looked))
