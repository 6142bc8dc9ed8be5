"""Traces of small models against every activated operator, written out patch by patch."""

from pathlib import Path

import numpy as np
import pytest
import scipy.special
from graphs import model_proto, normal, normalization, run
from relu_maps import exact_s0
from traced_layers import (
    ARRAYS,
    IMAGES,
    MANY,
    NETWORK,
    ROWS,
    Layer,
    block_of,
    conv,
    dense,
    everywhere,
    labelled,
    traced,
)

from onnx_relusv import MeasureOptions, trace
from onnx_relusv.commands.trace import TraceSettings, trace_samples
from onnx_relusv.core.traces import Trace
from onnx_relusv.measuring.case import open_model
from onnx_relusv.spectra.mean_widths import width_of
from onnx_relusv.work.executors import Silent

SLOPES = np.array([0.3, -0.2, 0.0, 1.2, 0.5, -1.0], np.float32)


LAYERS = {
    "relu": Layer(*dense("Relu(h)"), ROWS),
    "clip": Layer(
        *dense("Clip(h, low, high)", low=np.float32(0), high=np.float32(0.7)), ROWS, ceiling=0.7
    ),
    "leaky": Layer(*dense("LeakyRelu<alpha=0.25>(h)"), ROWS, slopes=0.25),
    "prelu": Layer(*dense("PRelu(h, a)", a=SLOPES), ROWS, slopes=SLOPES.astype(float)),
    "sequences": Layer(
        "(float[N,T,5] x) => (float[N,T,6] y) { p = MatMul(x, w) h = Add(p, b) y = Relu(h) }",
        dense("")[1],
        normal(7, 3, 5),
    ),
    "rows of sequences": Layer(
        "(float[N,3,5] x) => (y) { f = Reshape(x, s) h = Gemm(f, w, b) y = Relu(h) }",
        {**dense("")[1], "s": np.array([-1, 5])},
        normal(7, 3, 5),
    ),
    "conv, stride and pads": Layer(
        *conv("strides=[3,3], pads=[1,0,2,1]", (6, 4, 3, 2)),
        IMAGES,
        stride=3,
        pads=((1, 2), (0, 1)),
    ),
    "conv, groups": Layer(
        *conv("group=2, strides=[2,2], pads=[0,1,0,0]", (6, 2, 3, 4)),
        IMAGES,
        groups=2,
        stride=2,
        pads=((0, 0), (1, 0)),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_figure_is_the_mean_over_the_positions(name: str, tmp_path: Path) -> None:
    layer = LAYERS[name]
    A, y = layer.operators()
    # A check of the reference: all positions are measured, and it computes what the model does.
    assert A.shape[1] <= 8
    h = run(model_proto(layer.text, layer.arrays), {"x": layer.samples}, ["h"])["h"]
    assert np.allclose(np.sort(h, axis=None), np.sort(y, axis=None), atol=1e-5)
    found = traced(tmp_path, layer.text, layer.arrays, {"x": layer.samples}, exact=True)
    assert not found.refusals
    (block,) = found.blocks
    assert (block.key, block.units, block.positions) == ("y", 6, A.shape[1])
    sigma = np.linalg.svd(A, compute_uv=False)
    frobenius = np.linalg.norm(sigma, axis=2)
    moment = np.sqrt(np.maximum(frobenius**4 + 2 * (sigma**4).sum(axis=2), 1e-300))
    widths = np.array([[width_of(one) for one in row] for row in sigma])
    knees = np.minimum(np.abs(y), np.abs(y - layer.ceiling)) / layer.weights()
    largest = np.array([[exact_s0(one) for one in row] for row in A]).mean(axis=1)
    # Float32 pre-activations, and what bounds give away for float32 sums over six units.
    close = {"rtol": 1e-5, "atol": 1e-6}
    assert np.allclose(block.active, (A != 0).any(axis=3).sum(axis=2).mean(axis=1), rtol=1e-12)
    assert np.allclose(block.width_upper, frobenius.mean(axis=1), **close)
    assert np.allclose(block.width_lower, (frobenius**3 / moment).mean(axis=1), **close)
    assert np.allclose(block.width, widths.mean(axis=1), **close)
    assert np.allclose(block.margin, knees.min(axis=2).mean(axis=1), **close)
    # An estimate from below; ten steps come close where there are six units.
    assert (block.largest <= largest * (1 + 1e-6)).all()
    assert (block.largest >= 0.9 * largest).all()


def test_of_many_positions_eight_are_drawn_by_the_seed(tmp_path: Path) -> None:
    everything = everywhere(MANY)
    assert everything.shape[1] == 30
    seen = []
    for seed in (0, 0, 1):
        found = traced(tmp_path, MANY.text, MANY.arrays, {"x": IMAGES}, seed=seed)
        drawn = np.random.default_rng(seed).choice(30, 8, replace=False)
        (block,) = found.blocks
        assert block.positions == 8
        assert np.allclose(block.width_upper, everything[:, drawn].mean(axis=1), rtol=1e-5)
        seen.append(block)
    for name in ("active", "width_lower", "width_upper", "largest", "margin"):
        first, again, other = (getattr(block, name) for block in seen)
        assert np.array_equal(first, again)
        assert not np.allclose(first, other)
    assert np.isnan(seen[0].width).all()


def test_normalization_is_part_of_the_operator(tmp_path: Path) -> None:
    vectors = normalization(6)
    text, arrays = conv("strides=[3,3], pads=[1,0,2,1]", (6, 4, 3, 2))
    text = text.replace("h = Conv", "c = Conv").replace(
        "y = Relu", "h = BatchNormalization(c, gamma, beta, mean, variance) y = Relu"
    )
    found = traced(tmp_path, text, {**arrays, **vectors}, {"x": IMAGES})
    scale = vectors["gamma"] / np.sqrt(vectors["variance"] + 1e-5)
    folded = {
        "w": arrays["w"] * scale.reshape(-1, 1, 1, 1),
        "b": (arrays["b"] - vectors["mean"]) * scale + vectors["beta"],
    }
    layer = Layer("", folded, IMAGES, stride=3, pads=((1, 2), (0, 1)))
    assert np.allclose(block_of(found).width_upper, everywhere(layer).mean(axis=1), rtol=1e-5)


@pytest.mark.parametrize("batch", [1, 3, 40])
def test_a_fixed_batch_changes_nothing(batch: int, tmp_path: Path) -> None:
    samples, _ = labelled(tmp_path, 8)
    free = traced(tmp_path, NETWORK, ARRAYS, samples)
    fixed = traced(tmp_path, NETWORK.replace("[N,", f"[{batch},"), ARRAYS, samples)
    for name in ("active", "width_lower", "width_upper", "largest", "margin"):
        one, other = (getattr(block_of(found), name) for found in (free, fixed))
        # Products of other batches may round differently.
        assert np.allclose(one, other, rtol=1e-5, atol=1e-6)
    assert np.allclose(free.entropy, fixed.entropy, rtol=1e-5)
    assert np.array_equal(free.correct, fixed.correct)


@pytest.mark.parametrize("element_type", ["double", "float16"])
def test_other_element_types(element_type: str, tmp_path: Path) -> None:
    dtype = {"double": np.float64, "float16": np.float16}[element_type]
    samples, z = labelled(tmp_path, 8)
    arrays = {name: values.astype(dtype) for name, values in ARRAYS.items()}
    found = traced(tmp_path, NETWORK.replace("float[", f"{element_type}["), arrays, samples)
    layer = Layer("", ARRAYS, samples["x"])
    # Weights and values of ten bits.
    tolerance = 1e-2 if element_type == "float16" else 1e-5
    assert np.allclose(block_of(found).width_upper, everywhere(layer)[:, 0], rtol=tolerance)
    assert np.allclose(
        found.max_softmax, scipy.special.softmax(z, axis=1).max(axis=1), atol=tolerance
    )


# Blocks of which nobody knows what belongs to which sample.
MIXED = {
    "samples on the second axis": (
        "(float[N,3,5] x) => (y) { t = Transpose<perm=[1,0,2]>(x) h = MatMul(t, w) y = Relu(h) }",
        normal(7, 3, 5),
        "which sample",
    ),
    "several images a sample": (
        "(float[N,3,4,5,6] x) => (y) { t = Reshape(x, s) h = Conv(t, k) y = Relu(h) }",
        normal(7, 3, 4, 5, 6),
        "which sample",
    ),
}


@pytest.mark.parametrize("name", MIXED)
def test_a_block_whose_rows_cannot_be_told_apart_is_refused(name: str, tmp_path: Path) -> None:
    text, x, words = MIXED[name]
    arrays = {"w": normal(5, 6), "k": normal(6, 4, 3, 3), "s": np.array([-1, 4, 5, 6])}
    used = {key: values for key, values in arrays.items() if f"{key})" in text or f" {key}" in text}
    found = traced(tmp_path, text, used, {"x": x})
    assert found.blocks == ()
    assert [refusal.key for refusal in found.refusals] == ["y"]
    assert words in found.refusals[0].reason
    assert any("No block" in warning for warning in found.warnings)


def traced_again(folder: Path, settings: TraceSettings) -> Trace:
    """Traces what `traced` has left in a folder, with other settings."""
    case, inputs, workspace = open_model(
        folder / "model.onnx", folder / "samples.npz", MeasureOptions()
    )
    return trace_samples(
        case, inputs, workspace, exact=False, command="", progress=Silent(), settings=settings
    )


def test_a_block_with_too_many_units_is_refused(tmp_path: Path) -> None:
    assert traced(tmp_path, NETWORK, ARRAYS, {"x": normal(40, 5)}).blocks != ()
    found = traced_again(tmp_path, TraceSettings(largest_units=5))
    assert found.blocks == ()
    assert {"r": "it has 6 units; up to 5 are traced"}.items() <= {
        refusal.key: refusal.reason for refusal in found.refusals
    }.items()


def test_a_model_without_blocks_still_has_answers(tmp_path: Path) -> None:
    samples = {"x": normal(40, 5), "labels": np.zeros(40, int)}
    found = traced(tmp_path, "(float[N,5] x) => (float[N,5] y) { y = Relu(x) }", {}, samples)
    assert found.blocks == ()
    assert found.separation.combined is None
    assert found.max_softmax.shape == (40,)


def test_the_length_of_batches_changes_nothing(tmp_path: Path) -> None:
    whole = traced(tmp_path, MANY.text, MANY.arrays, {"x": IMAGES})
    single = traced_again(tmp_path, TraceSettings(largest_batch=1))
    for name in ("active", "width_lower", "width_upper", "largest", "margin"):
        one, other = (getattr(block_of(found), name) for found in (whole, single))
        assert np.allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["prelu", "conv, groups"])
def test_cuda_and_the_cpu_agree(name: str, tmp_path: Path) -> None:
    layer = LAYERS[name]
    traced(tmp_path, layer.text, layer.arrays, {"x": layer.samples})
    first, second = (
        trace(
            tmp_path / "model.onnx",
            samples=tmp_path / "samples.npz",
            measuring=MeasureOptions(provider=provider),
        )
        for provider in ("cpu", "cuda")
    )
    for field in ("active", "width_lower", "width_upper", "largest", "margin"):
        # Float32 sums in another order.
        one, other = (getattr(block_of(found), field) for found in (first, second))
        assert np.allclose(one, other, rtol=1e-4, atol=1e-6)
