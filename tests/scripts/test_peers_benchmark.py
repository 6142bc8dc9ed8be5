"""The benchmark against peers: the paired comparison, and the cut of plain SVD."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module", autouse=True)
def _scripts_on_the_path() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS / "benchmarks"))
        patch.syspath_prepend(str(SCRIPTS / "peers"))
        yield


def _part(name: str) -> ModuleType:
    return importlib.import_module(name)


def _right(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = (both, first, second, neither)
    return (
        np.repeat([True, True, False, False], counts),
        np.repeat([True, False, True, False], counts),
    )


def test_a_difference_counts_images_that_one_alone_has_right() -> None:
    found = _part("paired").difference(*_right(both=900, first=40, second=10, neither=50))
    assert found.points == pytest.approx(3.0)  # (40 - 10) of 1,000
    # Clopper and Pearson's ends as quantiles of beta distributions, 50 discordant images of 1,000.
    low = scipy.stats.beta.ppf(0.025, 40, 11)
    high = scipy.stats.beta.ppf(0.975, 41, 10)
    assert found.low == pytest.approx(5 * (2 * low - 1))
    assert found.high == pytest.approx(5 * (2 * high - 1))
    assert found.word == "ahead"


@given(st.integers(0, 60), st.integers(0, 60))
def test_a_word_is_that_of_mcnemars_exact_test(first: int, second: int) -> None:
    found = _part("paired").difference(*_right(500, first, second, 100))
    tail = scipy.stats.binom.cdf(min(first, second), first + second, 0.5)
    differs = first + second > 0 and 2 * tail < 0.05
    assert (found.word != "tie") == differs
    if differs:
        assert found.word == ("ahead" if first > second else "behind")


@pytest.mark.parametrize("spatial", [False, True])
def test_a_cut_at_full_rank_answers_like_the_original(spatial: bool) -> None:
    model, images = _network()
    # A share of 2 leaves every layer its full rank, for which two layers need more weights.
    whole = _part("svd").cut(model, ["conv", "scores"], 2.0, spatial=spatial)
    assert len(whole.graph.node) == len(model.graph.node) + 2
    exact = _answers(model, images)
    # Sums of some 50 float32 products, twice.
    assert np.allclose(_answers(whole, images), exact, atol=1e-4 * np.abs(exact).max())
    less = _part("svd").cut(model, ["conv", "scores"], 0.3, spatial=spatial)
    assert less.ByteSize() < whole.ByteSize()
    assert not np.allclose(_answers(less, images), exact, atol=1e-2 * np.abs(exact).max())


def test_the_bisection_ends_just_below_the_limit() -> None:
    task = _part("task")
    asked = task.Task(
        model=onnx.ModelProto(), images=np.zeros((0,)), answers=np.zeros((0,)),
        limit=5_000, bytes=10_000, folder=Path(),
    )  # fmt: skip

    def of_size(knob: float) -> onnx.ModelProto:
        return onnx.ModelProto(doc_string="x" * int(1_000 + knob * 9_000))

    found = task.largest_within(asked, "any", of_size)
    assert 4_990 <= found.model.ByteSize() <= 5_000
    never = task.largest_within(asked, "any", lambda knob: of_size(1.0))
    assert never.model is None
    assert never.least > 5_000


def _network() -> tuple[onnx.ModelProto, np.ndarray]:
    """A strided Conv with unequal sides and a Gemm, and images for it."""
    rng = np.random.default_rng(0)
    weights = {
        "kernel": rng.standard_normal((6, 4, 3, 5)).astype(np.float32),
        "bias": rng.standard_normal(6).astype(np.float32),
        "matrix": rng.standard_normal((6 * 4 * 5, 7)).astype(np.float32),
    }
    nodes = [
        helper.make_node(
            "Conv", ["image", "kernel", "bias"], ["conv"],
            kernel_shape=[3, 5], strides=[2, 1], pads=[1, 2, 1, 2],
        ),
        helper.make_node("Flatten", ["conv"], ["flat"]),
        helper.make_node("Gemm", ["flat", "matrix"], ["scores"]),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 4, 7, 5])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 7])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    return model, rng.standard_normal((3, 4, 7, 5)).astype(np.float32)


def _answers(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found: np.ndarray = session.run(None, {"image": images})[0]
    return found
