"""Dead leaves: what makes them pictures, and that every number is standard normal all the same."""

import numpy as np
import pytest

from onnx_relusv.samples.synthetic import dead_leaves


def test_a_seed_repeats_a_picture() -> None:
    first, again, other = (
        dead_leaves(3, 12, 20, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first.shape == (3, 12, 20)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_numbers_are_standard_normal_and_channels_independent() -> None:
    rng = np.random.default_rng(0)
    pictures = np.stack([dead_leaves(2, 8, 8, rng) for _ in range(4000)])
    # One pixel of each picture: independent draws, whose mean and mean square have errors of
    # 1 / sqrt(4000) = 0.016 and sqrt(2 / 4000) = 0.022; four of each.
    pixel = pictures[:, :, 3, 5]
    assert abs(pixel.mean(axis=0)).max() < 0.064
    np.testing.assert_allclose((pixel**2).mean(axis=0), 1, atol=0.09)
    assert abs((pixel[:, 0] * pixel[:, 1]).mean()) < 0.064


def test_neighbours_are_equal_but_for_edges() -> None:
    rng = np.random.default_rng(0)
    pictures = [dead_leaves(1, 32, 32, rng)[0] for _ in range(50)]
    equal = np.mean([np.mean(one[:, 1:] == one[:, :-1]) for one in pictures])
    # White noise has no equal neighbours; a picture of one colour has no others.
    assert 0.7 < equal < 1
    assert np.mean([len(np.unique(one)) > 1 for one in pictures]) > 0.9


def test_they_look_the_same_at_every_size() -> None:
    # How often pixels a quarter of the width apart are of one leaf, in 16 and in 64 pixels.
    shares = [_equal(16, 4), _equal(64, 16)]
    # 300 pictures: the error of a share is about 0.02 where pictures are all or nothing.
    assert shares[0] == pytest.approx(shares[1], abs=0.06)
    assert _equal(64, 4) > shares[1] + 0.1


def _equal(size: int, apart: int) -> float:
    rng = np.random.default_rng(size)
    pictures = (dead_leaves(1, size, size, rng)[0] for _ in range(300))
    return float(np.mean([np.mean(one[:, apart:] == one[:, :-apart]) for one in pictures]))
