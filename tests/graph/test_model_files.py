"""A ModelProto as a file: the same bytes, gone afterwards, and what cannot be one."""

from pathlib import Path

import onnx
import pytest
from graphs import model_proto, normal

from onnx_relusv.core.errors import InputError
from onnx_relusv.graph.model import read_model
from onnx_relusv.graph.model_files import as_model, model_file, result_file

TEXT = "(float[N,6] x) => (float[N,5] y) { h = Gemm(x, w) y = Relu(h) }"


@pytest.fixture
def proto() -> onnx.ModelProto:
    return model_proto(TEXT, {"w": normal(6, 5)})


def test_it_is_read_as_the_file_that_onnx_writes(proto: onnx.ModelProto, tmp_path: Path) -> None:
    onnx.save(proto, tmp_path / "model.onnx")
    content = proto.SerializeToString()
    with model_file("model", proto) as given:
        found = read_model(given.path, name=given.name)
        assert given.path.read_bytes() == (tmp_path / "model.onnx").read_bytes()
    assert not given.path.parent.exists()
    assert found.sha256 == read_model(tmp_path / "model.onnx").sha256
    assert (found.name, found.bytes) == ("model", len(content))
    # What was given is not changed.
    assert proto.SerializeToString() == content


def test_a_path_stays_what_it_is(tmp_path: Path) -> None:
    with model_file("model", tmp_path / "model.onnx") as given:
        assert (given.path, given.name) == (tmp_path / "model.onnx", f"{tmp_path}/model.onnx")


def test_data_that_lies_relative_to_no_path(proto: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    bare = onnx.load(path, load_external_data=False)
    with (
        pytest.raises(InputError, match=r"^model: tensor w .* named 'w\.bin'.*onnx\.load\(path\)"),
        model_file("model", bare),
    ):
        pass
    with model_file("model", onnx.load(path)) as given:
        assert not read_model(given.path).has_external_data


def test_more_than_a_message_holds(proto: onnx.ModelProto) -> None:
    size = proto.ByteSize()
    with model_file("model", proto, most_bytes=size):
        pass
    with (
        pytest.raises(InputError, match=r"^model: takes more than 2 GiB.*save_as_external_data"),
        model_file("model", proto, most_bytes=size - 1),
    ):
        pass


def test_messages_call_it_by_the_argument(proto: onnx.ModelProto) -> None:
    del proto.graph.node[:]
    with (
        model_file("before", proto) as given,
        pytest.raises(InputError, match=r"^before: its graph has no nodes"),
    ):
        read_model(given.path, name=given.name)
    with pytest.raises(TypeError, match=r"^after is bytes: give a path, .* or an onnx\.ModelProto"):
        as_model("after", proto.SerializeToString())


def test_a_result_without_an_output_is_gone_afterwards(tmp_path: Path) -> None:
    with result_file(None) as place:
        place.write_bytes(b"model")
    assert not place.parent.exists()
    with result_file(tmp_path / "small.onnx") as place:
        assert place == tmp_path / "small.onnx"
