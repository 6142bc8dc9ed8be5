"""Draws of patches, and what other tensors hold for the same patches."""

from itertools import product

import numpy as np
import pytest
from examples import block, conv, gemm, linear_map, matmul
from graphs import evaluated
from onnx import TensorProto

from onnx_relusv.core.blocks import Block, Floats
from onnx_relusv.runtime.kernels.moments import patches_kernel
from onnx_relusv.runtime.session import CPU
from onnx_relusv.spectra.moments import ENOUGH, Draw, Enough, Sampling

SAMPLES = 5
BLOCKS = {
    "conv": block(conv(3, 4, (3, 2)), (7, 6)),
    "conv, pads and strides": block(conv(3, 4, (3, 3), strides=(2, 3), pads=(1, 0, 1, 2)), (7, 6)),
    "conv, dilations": block(conv(2, 4, (2, 3), dilations=(3, 2)), (7, 6)),
    "conv, groups": block(conv(4, 6, (3, 2), groups=2, pads=(1, 0, 1, 0)), (5, 6)),
    "conv, SAME_LOWER": block(conv(2, 4, (4, 3), strides=(1, 2), auto_pad="SAME_LOWER"), (5, 6)),
    "conv, 1x1": block(conv(5, 4, (1, 1)), (4, 3)),
    "conv, 1-D": block(conv(3, 4, (3,), strides=(2,), pads=(1, 3)), (9,)),
    "gemm": block(gemm(6, 4)),
    "matmul": block(matmul(6, 4), (7,)),
    "matmul, two axes": block(matmul(6, 4), (3, 2)),
}


def inputs(item: Block, seed: int = 0) -> np.ndarray:
    shape = (SAMPLES, *item.source_shape[1:])
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def patches(item: Block, x: np.ndarray, draw: Draw) -> Floats:
    """(groups, patches, columns), as a kernel takes them."""
    geometry = item.geometry
    kernel = patches_kernel(CPU, geometry.kind == "conv", TensorProto.FLOAT)
    return kernel.run({"x": x, **draw.feeds})["z"].astype(np.float64)


@pytest.mark.parametrize("name", BLOCKS)
def test_answers_are_those_of_the_kernel_s_patches(name: str) -> None:
    for real, most in product((SAMPLES, 3), (None, 12)):
        item, rng = BLOCKS[name], np.random.default_rng(1)
        linear, x = linear_map(item.geometry, rng), inputs(item)
        draw = Sampling(item, SAMPLES, most).draw(x.shape, real, SAMPLES, rng)
        z = patches(item, x, draw)
        assert z.shape[1] == draw.rows
        answers = evaluated(item, linear, x)
        bias = linear.bias.reshape(item.geometry.groups, 1, -1)
        expected = np.einsum("gnc,grc->gnr", z, linear.weight) + bias
        picked = Sampling(item, SAMPLES, most).answers(answers, draw, real)
        # Float64 sums of tens of products of float32 numbers.
        np.testing.assert_allclose(picked, expected, rtol=0, atol=1e-12)
        # Another draw of the same patches is another order or choice: shows that this can fail.
        if draw.rows > 2:
            moved = np.roll(picked, 1, axis=1)
            assert np.abs(moved - expected).max() > 1e-3


def test_of_an_identity_they_are_the_patches() -> None:
    for groups, most in product((1, 2), (None, 12)):
        item = block(conv(4, 4, (1, 1), groups=groups), (5, 3))
        x, moments = inputs(item), Sampling(item, SAMPLES, most)
        draw = moments.draw(x.shape, 4, SAMPLES, np.random.default_rng(2))
        np.testing.assert_array_equal(moments.answers(x, draw, 4), patches(item, x, draw))


def test_all_patches_where_there_are_few() -> None:
    for name, item in BLOCKS.items():
        x = inputs(item)
        draw = Sampling(item, SAMPLES).draw(x.shape, SAMPLES, SAMPLES, np.random.default_rng(0))
        positions = np.prod(item.output_shape[2:] if "conv" in name else item.output_shape[1:-1])
        assert draw.rows == SAMPLES * positions, name
        assert len(np.unique(draw.places)) == len(draw.places), name


def test_how_many_are_enough() -> None:
    item = BLOCKS["conv"]
    everything = Sampling(item, 100)
    assert everything.rows_per_sample == ENOUGH.fewest // 100
    assert Sampling(item, 100, 250).rows_per_sample == 3
    assert Sampling(item, 100, 1).rows_per_sample == 1
    # More than moments need are never taken.
    assert Sampling(item, 100, 10**9).rows_per_sample == everything.rows_per_sample
    assert (
        Sampling(item, 100, enough=Enough(fewest=0)).rows_per_sample == 3
    )  # 16 rows for each of 18 columns


def test_padding_is_never_drawn() -> None:
    for name in ("conv", "gemm", "matmul"):
        item = BLOCKS[name]
        x = inputs(item)
        x[3:] = np.nan
        moments = Sampling(item, 3)
        draw = moments.draw(x.shape, 3, SAMPLES, np.random.default_rng(0))
        assert np.isfinite(patches(item, x, draw)).all(), name
        answers = np.zeros((SAMPLES, *item.output_shape[1:]))
        answers[3:] = np.nan
        assert np.isfinite(moments.answers(answers, draw, 3)).all(), name


def test_the_generator_decides() -> None:
    item = block(conv(3, 4, (3, 3)), (30, 30))
    shape = (SAMPLES, 3, 30, 30)
    one, again, other = (
        Sampling(item, SAMPLES, 50).draw(shape, SAMPLES, SAMPLES, np.random.default_rng(seed))
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.places, again.places)
    assert not np.array_equal(one.places, other.places)
    assert one.rows == 50
