"""Sums of moments on the device against numpy, value by value."""

import numpy as np
import pytest
from examples import conv
from onnx import TensorProto

from onnx_relusv.patches import explicit_pads, output_lengths, patch_index
from onnx_relusv.records import Floats
from onnx_relusv.runtime.moment_kernels import fit_kernel, moments_kernel
from onnx_relusv.runtime.session import CPU, CUDA

CONV = conv(4, 6, (3, 2), groups=2, strides=(2, 1), pads=(1, 0, 1, 1))
LENGTHS = (5, 4)


def conv_moments_feeds(x: np.ndarray, samples: int, positions: np.ndarray) -> dict[str, np.ndarray]:
    pads = explicit_pads(CONV, LENGTHS)
    return {
        "x": x,
        "count": np.array([samples]),
        "pads": np.array((0, 0, *pads[:2], 0, 0, *pads[2:])),
        "index": patch_index(CONV, LENGTHS, positions).reshape(-1),
        "split": np.array([0, 2, 2, 6, len(positions)]),
        "shape": np.array([2, 12, -1]),
    }


def conv_columns(x: np.ndarray, samples: int, positions: np.ndarray) -> Floats:
    """(groups, columns, rows), value by value."""
    heights, widths = output_lengths(CONV, LENGTHS)
    padded = np.pad(x[:samples].astype(np.float64), ((0, 0), (0, 0), (1, 1), (0, 1)))
    columns = []
    for sample in padded:
        for position in positions:
            down, across = position // widths * 2, position % widths
            assert position < heights * widths
            columns.append(sample[:, down : down + 3, across : across + 2].reshape(2, 12))
    return np.array(columns).transpose(1, 2, 0)


TYPES = [
    (TensorProto.FLOAT, np.float32),
    (TensorProto.DOUBLE, np.float64),
    (TensorProto.FLOAT16, np.float16),
]


@pytest.mark.parametrize(("element_type", "dtype"), TYPES)
def test_the_moments_of_a_conv_s_patches(element_type: int, dtype: type) -> None:
    rng = np.random.default_rng(0)
    kernel = moments_kernel(CPU, True, element_type)
    total: object = np.zeros((2, 12, 12))
    sums: object = np.zeros((2, 12, 1))
    seen = []
    # A whole batch, then one whose last samples are padding, at other positions.
    for samples, positions in ((3, np.arange(9)), (2, np.array([0, 4, 7]))):
        x = rng.standard_normal((3, 4, *LENGTHS)).astype(dtype)
        feeds = {**conv_moments_feeds(x, samples, positions), "total": total, "sum": sums}
        result = kernel.run_on_device(feeds, ["new_total", "new_sum"])
        total, sums = result["new_total"], result["new_sum"]
        seen.append(conv_columns(x, samples, positions))
    columns = np.concatenate(seen, axis=2)
    # Float64 sums of some tens of products: the values were rounded before, to their own type.
    assert np.allclose(total.numpy(), columns @ columns.transpose(0, 2, 1), rtol=0, atol=1e-12)
    assert np.allclose(sums.numpy(), columns.sum(axis=2, keepdims=True), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("element_type", "dtype"), TYPES)
def test_the_moments_of_rows(element_type: int, dtype: type) -> None:
    x = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(dtype)
    index = np.array([0, 3, 4, 11])
    feeds = {
        "x": x,
        "index": index,
        "shape": np.array([1, -1, 5]),
        "total": np.ones((1, 5, 5)),
        "sum": np.ones((1, 5, 1)),
    }
    found = moments_kernel(CPU, False, element_type).run(feeds)
    rows = x.reshape(-1, 5)[index].astype(np.float64)
    assert np.allclose(found["new_total"][0], 1 + rows.T @ rows, rtol=0, atol=1e-13)
    assert np.allclose(found["new_sum"][0, :, 0], 1 + rows.sum(axis=0), rtol=0, atol=1e-13)


def test_sums_are_in_float64() -> None:
    # In float32, adding 1 to 2^24 changes nothing.
    feeds = {
        "x": np.ones((1, 1), np.float32),
        "index": np.array([0]),
        "shape": np.array([1, -1, 1]),
        "total": np.full((1, 1, 1), 2.0**24),
        "sum": np.full((1, 1, 1), 2.0**24),
    }
    found = moments_kernel(CPU, False, TensorProto.FLOAT).run(feeds)
    assert found["new_total"].item() == 2**24 + 1
    assert found["new_sum"].item() == 2**24 + 1


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("is_conv", [True, False])
def test_the_sums_of_a_fit(is_conv: bool, shifted: bool) -> None:
    rng = np.random.default_rng(0)
    if is_conv:
        x, y = rng.standard_normal((2, 3, 4, *LENGTHS)).astype(np.float32)
        positions = np.array([0, 4, 7])
        geometry = conv_moments_feeds(x, 2, positions)
        inputs, originals = (conv_columns(values, 2, positions) for values in (x, y))
    else:
        x, y = rng.standard_normal((2, 5, 6)).astype(np.float32)
        index = np.array([4, 1])
        geometry = {"x": x, "index": index, "shape": np.array([1, -1, 6])}
        inputs, originals = (values[index].T[None].astype(np.float64) for values in (x, y))
    groups, columns, _ = inputs.shape
    weight = rng.standard_normal((groups, 5, columns))
    so_far = {
        "total": rng.standard_normal((groups, columns, columns)),
        "sum": rng.standard_normal((groups, columns, 1)),
        "cross": rng.standard_normal((groups, 5, columns)),
        "target_sum": rng.standard_normal((groups, 5, 1)),
    }
    shift = rng.standard_normal((groups, inputs.shape[2], 5)).astype(np.float32)
    added_to_it = {"shift": shift} if shifted else {}
    found = fit_kernel(CPU, is_conv, TensorProto.FLOAT, shifted).run(
        {**geometry, **so_far, **added_to_it, "y": y, "weight": weight}
    )
    target = weight @ originals
    if shifted:
        target = target + shift.transpose(0, 2, 1)
    added = {
        "total": inputs @ inputs.transpose(0, 2, 1),
        "sum": inputs.sum(axis=2, keepdims=True),
        "cross": target @ inputs.transpose(0, 2, 1),
        "target_sum": target.sum(axis=2, keepdims=True),
    }
    for name, value in added.items():
        # Float64 sums of some tens of products.
        assert np.allclose(found[f"new_{name}"], so_far[name] + value, rtol=0, atol=1e-12)


def test_kernels_are_built_once() -> None:
    assert moments_kernel(CPU, True, 1) is moments_kernel(CPU, True, 1)
    assert moments_kernel(CPU, True, 1) is not moments_kernel(CPU, False, 1)
    assert fit_kernel(CPU, True, 1, False) is not fit_kernel(CPU, True, 1, True)


@pytest.mark.gpu
def test_cuda_and_the_cpu_add_up_alike() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4, *LENGTHS)).astype(np.float32)
    feeds = {
        **conv_moments_feeds(x, 3, np.arange(9)),
        "total": np.zeros((2, 12, 12)),
        "sum": np.zeros((2, 12, 1)),
    }
    first, second = (
        moments_kernel(provider, True, TensorProto.FLOAT).run(feeds) for provider in (CPU, CUDA)
    )
    for name in ("new_total", "new_sum"):
        # Float64 on both.
        assert np.allclose(first[name], second[name], rtol=0, atol=1e-12)
