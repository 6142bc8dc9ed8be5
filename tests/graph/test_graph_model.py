"""Reading a model: its facts, and what is said of files that cannot be read."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import model_proto, normal, run, saved
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_relusv.core.blocks import InputSpec
from onnx_relusv.core.errors import InputError
from onnx_relusv.graph.model import all_tensors, external_tensors, read_model
from onnx_relusv.graph.protos import Reading
from onnx_relusv.graph.reference import runnable
from onnx_relusv.graph.writing import write_staged
from onnx_relusv.runtime.session import CPU, Session
from onnx_relusv.work.files import staged

TEXT = "(float[N,6] x) => (float[N,5] y) { h = Gemm(x, w, b) y = Relu(h) }"
ARRAYS = {"w": normal(6, 5), "b": normal(5)}


def proto() -> ModelProto:
    return model_proto(TEXT, ARRAYS)


def external(folder: Path, file: str = "weights.bin") -> Path:
    """A model whose weights lie in a file beside it."""
    path = folder / "model.onnx"
    onnx.save(proto(), path, save_as_external_data=True, location=file, size_threshold=0)
    return path


def in_a_cache(folder: Path) -> Path:
    """The same as links into one folder, as download caches keep files."""
    for name in ("blobs", "snapshot"):
        (folder / name).mkdir()
    external(folder / "blobs").rename(folder / "blobs" / "1")
    (folder / "blobs" / "weights.bin").rename(folder / "blobs" / "2")
    (folder / "snapshot" / "model.onnx").symlink_to("../blobs/1")
    (folder / "snapshot" / "weights.bin").symlink_to("../blobs/2")
    return folder / "snapshot" / "model.onnx"


def edited(path: Path, key: str, value: str | None) -> Path:
    """The same with one external data entry of its first tensor changed or taken away."""
    model = onnx.load(path, load_external_data=False)
    entries = model.graph.initializer[0].external_data
    kept = [entry for entry in entries if entry.key != key]
    del entries[:]
    entries.extend(kept)
    if value is not None:
        entries.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path


def test_the_facts_of_a_model(tmp_path: Path) -> None:
    model = saved(proto(), tmp_path)
    content = model.path.read_bytes()
    assert model.sha256 == hashlib.sha256(content).hexdigest()
    assert model.bytes == len(content)
    assert (model.opset, model.output_names, model.has_external_data) == (17, ("y",), False)
    assert model.proto == proto()


def test_external_data_counts(tmp_path: Path) -> None:
    path = external(tmp_path)
    model, data = read_model(path), (tmp_path / "weights.bin").read_bytes()
    assert model.has_external_data
    assert model.bytes == path.stat().st_size + len(data)
    assert model.sha256 == hashlib.sha256(path.read_bytes() + data).hexdigest()
    for tensor in model.proto.graph.initializer:
        assert not tensor.raw_data
        np.testing.assert_array_equal(model.array(tensor), ARRAYS[tensor.name])
    (tmp_path / "weights.bin").write_bytes(bytes(len(data)))
    assert read_model(path).sha256 != model.sha256


def test_inputs_say_what_a_run_has_to_be_fed(tmp_path: Path) -> None:
    model = saved(
        model_proto(
            "(float[N,3,H,8] x, int64[2,5] ids, bool flag, bfloat16[0,4] z, float[6,5] w)"
            " => (y) { y = Identity(x) }",
            ARRAYS,
        ),
        tmp_path,
    )
    assert model.inputs == (
        InputSpec("x", np.dtype(np.float32), (None, 3, None, 8), ("N", None, "H", None)),
        InputSpec("ids", np.dtype(np.int64), (2, 5), (None, None)),
        InputSpec("flag", np.dtype(np.bool_), ()),
        InputSpec(
            "z",
            np.dtype(helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16)),
            (None, 4),
            (None, None),
        ),
    )


def test_tensors_are_found_in_nodes_and_their_bodies(tmp_path: Path) -> None:
    model = model_proto(
        "(float[N,6] x, bool c) => (y) { v = Constant<value = float[2] {1, 2}>()"
        " y = If(c) <then_branch = t () => (a) { a = Constant<value = float {3}>() },"
        " else_branch = e () => (float[1] a) <float[1] a = {4}> { b = Identity(a) }> }",
        ARRAYS,
    )
    assert [list(tensor.dims) for tensor in all_tensors(model.graph)] == [[6, 5], [5], [2], [], [1]]
    assert list(external_tensors(saved(model, tmp_path).proto)) == []


@pytest.mark.parametrize(
    ("text", "opset"),
    [
        ("(float[N,6] x) => (y) { y = Relu(x) }", 7),
        ("(float[N,6] x) => (y) { y = Relu(x) }", 22),
    ],
)
def test_operator_sets_that_are_read(text: str, opset: int, tmp_path: Path) -> None:
    assert saved(model_proto(text, opset=opset), tmp_path).opset == opset


def test_the_default_operator_set_has_a_second_name(tmp_path: Path) -> None:
    model = proto()
    model.opset_import[0].domain = "ai.onnx"
    assert saved(model, tmp_path).opset == 17


def nothing(path: Path) -> None:
    path.unlink(missing_ok=True)


def a_folder(path: Path) -> None:
    path.mkdir()


def truncated(path: Path) -> None:
    path.write_bytes(proto().SerializeToString()[:-20])


def text(path: Path) -> None:
    path.write_text("this is no model\n", encoding="utf-8")


def random_bytes(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(1000))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def an_empty_graph(path: Path) -> None:
    model = proto()
    del model.graph.node[:]
    path.write_bytes(model.SerializeToString())


def opset_6(path: Path) -> None:
    model = proto()
    model.opset_import[0].version = 6
    path.write_bytes(model.SerializeToString())


def no_opset(path: Path) -> None:
    model = proto()
    model.opset_import[0].domain = "mine"
    path.write_bytes(model.SerializeToString())


def a_sequence_input(path: Path) -> None:
    model = proto()
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    model.graph.input.append(sequence)
    path.write_bytes(model.SerializeToString())


def an_input_without_a_type(path: Path) -> None:
    model = proto()
    model.graph.input[0].type.tensor_type.elem_type = 0
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("make", "reason", "advice"),
    [
        (nothing, "there is no such file", "Check the path"),
        (a_folder, "this is a folder", "Give the model file in it"),
        (truncated, "not an ONNX model, or a damaged one", "copied whole"),
        (text, "not an ONNX model, or a damaged one", "copied whole"),
        (random_bytes, "not an ONNX model, or a damaged one", "copied whole"),
        (empty, "the file is empty", "copied whole"),
        (an_empty_graph, "its graph has no nodes", "nothing to compress"),
        (opset_6, "opset 6 is older than 7", "convert it with onnx.version_converter"),
        (no_opset, "it imports no default operator set", "Export"),
        (a_sequence_input, "input s is a sequence and no tensor", "such models are not read"),
        (an_input_without_a_type, "input x has no element type", "Export"),
    ],
)
def test_files_that_cannot_be_read(
    make: Callable[[Path], None], reason: str, advice: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    make(path)
    with pytest.raises(InputError) as caught:
        read_model(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert reason in message
    assert advice in message
    assert caught.value.exit_code == 3


def missing_data(folder: Path) -> Path:
    path = external(folder)
    (folder / "weights.bin").unlink()
    return path


def short_data(folder: Path) -> Path:
    path = external(folder)
    os.truncate(folder / "weights.bin", 100)
    return path


def shifted_data(folder: Path) -> Path:
    return edited(external(folder), "offset", "64")


def data_outside(folder: Path) -> Path:
    (folder / "inner").mkdir()
    (folder / "weights.bin").write_bytes(bytes(1000))
    return edited(external(folder / "inner"), "location", "../weights.bin")


def data_at_an_absolute_place(folder: Path) -> Path:
    return edited(external(folder), "location", str(Path(os.devnull)))


def data_behind_a_link(folder: Path) -> Path:
    (folder / "inner").mkdir()
    path = external(folder / "inner")
    (folder / "inner" / "weights.bin").rename(folder / "weights.bin")
    (folder / "inner" / "weights.bin").symlink_to(folder / "weights.bin")
    return path


def data_behind_links_apart(folder: Path) -> Path:
    """The model's link leads to another folder than that of its data."""
    for name in ("inner", "models", "data"):
        (folder / name).mkdir()
    external(folder / "models").rename(folder / "models" / "m")
    (folder / "models" / "weights.bin").rename(folder / "data" / "w")
    (folder / "inner" / "model.onnx").symlink_to(folder / "models" / "m")
    (folder / "inner" / "weights.bin").symlink_to(folder / "data" / "w")
    return folder / "inner" / "model.onnx"


