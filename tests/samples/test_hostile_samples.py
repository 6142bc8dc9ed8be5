"""Sample files that claim what they do not hold, or are no files: refused in words, at once."""

import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from sample_arrays import refused, spec

from onnx_relusv.core.errors import InputError
from onnx_relusv.samples.files import MOST_SAMPLES
from onnx_relusv.samples.samples import open_samples

X = spec("x", np.float32, None, 32)
VALUES = np.arange(320, dtype=np.float32).reshape(10, 32)


def array(shape: str, descr: str = "'<f4'", *, version: int = 1, values: bytes = b"") -> bytes:
    """An .npy with a header of one's own making."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + (values or VALUES.tobytes())


def members(folder: Path, *found: tuple[str, bytes]) -> Path:
    path = folder / "samples.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in found:
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ("(True, 32)", r"claims the shape \(True, 32\)"),
        ("(-5, 32)", r"claims the shape \(-5, 32\)"),
        ("(10, -32)", r"claims the shape"),
        ("(1000000000000, 32)", r"128000000000000 bytes, but \d{4} are there"),
        ("(10, 9223372036854775807)", "bytes, but"),
        ("(99999999999999999999999999, 32)", "bytes, but"),
        ("(1000000000, 0)", "bytes, but"),
        ("(10.0, 32)", "does not begin as a NumPy array"),
        ("('a', 32)", "does not begin as a NumPy array"),
        ("None", "does not begin as a NumPy array"),
        ("__import__('os')._exit(1)", "does not begin as a NumPy array"),
        ("(" * 4000, "does not begin as a NumPy array"),
        (f"({'-' * 8000}1, 32)", "does not begin as a NumPy array"),
    ],
)
def test_what_no_array_has(shape: str, words: str, tmp_path: Path) -> None:
    refused(members(tmp_path, ("x.npy", array(shape))), [X], words)
    path = tmp_path / "samples.npy"
    path.write_bytes(array(shape))
    refused(path, [X], words)


@pytest.mark.parametrize(
    ("descr", "words"),
    [
        ("'|O'", "holds Python objects, which are never unpacked"),
        ("[('a', '<f4')]", "without loss|has shape"),
        ("'<U4'", "without loss"),
        ("'<M8[s]'", "without loss"),
        ("'garbage'", "does not begin as a NumPy array"),
        ("3", "does not begin as a NumPy array"),
    ],
)
def test_what_no_input_holds(descr: str, words: str, tmp_path: Path) -> None:
    content = array("(10, 32)", descr, values=b"\0" * 8000)
    refused(members(tmp_path, ("x.npy", content)), [X], words)


def test_other_byte_orders_and_versions_are_read(tmp_path: Path) -> None:
    swapped = VALUES.astype(">f4").tobytes()
    for content in (
        array("(10, 32)", "'>f4'", values=swapped),
        array("(10, 32)", version=2),
        array("(10, 32)", version=3),
        # As Python 2 wrote it.
        array("(10L, 32L)"),
    ):
        samples = open_samples(members(tmp_path, ("x.npy", content)), [X])
        assert np.array_equal(next(samples.batches(10)).feeds["x"], VALUES)
    refused(members(tmp_path, ("x.npy", array("(10, 32)", version=4))), [X], r"version 4\.0")


def test_an_archive_whose_directory_lies(tmp_path: Path) -> None:
    """It claims 4 GiB of a member of 40 KiB; as much is neither believed nor made room for."""
    path = members(tmp_path, ("x.npy", array("(33554000, 32)", values=b"\0" * 40_000)))
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", (1 << 32) - 2)
    path.write_bytes(content)
    refused(path, [X], r"claims the shape \(33554000, 32\) of float32, 4294912000 bytes, but")


def test_what_unpacks_to_a_thousand_times_its_size_is_streamed(tmp_path: Path) -> None:
    rows = 100_000
    path = members(tmp_path, ("x.npy", array(f"({rows}, 32)", values=b"\0" * (rows * 128))))
    assert path.stat().st_size < rows
    samples = open_samples(path, [X])
    assert samples.count == rows
    assert next(samples.batches(4)).feeds["x"].shape == (4, 32)


def test_labels_that_are_no_labels_are_not_read(tmp_path: Path) -> None:
    many = array("(3000000,)", "'<i8'", values=b"\0" * 24_000_000)
    path = members(tmp_path, ("x.npy", array("(10, 32)")), ("labels.npy", many))
    refused(path, [X], "numbers of samples differ: x 10, labels 3000000")
    large = array("(10,)", "'<u8'", values=b"\xff" * 80)
    path = members(tmp_path, ("x.npy", array("(10, 32)")), ("labels.npy", large))
    refused(path, [X], "labels go up to 18446744073709551615, which is no number of 64 bits")


def test_more_samples_than_are_counted(tmp_path: Path) -> None:
    count = MOST_SAMPLES + 1
    path = tmp_path / "samples.npy"
    with path.open("wb") as file:
        file.write(array(f"({count}, 1)", "'|i1'", values=b"\0"))
        file.truncate(count + 200)  # a hole, which takes no room
    refused(path, [spec("x", np.float32, None, 1)], f"claims {count} samples; up to")


def test_members_of_one_name(tmp_path: Path) -> None:
    twice = ("x.npy", array("(10, 32)"))
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = members(tmp_path, twice, twice)
    refused(path, [X], "x is in it twice")


@pytest.mark.parametrize("name", ["samples.npz", "samples.npy", "samples"])
def test_a_pipe_is_not_waited_for(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    refused(tmp_path / name, [X], "this is a named pipe, not a file")
    refused(Path("/dev/null"), [X], "this is a device, not a file")


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (TensorProto(dims=[10**12, 32], data_type=1), "holds no tensor, or a damaged one"),
        (TensorProto(dims=[-5, 32], data_type=1), "does not hold the values of its tensor"),
        (TensorProto(dims=[5, 32], data_type=99), "holds no tensor, or a damaged one"),
        (TensorProto(), "holds no tensor, or a damaged one"),
        (
            TensorProto(dims=[5, 32], data_type=1, data_location=1),
            "does not hold the values of its tensor itself",
        ),
    ],
)
def test_sets_without_values(tensor: TensorProto, words: str, tmp_path: Path) -> None:
    folder = tmp_path / "test_data_set_0"
    folder.mkdir()
    (folder / "input_0.pb").write_bytes(tensor.SerializeToString())
    refused(tmp_path, [X], words)


def test_sets_that_are_not_whole(tmp_path: Path) -> None:
    folder = tmp_path / "test_data_set_0"
    folder.mkdir()
    with pytest.raises(InputError, match=r"input_0\.pb: there is no such file"):
        open_samples(tmp_path, [X])
    os.mkfifo(folder / "input_0.pb")
    with pytest.raises(InputError, match=r"input_0\.pb: this is a named pipe"):
        open_samples(tmp_path, [X])
    (folder / "input_0.pb").unlink()
    whole = numpy_helper.from_array(VALUES, "x").SerializeToString()
    (folder / "input_0.pb").write_bytes(whole[:60])
    refused(tmp_path, [X], "holds no tensor, or a damaged one")
    (folder / "input_0.pb").write_bytes(whole)
    assert open_samples(tmp_path, [X]).count == 10
    assert onnx.TensorProto.FromString(whole).dims == [10, 32]
