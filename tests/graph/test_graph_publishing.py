"""A file gets its name when all of it is there, and takes nothing along that is not its own."""

from pathlib import Path

import pytest
from external_models import VECTORS, contents, external, proto, published
from graphs import gap, run, saved

from onnx_relusv.core.errors import UsageError
from onnx_relusv.graph.model import read_model
from onnx_relusv.graph.writing import publish, write_staged
from onnx_relusv.work.files import Publication, staged


def test_data_gets_its_name_before_the_model(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    model, target = external(tmp_path), tmp_path / "second" / "out.onnx"
    name = published(model, tmp_path / "first" / "out.onnx")
    target.write_bytes(b"somebody's own")
    (tmp_path / "second" / str(name)).mkdir()
    with pytest.raises(UsageError, match="is a folder, which is never replaced"):
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
            publish(path, target, Publication(force=True))
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


def test_a_target_that_cannot_be_replaced(tmp_path: Path) -> None:
    model = external(tmp_path)
    before = contents(tmp_path)
    (tmp_path / "out.onnx").mkdir()
    with pytest.raises(UsageError, match="is a folder, which is never replaced"):
        published(model, tmp_path / "out.onnx")
    assert contents(tmp_path) == before


def test_a_name_of_any_kind(tmp_path: Path) -> None:
    target = tmp_path / "data"
    name = published(external(tmp_path), target)
    assert str(name).startswith("data.")
    assert gap(run(target, VECTORS)["y"], run(proto(), VECTORS)["y"]) < 1e-6


@pytest.mark.parametrize("force", [False, True])
def test_data_that_a_model_left_behind(force: bool, tmp_path: Path) -> None:
    """The same is taken as it is; other data under the name is replaced by force alone."""
    model, target = external(tmp_path), tmp_path / "out.onnx"
    data = tmp_path / str(published(model, target))
    whole = data.read_bytes()
    target.unlink()
    data.write_bytes(whole[:-1] + b"?")
    for content in (whole, whole[:-1] + b"?"):
        data.write_bytes(content)
        with staged(target) as folder:
            path = write_staged(model.proto, model, folder, target.name)
            if content == whole or force:
                publish(path, target, Publication(force=force))
            else:
                with pytest.raises(UsageError, match="is not replaced without --force"):
                    publish(path, target, Publication(force=force))
        assert data.read_bytes() == (whole if force else content)
        assert target.exists() == (content == whole or force)
        target.unlink(missing_ok=True)
