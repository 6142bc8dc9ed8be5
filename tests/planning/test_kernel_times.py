"""The model of onnxruntime's kernels, against sums that are written out here."""

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_relusv.core.blocks import Geometry
from onnx_relusv.core.kinds import CONV, Gemm
from onnx_relusv.planning.latency.kernels import PRICES, WORK, layer_work
from onnx_relusv.planning.latency.pack import PACKS, measured_pack, pack_of
from onnx_relusv.runtime.session import CPU, CUDA

# As the model has them: a weight's byte, a number written, a node, in multiply-accumulates.
BYTE, OUTPUT, NODE = 3.3, 7.0, 200_000.0
CHANNELS = st.integers(1, 300)


def conv(inputs: int, outputs: int, side: int = 3, groups: int = 1) -> Geometry:
    return Geometry(
        kind=CONV.name,
        in_channels=inputs,
        out_channels=outputs,
        groups=groups,
        kernel=(side, side),
        strides=(1, 1),
        dilations=(1, 1),
        pads=(side // 2,) * 4,
    )


def work(
    geometry: Geometry, length: int = 8, batch: int = 1, pack: int = 16, *, integers: bool = False
) -> float:
    shape = (1, geometry.in_channels, length, length) if geometry.kernel else (1, 0)
    done = layer_work(geometry, shape, batch, pack, integers=integers)
    assert len(done) == len(WORK)
    return float(done @ PRICES)


def test_whole_packs_take_their_products_weights_outputs_and_a_start() -> None:
    """64 to 64 channels, 3x3, on 8x8: four packs at once."""
    products, weights, outputs = 64 * 9 * 64 * 64, 9 * 64 * 64, 64 * 64
    expected = products + 4 * BYTE * weights + OUTPUT * outputs + NODE
    assert work(conv(64, 64)) == pytest.approx(expected)
    # Of a batch, weights and the start are paid once.
    many = 32 * (products + OUTPUT * outputs) + 4 * BYTE * weights + NODE
    assert work(conv(64, 64), batch=32) == pytest.approx(many)


@given(CHANNELS, CHANNELS, st.sampled_from([8, 16]))
def test_a_pack_that_is_not_full_takes_what_a_full_one_takes(
    inputs: int, outputs: int, pack: int
) -> None:
    full = pack * ceil(outputs / pack)
    weights = 4 * BYTE * 9 * inputs
    found, whole = (work(conv(inputs, count), pack=pack) for count in (outputs, full))
    assert found - weights * outputs == pytest.approx(whole - weights * full)


@given(st.integers(16, 300), CHANNELS)
def test_input_channels_that_are_no_multiple_of_four_cost_more_than_the_next_that_are(
    inputs: int, outputs: int
) -> None:
    found, even = work(conv(inputs, outputs)), work(conv(4 * ceil(inputs / 4), outputs))
    if inputs % 4:
        assert found > even
    else:
        assert found == even


@given(CHANNELS, CHANNELS, st.booleans())
def test_more_channels_take_no_less(inputs: int, outputs: int, integers: bool) -> None:
    """Output channels; and input channels in whole packs, or any of integers."""
    step = 1 if integers else 16
    even = step * inputs
    found = work(conv(even, outputs), integers=integers)
    assert work(conv(even, outputs + 1), integers=integers) >= found
    assert work(conv(even + step, outputs), integers=integers) >= found


def test_a_matrix_is_its_weights_for_one_sample_and_its_products_for_many() -> None:
    geometry = Geometry(kind=Gemm.name, in_channels=2048, out_channels=1024)
    one, many = (work(geometry, batch=batch) for batch in (1, 1024))
    numbers = 2048 * 1024
    assert one == pytest.approx(numbers * (1 + 4 * BYTE) + OUTPUT * 1024 + NODE)
    assert many / 1024 == pytest.approx(numbers, rel=0.03)  # outputs and weights are the rest


def test_integers_and_depthwise_layers_take_less_than_whole_ones() -> None:
    assert work(conv(64, 64), integers=True) < work(conv(64, 64)) / 2
    assert work(conv(64, 64, groups=64)) < work(conv(64, 64)) / 4
    # Groups of whole packs have the fast kernels, and others have not.
    assert work(conv(64, 64, groups=4)) < work(conv(64, 64, groups=8))


def test_the_pack_is_the_largest_that_times_show() -> None:
    """Of 32 output channels, of 17 and of 25."""
    assert pack_of(1.0, (1.0, 1.0)) == 16
    assert pack_of(1.0, (0.75, 1.0)) == 8
    assert pack_of(1.0, (0.55, 0.8)) is None


def test_this_processor_has_one_pack_whenever_it_is_timed() -> None:
    found = measured_pack(CPU)
    assert found in (*PACKS, None)
    measured_pack.cache_clear()
    assert measured_pack(CPU) == found
    assert measured_pack(CUDA) is None
