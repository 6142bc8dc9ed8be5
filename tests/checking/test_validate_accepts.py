"""Right files of every kind pass the validation, and it says on what it judged them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import change_initializer, model_proto, normal, run, search
from onnx import ModelProto
from rewrites import IMAGES, Rewritten, compressed_network, rewritten

from onnx_relusv.core.errors import InputError, ValidationError
from onnx_relusv.graph.model import read_model
from onnx_relusv.runtime.differences import relative_error
from onnx_relusv.samples.samples import open_samples


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Rewritten:
    return compressed_network(tmp_path_factory.mktemp("network"))


def test_a_right_file_passes(network: Rewritten, tmp_path: Path) -> None:
    verdict = network.validated(tmp_path)
    assert [check.name for check in verdict.checks] == [
        "onnx.checker",
        "operands",
        "signature",
        "onnxruntime",
        "repeatable",
        "reference",
        "stated level",
        "smaller",
    ]
    assert verdict.output_error.keys() == {"y"}
    assert 0.01 < verdict.output_error["y"] < 10


# What a right file may look like.
DENSE = {"w": normal(60, 50), "b": normal(50), "v": normal(50, 60)}
BODY = "h = Gemm(x, w, b) f = Relu(h) y = MatMul(f, v) }"


@pytest.mark.parametrize(
    ("text", "arrays", "feeds", "opset"),
    [
        (f"(float[4,60] x) => (float[4,60] y) {{ {BODY}", {}, {"x": normal(4, 60)}, 17),
        (f"(float[N,60] x) => (float[N,60] y) {{ {BODY}", {}, {"x": normal(1, 60)}, 7),
        (
            "(float[N,3,H,W] x) => (float[N,16,I,J] y) {"
            ' a = Conv<auto_pad="SAME_LOWER", strides=[2,2]>(x, k, c) y = Relu(a) }',
            {"k": normal(16, 3, 6, 6), "c": normal(16)},
            IMAGES,
            13,
        ),
        (
            "(float[N,T,60] x, bool[N] unused, float[N,1,60] other) => (float[N,T,60] y) {"
            " s = Add(x, other) h = MatMul(s, w) g = Add(h, b) f = Relu(g) y = MatMul(f, v) }",
            {},
            {"x": normal(1, 3, 60), "unused": np.array([True]), "other": normal(1, 1, 60)},
            17,
        ),
        (
            "(int64[N,T] ids) => (float[N,T,60] y, int64[N,T] best) {"
            " x = Gather(table, ids) h = MatMul(x, w) f = Relu(h) y = MatMul(f, v)"
            " best = ArgMax<axis=2, keepdims=0>(y) }",
            {"table": normal(7, 60)},
            {"ids": np.array([[1, 0, 1]])},
            17,
        ),
        (
            f"(double[N,60] x) => (double[N,60] y) {{ {BODY}",
            {name: values.astype(np.float64) for name, values in DENSE.items()},
            {"x": normal(1, 60, dtype=np.float64)},
            17,
        ),
        (
            f"(float16[N,60] x) => (float16[N,60] y) {{ {BODY}",
            {name: (0.1 * values).astype(np.float16) for name, values in DENSE.items()},
            {"x": normal(1, 60, dtype=np.float16)},
            17,
        ),
    ],
    ids=["fixed_batch", "opset_7", "any_size", "three_inputs", "embedding", "double", "half"],
)
def test_right_files_of_other_kinds_pass(
    text: str,
    arrays: dict[str, np.ndarray],
    feeds: dict[str, np.ndarray],
    opset: int,
    tmp_path: Path,
) -> None:
    needed = arrays if "k" in arrays else DENSE | arrays
    searched = search(model_proto(text, needed, opset=opset), tmp_path, feeds)
    assert not searched.refusals
    verdict = rewritten(searched, rank=4).validated(tmp_path)
    assert len(verdict.checks) == 8
    assert verdict.output_error["y"] > 0.01


def test_external_data(tmp_path: Path) -> None:
    text = f"(float[N,60] x) => (float[N,60] y) {{ {BODY}"
    inline = search(model_proto(text, DENSE), tmp_path, {"x": normal(1, 60)})
    path = tmp_path / "external.onnx"
    onnx.save(inline.model.proto, path, save_as_external_data=True, size_threshold=1000)
    right = rewritten(replace(inline, model=read_model(path)), rank=4)
    assert right.searched.model.has_external_data
    assert len(right.validated(tmp_path).checks) == 8
    proto = ModelProto()
    proto.CopyFrom(right.proto)
    change_initializer(proto, "f/bias", np.zeros_like)
    with pytest.raises(ValidationError, match="f differs from the reference"):
        right.validated(tmp_path, proto)


def test_samples_are_among_the_inputs(network: Rewritten, tmp_path: Path) -> None:
    path = tmp_path / "samples.npz"
    np.savez(path, x=normal(20, 3, 8, 8))
    samples = open_samples(path, network.searched.model.inputs)
    (tmp_path / "out").mkdir()
    verdict = network.validated(tmp_path / "out", samples=samples)
    feeds = {"x": normal(20, 3, 8, 8)[:16]}
    before, after = (run(p, feeds)["y"] for p in (network.searched.model.path, network.proto))
    # The stated error is that on the samples, not on random inputs.
    assert verdict.output_error["y"] == pytest.approx(relative_error(after, before), rel=1e-4)


def test_a_model_that_runs_on_no_random_input(tmp_path: Path) -> None:
    text = (
        "(float[N,30,2] x, int64[1] n) => (float[N,60] y) { s = Reshape(x, n) t = Reshape(s, m)"
        f" {BODY}"
    ).replace("Gemm(x", "Gemm(t")
    arrays = DENSE | {"m": np.array([-1, 60])}
    searched = search(
        model_proto(text, arrays), tmp_path, {"x": normal(1, 30, 2), "n": np.array([60])}
    )
    with pytest.raises(InputError, match="none of the random inputs"):
        rewritten(searched).validated(tmp_path)


def test_relative_errors() -> None:
    exact = np.array([3.0, 4.0])
    assert relative_error(exact + np.array([0.0, 0.5]), exact) == pytest.approx(0.1)
    assert relative_error(exact, np.zeros(2)) == 5
    assert relative_error(exact[:1], exact) == float("inf")
    assert relative_error(np.array([3.0, np.nan]), exact) == float("inf")
    assert relative_error(np.array([3.0, np.inf]), np.array([3.0, np.inf])) == 0
    assert relative_error(np.array([1, 2, 3, 5]), np.array([1, 2, 3, 4])) == 0.25
    assert relative_error(np.array([], np.float32), np.array([], np.float32)) == 0
