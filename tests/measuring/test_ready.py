"""A first run of models of many kinds, with samples and without."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import model_proto, normal
from onnx import ModelProto, TensorProto

from onnx_relusv import Budgets, MeasureOptions, PlanOptions, compress, inspect
from onnx_relusv.core.errors import InputError
from onnx_relusv.graph.model import read_model
from onnx_relusv.graph.reference import runnable
from onnx_relusv.measuring.ready import Ready, made_ready
from onnx_relusv.runtime.session import CPU, Session

# A layer behind which only one sample runs: its rows are said to be one.
ONE_ONLY = (
    "(float[n,32] x) => (float[n,10] y) { h = Gemm(x, w) r = Relu(h) s = Reshape(r, shape)"
    " g = Gemm(s, v) t = Relu(g) y = MatMul(t, u) }"
)
RECURRENT = (
    "(float[batch,16] x, float[2,batch,32] state, int64 rate) => (float[batch,8] y) {"
    " h, c = Split<axis=0>(state) l = Gemm(x, w) r = Relu(l) s = Unsqueeze(r, zero)"
    " a, b, d = LSTM<hidden_size=32>(s, m, k, , , h, c) f = Squeeze(b, zero) g = MatMul(f, v)"
    " q = Cast<to=1>(rate) p = Mul(q, none) y = Add(g, p) }"
)


def low(*shape: int) -> np.ndarray:
    """A weight that a double layer of few ranks replaces."""
    rows, columns = shape
    product = normal(rows, 3, seed=1) @ normal(3, columns, seed=2)
    return np.asarray(product / 9 + normal(rows, columns, seed=3, scale=0.01), np.float32)


def one_only() -> ModelProto:
    weights = {"w": low(32, 64), "v": low(64, 64), "u": normal(64, 10), "shape": np.array([1, 64])}
    return model_proto(ONE_ONLY, weights)


def recurrent() -> ModelProto:
    weights = {
        "w": low(16, 64),
        "m": normal(1, 128, 64, scale=0.1),
        "k": normal(1, 128, 32, scale=0.1),
        "v": normal(32, 8),
        "zero": np.array([0]),
        "none": np.float32(0),
    }
    return model_proto(RECURRENT, weights)


def ready(
    proto: ModelProto, folder: Path, samples: Path | None = None, shapes: Sequence[str] = ()
) -> Ready:
    onnx.save(proto, folder / "m.onnx")
    model = read_model(folder / "m.onnx")
    options = MeasureOptions(provider="cpu", input_shape=tuple(shapes))
    return made_ready(model, lambda: Session(runnable(model), CPU), samples, options)


def shapes(found: Ready) -> dict[str, tuple[int, ...]]:
    return {name: values.shape for name, values in found.example.items()}


def archive(folder: Path, **arrays: np.ndarray) -> Path:
    np.savez(folder / "samples.npz", **arrays)
    return folder / "samples.npz"


def test_a_batch_of_one_that_the_file_does_not_tell(tmp_path: Path) -> None:
    found = ready(one_only(), tmp_path)
    assert [spec.shape for spec in found.model.inputs] == [(1, 32)]
    path = archive(tmp_path, x=normal(9, 32))
    found = ready(one_only(), tmp_path, path)
    assert found.samples is not None
    assert found.samples.fixed_batch == 1
    assert [batch.size for batch in found.samples.batches(64)] == [1] * 9
    # One that runs any number is left open.
    proto = one_only()
    proto.graph.initializer[-1].CopyFrom(onnx.numpy_helper.from_array(np.array([-1, 64]), "shape"))
    assert [spec.shape for spec in ready(proto, tmp_path).model.inputs] == [(None, 32)]
    assert [spec.shape for spec in ready(proto, tmp_path, path).model.inputs] == [(None, 32)]


@pytest.mark.parametrize("with_samples", [False, True])
def test_one_sample_at_a_time_is_compressed_as_a_fixed_batch_is(
    with_samples: bool, tmp_path: Path
) -> None:
    files = []
    planning = PlanOptions(budgets=Budgets(size=0.6), method="double-layer")
    samples = archive(tmp_path, x=normal(60, 32)) if with_samples else None
    for batch in (None, 1):
        proto = one_only()
        if batch:
            for value in (*proto.graph.input, *proto.graph.output):
                value.type.tensor_type.shape.dim[0].dim_value = batch
        path, output = tmp_path / f"{batch}.onnx", tmp_path / f"{batch}_small.onnx"
        onnx.save(proto, path)
        done = compress(
            path,
            output,
            samples=samples,
            planning=planning,
            measuring=MeasureOptions(provider="cpu"),
        )
        assert done.after.bytes < 0.6 * done.before.bytes
        files.append([t.raw_data for t in onnx.load(output).graph.initializer])
    assert files[0] == files[1]


def test_a_batch_that_is_a_multiple(tmp_path: Path) -> None:
    text = "(float[n,64] x) => (float[m,8] y) { r = Reshape(x, shape) y = MatMul(r, w) }"
    proto = model_proto(text, {"shape": np.array([-1, 256]), "w": normal(256, 8)})
    found = ready(proto, tmp_path)
    assert [spec.shape for spec in found.model.inputs] == [(4, 64)]
    found = ready(proto, tmp_path, archive(tmp_path, x=normal(6, 64)))
    assert found.samples is not None
    batches = list(found.samples.batches(64))
    assert [(batch.count, batch.size) for batch in batches] == [(4, 4), (2, 4)]


def test_states_and_scalars_beside_samples(tmp_path: Path) -> None:
    found = ready(recurrent(), tmp_path)
    assert shapes(found) == {"x": (1, 16), "state": (2, 1, 32), "rate": ()}
    assert [spec.samples_axis for spec in found.model.inputs] == [0, 1, None]
    inspect(found.model.path, measuring=MeasureOptions(provider="cpu"))
    arrays = {"x": normal(5, 16), "state": normal(5, 2, 32), "rate": np.full(5, 16_000)}
    found = ready(recurrent(), tmp_path, archive(tmp_path, **arrays))
    assert found.samples is not None
    last = list(found.samples.batches(64))[-1]
    assert last.start == 4
    np.testing.assert_array_equal(last.feeds["state"], arrays["state"][4][:, None])


def test_samples_with_states_and_scalars_are_fitted_to(tmp_path: Path) -> None:
    # One runs at a time, and what comes of several is put together.
    onnx.save(recurrent(), tmp_path / "m.onnx")
    arrays = {"x": normal(40, 16), "state": normal(40, 2, 32), "rate": np.full(40, 16_000)}
    done = compress(
        tmp_path / "m.onnx",
        tmp_path / "small.onnx",
        samples=archive(tmp_path, **arrays),
        planning=PlanOptions(budgets=Budgets(size=0.95)),
        measuring=MeasureOptions(provider="cpu"),
    )
    assert done.after.bytes <= 0.95 * done.before.bytes
    assert done.assessment.evaluation.samples == 8


def test_a_state_whose_axis_of_samples_has_no_name(tmp_path: Path) -> None:
    proto = recurrent()
    for value in proto.graph.input:
        for axis in value.type.tensor_type.shape.dim:
            axis.ClearField("dim_param")
    proto.graph.input[1].type.tensor_type.shape.dim[0].dim_value = 2
    found = ready(proto, tmp_path)
    assert shapes(found) == {"x": (1, 16), "state": (2, 1, 32), "rate": ()}


@pytest.mark.parametrize("rank", [None, 2])
def test_an_input_without_a_shape(rank: int | None, tmp_path: Path) -> None:
    text = "(float[n,32] x) => (float[n,10] y) { h = MatMul(x, w) y = Relu(h) }"
    proto = model_proto(text, {"w": low(32, 10)})
    if rank is None:
        proto.graph.input[0].type.tensor_type.ClearField("shape")
    assert shapes(ready(proto, tmp_path)) == {"x": (1, 32)}
    found = ready(proto, tmp_path, archive(tmp_path, x=normal(7, 32)))
    assert found.samples is not None
    assert next(found.samples.batches(64)).size == 7


def test_a_number_of_axes_that_nothing_tells(tmp_path: Path) -> None:
    proto = model_proto("(float[n] x) => (float[n] y) { y = Relu(x) }")
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(InputError, match=r"does not say how many axes its input x has") as caught:
        ready(proto, tmp_path)
    assert "--samples" in str(caught.value)
    assert shapes(ready(proto, tmp_path, shapes=["x=3x4"])) == {"x": (3, 4)}


def test_an_index_into_a_table_of_one_row(tmp_path: Path) -> None:
    text = "(int64[n,t] x) => (float[n,t,5] y) { y = Gather(table, x) }"
    found = ready(model_proto(text, {"table": normal(1, 5)}), tmp_path)
    assert (found.example["x"] == 0).all()


def test_a_number_that_nodes_compare_with(tmp_path: Path) -> None:
    text = (
        "(float[n,k] x, int64 rate) => (float[n,4] y) { is = Equal(rate, wide)"
        " y = If(is) <then_branch = a () => (float[n,4] p) { p = MatMul(x, w) },"
        " else_branch = b () => (float[n,4] q) { q = MatMul(x, other) }> }"
    )
    weights = {"wide": np.array(16_000), "w": normal(8, 4), "other": normal(9, 4)}
    # Of two branches that ask for different lengths, the first is met.
    assert ready(model_proto(text, weights), tmp_path).example["rate"] == 16_000


def test_raw_audio(tmp_path: Path) -> None:
    text = (
        "(float[n,samples] x) => (float[n,8,t] y)"
        " { u = Unsqueeze(x, one) y = Conv<strides=[160]>(u, w) }"
    )
    proto = model_proto(text, {"one": np.array([1]), "w": normal(8, 1, 400)})
    assert shapes(ready(proto, tmp_path))["x"][1] >= 400


@pytest.mark.parametrize(
    "kind", [TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BOOL, TensorProto.STRING]
)
def test_inputs_of_other_types(kind: int, tmp_path: Path) -> None:
    text = "(float[n,20] x) => (float[n,4] y) { c = Cast<to=1>(x) y = MatMul(c, w) }"
    proto = model_proto(text, {"w": normal(20, 4)})
    proto.graph.input[0].type.tensor_type.elem_type = kind
    assert shapes(ready(proto, tmp_path)) == {"x": (1, 20)}


def test_what_runs_on_nothing_says_what_was_tried(tmp_path: Path) -> None:
    text = (
        "(float[n,8] x, float[n,k] z) => (float[n,4] y)"
        " { s = Reshape(x, shape) y = MatMul(s, w) q = Relu(z) }"
    )
    proto = model_proto(text, {"shape": np.array([0, 3]), "w": normal(3, 4)})
    with pytest.raises(InputError) as caught:
        ready(proto, tmp_path)
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / 'm.onnx'}: without samples")
    for part in ("x 1x8, z 1x224", "more", "--samples", "--input-shape x=", "onnxruntime"):
        assert part in said


def test_a_run_that_takes_too_much(tmp_path: Path) -> None:
    proto = model_proto("(float[1,8000000000] x) => (float[1,8000000000] y) { y = Relu(x) }")
    with pytest.raises(InputError, match=r"take 29\.8 GiB for a single run"):
        ready(proto, tmp_path)


def test_samples_that_do_not_run(tmp_path: Path) -> None:
    text = "(float[n,k] x) => (float[n,4] y) { y = MatMul(x, w) }"
    proto = model_proto(text, {"w": normal(9, 4)})
    with pytest.raises(InputError, match=r"does not run on its first sample.*onnxruntime"):
        ready(proto, tmp_path, archive(tmp_path, x=normal(5, 7)))


@pytest.mark.parametrize(
    ("kind", "words"),
    [("sequence_type", "is a sequence"), ("optional_type", "is an optional value")],
)
def test_inputs_that_are_no_tensors(kind: str, words: str, tmp_path: Path) -> None:
    proto = model_proto("(float[n] x) => (float[n] y) { y = Relu(x) }")
    held = proto.graph.input[0].type
    held.ClearField("tensor_type")
    getattr(held, kind).elem_type.tensor_type.elem_type = TensorProto.FLOAT
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(InputError, match=f"input x {words} and no tensor"):
        read_model(tmp_path / "m.onnx")