def data_above_a_link(folder: Path) -> Path:
    """Where it really lies, but not by way of a link beside the model's."""
    path = in_a_cache(folder)
    return edited(path, "location", "../blobs/2")


def data_nowhere(folder: Path) -> Path:
    return edited(external(folder), "location", None)


def data_at_nonsense(folder: Path) -> Path:
    return edited(external(folder), "offset", "first")


def data_before_the_file(folder: Path) -> Path:
    return edited(external(folder), "offset", "-8")


@pytest.mark.parametrize(
    ("make", "reason", "advice"),
    [
        (missing_data, "is missing", "put it beside the model"),
        (short_data, "holds 100 bytes, but tensor w ends at 120", "Copy it again"),
        (shifted_data, "but tensor w ends at 184", "Copy it again"),
        (data_outside, "outside the model's folder", "with its data beside it"),
        (data_at_an_absolute_place, "outside the model's folder", "with its data beside it"),
        (data_behind_a_link, "outside the model's folder", "with its data beside it"),
        (data_behind_links_apart, "outside the model's folder", "with its data beside it"),
        (data_above_a_link, "outside the model's folder", "with its data beside it"),
        (data_nowhere, "does not say where its external data lies", "Export the model again"),
        (data_at_nonsense, "does not say where its external data lies", "Export the model again"),
        (data_before_the_file, "does not say where its external data lies", "Export the model"),
    ],
)
def test_external_data_that_cannot_be_read(
    make: Callable[[Path], Path], reason: str, advice: str, tmp_path: Path
) -> None:
    path = make(tmp_path)
    with pytest.raises(InputError) as caught:
        read_model(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)
    assert advice in str(caught.value)


