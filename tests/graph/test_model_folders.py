"""Which model of a folder is meant, and what of a folder is copied beside a smaller one."""

import os
from pathlib import Path

import onnx
import pytest
from graphs import model_proto, normal

from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.graph.model_files import model_file
from onnx_relusv.graph.model_folders import FolderCopy, model_in

TEXT = "(float[N,6] x) => (float[N,5] y) { h = Gemm(x, w) y = Relu(h) }"


def saved(path: Path, data: str | None = None) -> Path:
    """A model, with its data in a file beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    proto = model_proto(TEXT, {"w": normal(6, 5)})
    if data is None:
        onnx.save(proto, path)
    else:
        onnx.save(proto, path, save_as_external_data=True, location=data, size_threshold=0)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As exporters write it."""
    place = tmp_path / "exported"
    saved(place / "model.onnx", "model.onnx_data")
    (place / "config.json").write_text("{}", encoding="utf-8")
    (place / "words" / "of").mkdir(parents=True)
    (place / "words" / "of" / "vocab.txt").write_text("a\nb\n", encoding="utf-8")
    return place


def copy(folder: Path, target: Path | None = None) -> FolderCopy:
    return FolderCopy(folder, model_in(folder), target or folder.parent / "small")


def names(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def test_which_model_is_meant(folder: Path, tmp_path: Path) -> None:
    with model_file("model", folder) as file:
        assert (file.path, file.folder) == (folder / "model.onnx", folder)
        assert file.name == str(folder / "model.onnx")
    with model_file("model", folder / "model.onnx") as file:
        assert file.folder is None
    saved(folder / "decoder.onnx")
    assert model_in(folder) == folder / "model.onnx"
    only = saved(tmp_path / "only" / "net.onnx")
    assert model_in(tmp_path / "only") == only
    saved(tmp_path / "only" / "other.onnx")
    with pytest.raises(InputError, match=r"holds 2 models \(net.onnx, other.onnx\), none of them"):
        model_in(tmp_path / "only")
    saved(tmp_path / "deep" / "onnx" / "model.onnx")
    with pytest.raises(InputError, match=r"no .onnx file in it. There is .*deep/onnx/model.onnx"):
        model_in(tmp_path / "deep")


def test_all_but_the_data_of_the_original_is_copied(folder: Path, tmp_path: Path) -> None:
    copy(folder).fill(tmp_path / "made")
    assert names(tmp_path / "made") == ["config.json", "words/of/vocab.txt"]
    # Another model reads the same data.
    (folder / "decoder.onnx").write_bytes((folder / "model.onnx").read_bytes())
    copy(folder).fill(tmp_path / "more")
    assert names(tmp_path / "more") == [
        "config.json",
        "decoder.onnx",
        "model.onnx_data",
        "words/of/vocab.txt",
    ]


def test_links_to_files_are_followed_and_others_refused(folder: Path, tmp_path: Path) -> None:
    """As a download cache has them."""
    blob = tmp_path / "blob"
    blob.write_text("merges", encoding="utf-8")
    (folder / "merges.txt").symlink_to(blob)
    copy(folder).fill(tmp_path / "made")
    made = tmp_path / "made" / "merges.txt"
    assert not made.is_symlink()
    assert made.read_text(encoding="utf-8") == "merges"
    (folder / "link").symlink_to(folder / "words")
    with pytest.raises(InputError, match="link: is a link to a folder"):
        copy(folder).files()
    (folder / "link").unlink()
    (folder / "gone").symlink_to(folder / "nothing")
    with pytest.raises(InputError, match="gone: cannot be copied"):
        copy(folder).files()
    (folder / "gone").unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(InputError, match="pipe: is a named pipe"):
        copy(folder).files()


def refused(one: FolderCopy, match: str, *, force: bool = False, **others: Path) -> None:
    read = [others.pop("read")] if "read" in others else []
    with pytest.raises(UsageError, match=match):
        one.check({f"--{name}": path for name, path in others.items()}, read, force=force)


def test_where_the_folder_may_be(folder: Path, tmp_path: Path) -> None:
    copy(folder).check({}, [], force=False)
    (tmp_path / "small").mkdir()
    copy(folder).check({}, [], force=False)  # an empty one
    link = tmp_path / "link"
    link.symlink_to(folder)
    for target in (folder, folder / "inside", tmp_path, link, link / "inside"):
        refused(copy(folder, target), "is the folder of the model, or one of the two lies in the")
    (tmp_path / "other").symlink_to(tmp_path / "small")
    refused(copy(folder, tmp_path / "other"), "is a symbolic link, and a folder is written")
    (tmp_path / "file").write_bytes(b"")
    refused(copy(folder, tmp_path / "file"), "is a file, and a folder is written", force=True)
    refused(copy(folder, tmp_path / "a" / "b"), "does not exist; create it first")
    refused(copy(folder, tmp_path / "small.onnx"), "name a folder. Give .*model.onnx for a file")
    small = tmp_path / "small"
    refused(copy(folder), "--json .*: lies in the folder of --output", json=small / "a.json")
    refused(copy(folder), "--report .*: lies in the folder of --output", report=small)
    refused(copy(folder), "x.npz lies in there and is read", read=small / "x.npz")


def test_what_is_replaced(folder: Path, tmp_path: Path) -> None:
    one = copy(folder)
    one.fill(one.target)
    (one.target / "model.onnx").write_bytes(b"")
    (one.target / "model.onnx.0123abcd.data").write_bytes(b"")
    refused(one, "small: exists already; choose another name, or replace it with --force")
    one.check({}, [], force=True)
    (one.target / "words" / "notes.md").write_text("mine", encoding="utf-8")
    refused(one, "small: holds words/notes.md, which is not written there", force=True)
