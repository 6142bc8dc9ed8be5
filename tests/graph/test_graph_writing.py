"""Files are written beside their place and renamed into it, external data first."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from external_models import VECTORS, contents, external, proto, published, put_outside
from graphs import factors_of, gap, model_proto, normal, run, saved, search
from onnx import ModelProto, TensorProto, numpy_helper

from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.graph.model import (
    Model,
    all_tensors,
    external_location,
    external_tensors,
    read_model,
)
from onnx_relusv.graph.writing import publish, write_staged
from onnx_relusv.rewrites.low_rank.surgery import rewrite
from onnx_relusv.runtime.session import CPU, Session
from onnx_relusv.work.files import Publication, staged


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
        assert [file.name for file in folder.glob("[!.]*")] == ["out.onnx"]
        assert path.read_bytes() == changed.SerializeToString()
        publish(path, tmp_path / "out.onnx", Publication(force=True))
    assert not folder.exists()
    assert read_model(tmp_path / "out.onnx").proto == changed


def test_external_data_is_gathered_in_one_file(tmp_path: Path) -> None:
    model = external(tmp_path)
    exact = run(model.path, VECTORS)["y"]
    with staged(tmp_path / "out.onnx") as folder:
        path = write_staged(rewritten(model, tmp_path), model, folder, "out.onnx")
        written = read_model(path)
        (data,) = {file.name for file in folder.glob("[!.]*")} - {"out.onnx"}
        assert data.startswith("out.onnx.")
        for tensor in external_tensors(written.proto):
            entries = {entry.key: entry.value for entry in tensor.external_data}
            assert entries["location"] == data
            assert int(entries["length"]) == 4 * int(np.prod(tensor.dims))
        # Onnxruntime finds everything by the file's own path; float32 sums of 50 products.
        assert gap(Session(path, CPU).run(VECTORS)["y"], exact) < 1e-5
        publish(path, tmp_path / "out.onnx", Publication(force=True))
    assert gap(Session(tmp_path / "out.onnx", CPU).run(VECTORS)["y"], exact) < 1e-5
    assert (tmp_path / data).is_file()
    onnx.checker.check_model(str(tmp_path / "out.onnx"), full_check=True)


def test_only_large_external_data_begins_on_pages(tmp_path: Path) -> None:
    """Small tensors lie one behind the other, at whole numbers of their items."""
    arrays = {
        "few": np.arange(5, dtype=np.int8),
        "half": normal(7).astype(np.float16),
        "w": normal(7, 5),
        "large": normal(512, 512),
        "b": normal(5),
    }
    text = """(float[N,7] x) => (y, h, f, l) {
        y = Gemm(x, w, b) h = Identity(half) f = Identity(few) l = Identity(large)
    }"""
    path = tmp_path / "model.onnx"
    onnx.save(
        model_proto(text, arrays),
        path,
        save_as_external_data=True,
        location="model.data",
        size_threshold=0,
    )
    model = read_model(path)
    with staged(tmp_path / "out.onnx") as folder:
        written = read_model(write_staged(model.proto, model, folder, "out.onnx"))
        offsets = {}
        for tensor in external_tensors(written.proto):
            offsets[tensor.name] = external_location(tensor).offset
            np.testing.assert_array_equal(written.array(tensor), arrays[tensor.name])
        small = {"few": 0, "half": 6, "w": 20}
        assert offsets == {**small, "large": 4096, "b": 4096 + 4 * 512 * 512}
        vectors = {"x": normal(3, 7)}
        result, exact = Session(written.path, CPU).run(vectors), run(path, vectors)
        assert result.keys() == exact.keys()
        for name, values in result.items():
            np.testing.assert_array_equal(values, exact[name])


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


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    target = tmp_path / "missing" / "out.onnx"
    with pytest.raises(UsageError, match="Choose another output") as caught, staged(target):
        raise AssertionError("not reached")
    assert str(caught.value).startswith(f"{target}: ")
