"""Files are written beside their place and renamed into it, external data first."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import factors_of, gap, model_proto, normal, run, saved, search
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_relusv.errors import InputError, UsageError
from onnx_relusv.graph.model import Model, all_tensors, external_tensors, read_model
from onnx_relusv.graph.surgery import rewrite
from onnx_relusv.graph.writing import publish, staged, write_staged

VECTORS = {"x": normal(3, 40)}
TEXT = (
    "(float[N,40] x) => (float[N,30] y) { h = Gemm(x, w, b) f = Relu(h) g = MatMul(f, v)"
    " e = Relu(g) d = Mul(e, c) y = Add(d, small) }"
)
ARRAYS = {
    "w": normal(40, 50),
    "b": normal(50),
    "v": normal(50, 30),
    "small": normal(30),
}


def proto() -> ModelProto:
    model = model_proto(TEXT, ARRAYS)
    value = numpy_helper.from_array(normal(30, seed=1))
    model.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=value))
    return model


def put_outside(tensor: TensorProto, file: Path, offset: int) -> None:
    """Moves a tensor's data into a file, `offset` bytes from its beginning."""
    with file.open("r+b" if file.exists() else "w+b") as stream:
        stream.seek(offset)
        length = stream.write(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", file.name), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def external(folder: Path) -> Model:
    """A model with data in two files, at odd places, of a Constant's attribute too."""
    model = proto()
    w, b, v, _ = model.graph.initializer
    put_outside(w, folder / "one.bin", 5000)
    put_outside(v, folder / "two.bin", 12)
    put_outside(b, folder / "one.bin", 200)
    put_outside(model.graph.node[0].attribute[0].t, folder / "one.bin", 4)
    return saved(model, folder)


def rewritten(model: Model, folder: Path) -> ModelProto:
    """The first block at full rank; written into a folder of its own to be searched."""
    (folder / "searched").mkdir(exist_ok=True)
    searched = search(proto(), folder / "searched", VECTORS)
    first = searched.blocks[0]
    factors = factors_of(searched, first, "pair", 40)
    return rewrite(model, searched.blocks, {first.key: factors}, "{}")


def test_inline_models_are_written_as_they_are(tmp_path: Path) -> None:
    model = saved(proto(), tmp_path)
    changed = rewritten(model, tmp_path)
    with staged(tmp_path / "out.onnx") as folder:
        assert folder.parent == tmp_path
        path = write_staged(changed, model, folder, "out.onnx")
        assert [file.name for file in folder.iterdir()] == ["out.onnx"]
        assert path.read_bytes() == changed.SerializeToString()
        publish(path, tmp_path / "out.onnx")
    assert not folder.exists()
    assert read_model(tmp_path / "out.onnx").proto == changed


def test_external_data_is_gathered_in_one_file(tmp_path: Path) -> None:
    model = external(tmp_path)
    exact = run(model.path, VECTORS)["y"]
    with staged(tmp_path / "out.onnx") as folder:
        path = write_staged(rewritten(model, tmp_path), model, folder, "out.onnx")
        written = read_model(path)
        (data,) = {file.name for file in folder.iterdir()} - {"out.onnx"}
        assert data.startswith("out.onnx.")
        for tensor in external_tensors(written.proto):
            entries = {entry.key: entry.value for entry in tensor.external_data}
            assert entries["location"] == data
            assert int(entries["offset"]) % 64 == 0
            assert int(entries["length"]) == 4 * int(np.prod(tensor.dims))
        # Onnxruntime finds everything by the file's own path.
        assert gap(run(path, VECTORS)["y"], exact) < 1e-5
        publish(path, tmp_path / "out.onnx")
    assert gap(run(tmp_path / "out.onnx", VECTORS)["y"], exact) < 1e-5
    assert (tmp_path / data).is_file()
    onnx.checker.check_model(str(tmp_path / "out.onnx"), full_check=True)


def test_every_tensor_keeps_its_values_and_its_kind_of_place(tmp_path: Path) -> None:
    model = external(tmp_path)
    with staged(tmp_path / "out.onnx") as folder:
        written = read_model(write_staged(model.proto, model, folder, "out.onnx"))
        pairs = list(
            zip(all_tensors(model.proto.graph), all_tensors(written.proto.graph), strict=True)
        )
        assert len(pairs) == 5
        for before, after in pairs:
            np.testing.assert_array_equal(model.array(before), written.array(after))
            assert after.data_location == before.data_location
            assert after.name == before.name
            if before.data_location == TensorProto.DEFAULT:
                assert after == before


def test_new_initializers_lie_outside_where_the_old_ones_did(tmp_path: Path) -> None:
    model = external(tmp_path)
    with staged(tmp_path / "out.onnx") as folder:
        written = read_model(
            write_staged(rewritten(model, tmp_path), model, folder, "out.onnx")
        ).proto
        places = {
            t.name: t.data_location == TensorProto.EXTERNAL for t in written.graph.initializer
        }
    assert places == {
        "v": True,
        "small": False,
        "f/first_weight": True,
        "f/second_weight": True,
        # Runtimes read small ones, which may be shapes, from the model file.
        "f/bias": False,
    }


def test_the_source_is_not_changed(tmp_path: Path) -> None:
    model = external(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    content = model.proto.SerializeToString(deterministic=True)
    with staged(tmp_path / "out.onnx") as folder:
        write_staged(model.proto, model, folder, "out.onnx")
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert model.proto.SerializeToString(deterministic=True) == content


def test_many_small_tensors_do_not_blow_the_file_up(tmp_path: Path) -> None:
    model = model_proto("(float[N,2] x) => (y) { y = Relu(x) }")
    for number in range(300):
        tensor = numpy_helper.from_array(normal(2, seed=number), f"t{number}")
        put_outside(tensor, tmp_path / "data.bin", 8 * number)
        model.graph.initializer.append(tensor)
    source = saved(model, tmp_path)
    with staged(tmp_path / "out.onnx") as folder:
        written = read_model(write_staged(source.proto, source, folder, "out.onnx"))
        for before, after in zip(
            source.proto.graph.initializer, written.proto.graph.initializer, strict=True
        ):
            np.testing.assert_array_equal(source.array(before), written.array(after))
        assert written.bytes < 2.5 * source.bytes


def test_an_empty_tensor_at_the_end(tmp_path: Path) -> None:
    model = proto()
    put_outside(model.graph.initializer[0], tmp_path / "data.bin", 0)
    none = numpy_helper.from_array(np.zeros((0, 3), np.float32), "none")
    put_outside(none, tmp_path / "data.bin", 8000)
    model.graph.initializer.append(none)
    source = saved(model, tmp_path)
    with staged(tmp_path / "out.onnx") as folder:
        written = read_model(write_staged(source.proto, source, folder, "out.onnx"))
        assert written.array(written.proto.graph.initializer[-1]).shape == (0, 3)


class InterruptionError(Exception):
    pass


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def interrupted(model: Model, target: Path, *, written: bool) -> None:
    with staged(target) as folder:
        if written:
            write_staged(model.proto, model, folder, target.name)
        raise InterruptionError


@pytest.mark.parametrize("written", [False, True])
def test_an_interruption_leaves_nothing_behind(written: bool, tmp_path: Path) -> None:
    model = external(tmp_path)
    target = tmp_path / "out.onnx"
    target.write_bytes(b"somebody's own")
    before = contents(tmp_path)
    with pytest.raises(InterruptionError):
        interrupted(model, target, written=written)
    assert contents(tmp_path) == before
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(before)


def test_data_that_vanishes_while_it_is_copied(tmp_path: Path) -> None:
    model = external(tmp_path)
    (tmp_path / "two.bin").unlink()
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"two\.bin is gone"):
        published(model, tmp_path / "out.onnx")
    assert contents(tmp_path) == before


def test_data_that_shrinks_while_it_is_copied(tmp_path: Path) -> None:
    model = external(tmp_path)
    os.truncate(tmp_path / "two.bin", 100)
    with pytest.raises(InputError, match=r"two\.bin shrank"):
        published(model, tmp_path / "out.onnx")
    assert sorted(contents(tmp_path)) == ["model.onnx", "one.bin", "two.bin"]


@pytest.mark.skipif(os.name != "posix", reason="limits the length of files as POSIX systems can")
@pytest.mark.parametrize("make", ["external", "inline"])
def test_no_room(make: str, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    model = external(tmp_path) if make == "external" else saved(proto(), tmp_path)
    target = tmp_path / "out.onnx"
    target.write_bytes(b"somebody's own")
    before = contents(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(UsageError, match="Make room, or choose another output") as caught:
            published(model, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(caught.value).startswith(f"{target}: cannot be written")
    assert contents(tmp_path) == before


def test_a_target_that_cannot_be_replaced(tmp_path: Path) -> None:
    model = external(tmp_path)
    before = contents(tmp_path)
    (tmp_path / "out.onnx").mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        published(model, tmp_path / "out.onnx")
    assert contents(tmp_path) == before


def published(model: Model, target: Path) -> str | None:
    """Publishes a model as it is; the name of its data file, if any."""
    with staged(target) as folder:
        path = write_staged(model.proto, model, folder, target.name)
        names = {file.name for file in folder.iterdir()} - {target.name}
        publish(path, target)
    return names.pop() if names else None


def test_data_gets_its_name_before_the_model(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    model, target = external(tmp_path), tmp_path / "second" / "out.onnx"
    name = published(model, tmp_path / "first" / "out.onnx")
    target.write_bytes(b"somebody's own")
    (tmp_path / "second" / str(name)).mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        published(model, target)
    assert target.read_bytes() == b"somebody's own"
    assert sorted(file.name for file in target.parent.iterdir()) == sorted([str(name), "out.onnx"])


def test_an_overwritten_file_takes_its_own_data_with_it(tmp_path: Path) -> None:
    target = tmp_path / "out.onnx"
    first = published(external(tmp_path), target)
    other = external(tmp_path)
    other.proto.graph.initializer.pop(2)
    del other.proto.graph.node[3:]
    other.proto.graph.output[0].name = "f"
    second = published(saved(other.proto, tmp_path), target)
    assert first is not None
    assert second not in (None, first)
    assert not (tmp_path / first).exists()
    assert [tensor.name for tensor in read_model(target).proto.graph.initializer][:2] == ["w", "b"]
    # A model without external data leaves none behind either.
    (tmp_path / "inline").mkdir()
    assert published(saved(proto(), tmp_path / "inline"), target) is None
    assert not (tmp_path / str(second)).exists()


def test_the_same_data_again_stays(tmp_path: Path) -> None:
    target = tmp_path / "out.onnx"
    name = published(external(tmp_path), target)
    assert published(external(tmp_path), target) == name
    assert read_model(target).has_external_data


def test_other_data_has_another_name(tmp_path: Path) -> None:
    first = published(external(tmp_path), tmp_path / "out.onnx")
    data = tmp_path / "two.bin"
    data.write_bytes(data.read_bytes()[:-4] + b"\x00\x00\x80\x3f")
    assert published(read_model(tmp_path / "model.onnx"), tmp_path / "out.onnx") != first


def test_a_failure_leaves_the_old_file_its_data(tmp_path: Path) -> None:
    model, target = external(tmp_path), tmp_path / "out.onnx"
    published(model, target)
    before = contents(tmp_path)
    with staged(target) as folder:
        path = write_staged(model.proto, model, folder, "out.onnx")
        path.unlink()
        with pytest.raises(UsageError, match="cannot be written"):
            publish(path, target)
    assert contents(tmp_path) == before


def test_other_peoples_data_is_kept(tmp_path: Path) -> None:
    target = external(tmp_path).path
    (tmp_path / "model.onnx.0123abcd.data").write_bytes(b"nobody reads this")
    (tmp_path / "inline").mkdir()
    published(saved(proto(), tmp_path / "inline"), target)
    assert set(contents(tmp_path)) == {
        "model.onnx",
        "one.bin",
        "two.bin",
        "model.onnx.0123abcd.data",
    }


@pytest.mark.parametrize("content", [b"", b"no model at all", None])
def test_a_target_that_is_no_model_is_replaced(content: bytes | None, tmp_path: Path) -> None:
    target = tmp_path / "out.onnx"
    if content is None:  # a model whose own data has gone
        name = published(external(tmp_path), target)
        (tmp_path / str(name)).unlink()
    else:
        target.write_bytes(content)
    published(saved(proto(), tmp_path), target)
    assert read_model(target).proto == proto()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    target = tmp_path / "missing" / "out.onnx"
    with pytest.raises(UsageError, match="Choose another output") as caught, staged(target):
        raise AssertionError("not reached")
    assert str(caught.value).startswith(f"{target}: ")


def test_a_name_of_any_kind(tmp_path: Path) -> None:
    target = tmp_path / "data"
    name = published(external(tmp_path), target)
    assert str(name).startswith("data.")
    assert gap(run(target, VECTORS)["y"], run(proto(), VECTORS)["y"]) < 1e-6