def test_data_in_a_folder_below_is_read(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path = edited(external(tmp_path), "location", "data/weights.bin")
    (tmp_path / "data" / "weights.bin").write_bytes((tmp_path / "weights.bin").read_bytes())
    tensor = read_model(path).proto.graph.initializer[0]
    np.testing.assert_array_equal(read_model(path).array(tensor), ARRAYS["w"])


def test_links_into_one_folder_are_followed(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    plain, linked = read_model(external(tmp_path / "plain")), read_model(in_a_cache(tmp_path))
    assert (linked.sha256, linked.bytes) == (plain.sha256, plain.bytes)
    assert linked.has_external_data
    for tensor in linked.proto.graph.initializer:
        np.testing.assert_array_equal(linked.array(tensor), ARRAYS[tensor.name])
    feeds = {"x": normal(3, 6)}
    results = [Session(runnable(model), CPU).run(feeds) for model in (plain, linked)]
    np.testing.assert_array_equal(results[0]["y"], results[1]["y"])
    # Written, it is a file of its own with data of its own.
    with staged(tmp_path / "out.onnx") as folder:
        path = write_staged(linked.proto, linked, folder, "out.onnx")
        np.testing.assert_array_equal(run(path, feeds)["y"], results[0]["y"])
        assert not any(file.is_symlink() for file in folder.iterdir())


def test_a_link_to_a_large_file_is_followed(tmp_path: Path) -> None:
    # As if it were large, so that its weights stay in it, where the link leads.
    reading = Reading(large_file=1, large_weight=1)
    (tmp_path / "elsewhere").mkdir()
    onnx.save(proto(), tmp_path / "elsewhere" / "blob")
    (tmp_path / "model.onnx").symlink_to("elsewhere/blob")
    (tmp_path / "link.onnx").symlink_to(tmp_path / "elsewhere" / "blob")
    for name in ("model.onnx", "link.onnx"):
        model = read_model(tmp_path / name, reading)
        assert model.bytes == (tmp_path / "elsewhere" / "blob").stat().st_size
        assert not model.has_external_data
        assert Session(runnable(model), CPU).run({"x": normal(3, 6)})["y"].shape == (3, 5)


@pytest.mark.parametrize("key", ["offset", "length"])
def test_entries_that_may_be_missing(key: str, tmp_path: Path) -> None:
    model = read_model(edited(external(tmp_path), key, None))
    tensor = model.proto.graph.initializer[0]
    np.testing.assert_array_equal(model.array(tensor), ARRAYS["w"])
    assert numpy_helper.to_array(model.loaded(tensor)).shape == (6, 5)
