"""Files that protobuf reads, or nearly so, and that are no models that could be worked with."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import model_proto, normal
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_relusv.core.errors import InputError
from onnx_relusv.graph.checks import file_problem, tensor_problems
from onnx_relusv.graph.model import read_model

TEXT = "(float[N,6] x) => (float[N,4] y) { g = Gemm(x, w, b) y = Relu(g) }"


def proto() -> ModelProto:
    return model_proto(TEXT, {"w": normal(6, 4), "b": normal(4)})


def refused(path: Path, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read_model(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(b"model", mtime=0), "compressed with gzip; unpack it"),
        (b"PK\x03\x04" + b"\xff" * 40, "ZIP archive, as PyTorch saves models"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html>", "a web page"),
        (b'{"irVersion": 8}', "it is JSON"),
        (b"ir_version: 8\n", "ONNX's text format"),
        (b"\x80\x04\x95", "Python pickle, which is never opened"),
        (b"\x1c\0\0\0TFL3\xff", "TensorFlow Lite"),
        (b"\xff" * 100, "not an ONNX model, or a damaged one"),
        (proto().SerializeToString()[:-40], "not an ONNX model, or a damaged one"),
    ],
)
def test_files_of_other_kinds(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    refused(path, words)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    refused(tmp_path / "pipe.onnx", "this is a named pipe, not a file")
    refused(Path("/dev/zero"), "this is a device, not a file")


def first(model: ModelProto) -> TensorProto:
    return model.graph.initializer[0]


NEWEST = onnx.defs.onnx_opset_version()
EDITS: dict[str, tuple[Callable[[ModelProto], object], str]] = {
    "opset": (
        lambda m: setattr(m.opset_import[0], "version", 99),
        f"opset 99 is newer than {NEWEST}, the newest that the installed onnx",
    ),
    "ir": (lambda m: setattr(m, "ir_version", 99), "IR version 99 is none of 1 to"),
    "no ir": (lambda m: m.ClearField("ir_version"), "IR version 0 is none of 1 to"),
    "type": (lambda m: setattr(first(m), "data_type", 99), "tensor w has the element type 99"),
    "dims": (
        lambda m: (first(m).ClearField("dims"), first(m).dims.extend([-6, -4])),
        r"tensor w has the shape \(-6, -4\)",
    ),
    "huge": (
        lambda m: (first(m).ClearField("dims"), first(m).dims.extend([2**62])),
        "takes 18446744073709551616 bytes, but 96 are there",
    ),
    "short": (lambda m: setattr(first(m), "raw_data", b"abc"), "takes 96 bytes, but 3 are there"),
    "none": (lambda m: first(m).ClearField("raw_data"), "takes 24 entries, but 0 are there"),
    "unnamed": (lambda m: first(m).ClearField("name"), "an initializer has no name"),
    "inputs": (
        lambda m: m.graph.node[0].ClearField("input"),
        "the node Gemm g has 0 inputs, but Gemm takes 2 to 3",
    ),
    "outputs": (
        lambda m: m.graph.node[1].ClearField("output"),
        "the node Relu has 0 outputs, but Relu takes 1 to 1",
    ),
    "ghost": (lambda m: m.graph.node[1].input.append("x"), "has 2 inputs, but Relu takes 1"),
    "reads": (
        lambda m: m.graph.node[0].input.__setitem__(0, "ghost"),
        "the node Gemm reads ghost, which nothing makes",
    ),
    "output": (lambda m: setattr(m.graph.output[0], "name", "z"), "output z is made by nothing"),
    "input type": (
        lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 77),
        "input x has the element type 77, which is none",
    ),
    "batch": (
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 2**50),
        "input x has 6755399441055744 values",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_what_is_wrong_in_a_model(name: str, tmp_path: Path) -> None:
    edit, words = EDITS[name]
    model = proto()
    assert file_problem(model) is None
    edit(model)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    refused(tmp_path / "model.onnx", words)


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    model = proto()
    model.graph.node[0].output[0] = model.graph.node[1].input[0] = "qqqq"
    content = model.SerializeToString()
    assert content.count(b"qqqq") == 2
    (tmp_path / "model.onnx").write_bytes(content.replace(b"qqqq", b"\xff\xfeqq"))
    refused(tmp_path / "model.onnx", "a name in it is no text")


@pytest.mark.parametrize("kind", sorted(set(TensorProto.DataType.values()) - {0}))
def test_tensors_of_every_type_are_sound_as_onnx_makes_them(kind: int) -> None:
    """Also of those whose values share a byte, raw or not."""
    try:
        helper.tensor_dtype_to_np_dtype(kind)
    except KeyError:
        pytest.skip("onnx has no numpy type for it")
    values = ["a", "b", "c"] if kind == TensorProto.STRING else [1, 0, 1]
    listed = helper.make_tensor("t", kind, [3], values)
    assert list(tensor_problems(listed, "t")) == []
    if kind != TensorProto.STRING:
        raw = numpy_helper.from_array(numpy_helper.to_array(listed))
        assert list(tensor_problems(raw, "t")) == []


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"location": "a\0b"}, "a file named 'a.x00b', which none is"),
        ({"location": ""}, "a file named '', which none is"),
        ({"location": "a" * 5000}, "cannot be read .File name too long"),
        ({"location": "folder"}, "this is a folder"),
        ({"location": "pipe"}, "this is a named pipe"),
        ({"location": "missing"}, "is missing; put it beside the model"),
        ({"location": "/etc/passwd"}, "outside the model's folder"),
        ({"location": "../data"}, "outside the model's folder"),
        ({"location": "data", "offset": "-1"}, "does not say where"),
        ({"location": "data", "offset": " 0"}, "does not say where"),
        ({"location": "data", "offset": "1_0"}, "does not say where"),
        ({"location": "data", "offset": "10"}, "holds 96 bytes, but tensor w ends at 106"),
        ({"location": "data", "length": "95"}, "'95' bytes long, but its shape and type take 96"),
        ({"location": "data", "length": "abc"}, "'abc' bytes long"),
        ({"offset": "0"}, "does not say where"),
    ],
)
def test_where_external_data_cannot_lie(
    entries: dict[str, str], words: str, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "folder").mkdir()
    os.mkfifo(home / "pipe")
    for folder in (home, tmp_path):
        (folder / "data").write_bytes(normal(6, 4).tobytes())

    def write(stated: dict[str, str]) -> Path:
        model = proto()
        first(model).ClearField("raw_data")
        first(model).data_location = TensorProto.EXTERNAL
        for key, value in stated.items():
            first(model).external_data.add(key=key, value=value)
        (home / "model.onnx").write_bytes(model.SerializeToString())
        return home / "model.onnx"

    read = read_model(write({"location": "data", "offset": "0", "length": "96"}))
    assert np.array_equal(read.array(first(read.proto)), normal(6, 4))
    refused(write(entries), words)
