"""The files that samples come in: each is streamed, and whatever is damaged is named."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sample_arrays import (
    BOTH,
    IMAGE,
    IMAGES,
    LABELS,
    TOKENS,
    archive,
    data_sets,
    everything,
    refused,
    spec,
)

from onnx_relusv.core.errors import InputError
from onnx_relusv.samples.samples import open_samples


@pytest.mark.parametrize("compressed", [False, True])
def test_a_member_is_streamed(
    compressed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.arange(200_000, dtype=np.float32).reshape(1000, 200)
    path = archive(tmp_path, compressed=compressed, x=rows)
    samples = open_samples(path, [spec("x", np.float32, None, 200)])
    with np.load(path) as loaded:
        assert np.array_equal(everything(samples, 64)["x"], loaded["x"])
    asked: list[int] = []
    read = zipfile.ZipExtFile.read

    def counted(self: zipfile.ZipExtFile, n: int | None = -1) -> bytes:
        asked.append(-1 if n is None else n)
        return read(self, n)

    monkeypatch.setattr(zipfile.ZipExtFile, "read", counted)
    batch = next(iter(samples.batches(64)))
    assert np.array_equal(batch.feeds["x"], rows[:64])
    # One batch, and no more of the member than that and its header.
    assert max(asked) == rows[:64].nbytes
    assert min(asked) > 0
    assert sum(asked) < rows[:64].nbytes + 1000


def test_an_npy_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "samples.npy"
    np.save(path, IMAGES)
    samples = open_samples(path, [IMAGE])
    assert np.array_equal(everything(samples, 4)["image"], IMAGES)
    assert samples.labels is None
    # Not read before it is asked for: a value changed in the file is the one that is seen.
    with path.open("r+b") as stream:
        stream.seek(-4, io.SEEK_END)
        stream.write(np.float32(7).tobytes())
    assert everything(samples, 4)["image"][-1, -1, -1] == 7


def test_an_npy_in_fortran_order(tmp_path: Path) -> None:
    path = tmp_path / "samples.npy"
    np.save(path, np.asfortranarray(IMAGES))
    assert np.array_equal(everything(open_samples(path, [IMAGE]), 4)["image"], IMAGES)


def test_an_npy_of_a_model_with_two_inputs(tmp_path: Path) -> None:
    path = tmp_path / "samples.npy"
    np.save(path, IMAGES)
    with pytest.raises(InputError, match=r"the model has 2: image, tokens\. Give an \.npz"):
        open_samples(path, BOTH)


def test_a_folder_of_data_sets(tmp_path: Path) -> None:
    pieces = [(IMAGES[:4], TOKENS[:4]), (IMAGES[4:9], TOKENS[4:9]), (IMAGES[9:], TOKENS[9:])]
    samples = open_samples(data_sets(tmp_path / "sets", pieces), BOTH)
    assert samples.count == 10
    assert np.array_equal(everything(samples, 3)["image"], IMAGES)
    assert np.array_equal(everything(samples, 3)["tokens"], TOKENS)


def test_a_folder_without_or_with_odd_sets(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no test_data_set_"):
        open_samples(tmp_path, [IMAGE])
    odd = data_sets(tmp_path / "odd", [(IMAGES,), (IMAGES[:, :2],)])
    with pytest.raises(InputError, match="differ in shape or type"):
        open_samples(odd, [IMAGE])
    one = data_sets(tmp_path / "one", [(IMAGES,)])
    with pytest.raises(InputError, match=r"input_1\.pb"):
        open_samples(one, BOTH)
    (one / "test_data_set_0" / "input_0.pb").write_bytes(b"not a tensor")
    with pytest.raises(InputError, match="cannot be read as samples"):
        open_samples(one, [IMAGE])


def test_what_is_no_samples_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        open_samples(tmp_path / "missing.npz", [IMAGE])
    for name, content in (
        ("a.npz", b""),
        ("b.npz", b"PK\x03\x04 and nothing else"),
        ("c.csv", b"1,2,3"),
        ("d.npy", b""),
        ("e.npy", b"\x93NUMPY\x01\x00"),
        ("f.npy", b"text"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        refused(path, [IMAGE], "cannot be read as samples")


def test_an_archive_named_npy(tmp_path: Path) -> None:
    path = archive(tmp_path, image=IMAGES).rename(tmp_path / "samples.npy")
    refused(path, [IMAGE], "cannot be read as samples")


def test_python_objects_are_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return pytest.fail, ("a pickle was loaded",)

    for array in (np.array([Trap()], object), np.array([{"a": 1}], object)):
        np.savez(tmp_path / "objects.npz", image=array)
        refused(tmp_path / "objects.npz", [IMAGE], "holds Python objects")
        np.save(tmp_path / "objects.npy", array, allow_pickle=True)
        refused(tmp_path / "objects.npy", [IMAGE], "cannot be read as samples")


def test_an_npz_member_in_fortran_order(tmp_path: Path) -> None:
    path = archive(tmp_path, image=np.asfortranarray(IMAGES))
    refused(path, [IMAGE], r"image is in Fortran order; save np\.ascontiguousarray of it")


@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_a_truncated_archive(share: float, tmp_path: Path) -> None:
    path = archive(tmp_path, image=IMAGES)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    refused(path, [IMAGE], "cannot be read as samples")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("member", ["image", "labels"])
def test_a_damaged_member(member: str, compressed: bool, tmp_path: Path) -> None:
    path = archive(tmp_path, compressed=compressed, image=IMAGES, labels=LABELS)
    with zipfile.ZipFile(path) as stored:
        entry = stored.getinfo(f"{member}.npy")
    data = bytearray(path.read_bytes())
    # Behind the entry's own header, name and the array's header, which are read first.
    begin = entry.header_offset + 30 + len(entry.filename)
    for offset in range(begin + entry.compress_size * 9 // 10, begin + entry.compress_size):
        data[offset] ^= 0xFF
    path.write_bytes(data)
    refused(path, [IMAGE], "cannot be read")


def test_a_member_shorter_than_its_header_says(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, IMAGES)
    path = tmp_path / "short.npz"
    with zipfile.ZipFile(path, "w") as stored:
        stored.writestr("image.npy", buffer.getvalue()[:-10])
    refused(path, [IMAGE], "cannot be read")
