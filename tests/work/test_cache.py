"""Entries of the cache: what goes in comes out, and nothing that is damaged does."""

import hashlib
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

import onnx_relusv
from onnx_relusv.core.errors import UsageError
from onnx_relusv.work import cache as cache_module
from onnx_relusv.work.cache import NO_CACHE, Cache, code_digest
from onnx_relusv.work.temporary_files import file_in

FIELDS = {"model": "ab", "seed": 3, "ranks": [["pair", [1, 2]]], "nothing": None}
ARRAYS = {
    "numbers": np.arange(12.0).reshape(3, 4) / 7,
    "one": np.asarray(-0.1),
    "flags": np.array([True, False]),
    "names": np.array(["pair", "spatial"]),
    "none": np.zeros((0, 5)),
    "halves": np.arange(5, dtype=np.float16),
}


def same(found: object, wanted: dict[str, np.ndarray]) -> bool:
    """Whether arrays are equal to the last bit, types and shapes included."""
    return (
        isinstance(found, dict)
        and list(found) == list(wanted)
        and all(
            (each.dtype, each.shape, each.tobytes())
            == (wanted[name].dtype, wanted[name].shape, wanted[name].tobytes())
            for name, each in found.items()
        )
    )


def only(folder: Path) -> Path:
    """The one file in a folder."""
    (found,) = folder.iterdir()
    return found


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("things", FIELDS, ARRAYS)
    for found in (cache.get("things", FIELDS), cache.mapped("things", FIELDS)):
        assert same(found, ARRAYS)
        assert found is not None
        assert not any(each.flags.writeable for each in found.values())
        # Whole units in the file, so that nothing has to be copied before it is computed with.
        assert all(each.flags.aligned for each in found.values())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=arrays_of.arrays(
        st.sampled_from([np.float64, np.float32, np.int64, np.uint8, np.bool_]),
        arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9),
    )
)
def test_any_array_does(values: np.ndarray, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for each in (values, values.T):
        cache.put("things", FIELDS, {"it": each})
        assert same(cache.get("things", FIELDS), {"it": each})
        assert same(cache.mapped("things", FIELDS), {"it": each})


def test_every_field_and_the_kind_tell_entries_apart(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("things", FIELDS, ARRAYS)
    for name in FIELDS:
        assert cache.get("things", {**FIELDS, name: "another"}) is None
        assert (
            cache.get("things", {key: each for key, each in FIELDS.items() if key != name}) is None
        )
    assert cache.get("others", FIELDS) is None
    # Their order is no difference.
    assert same(cache.get("things", dict(reversed(FIELDS.items()))), ARRAYS)


def test_without_a_folder_nothing_is_kept() -> None:
    NO_CACHE.put("things", FIELDS, ARRAYS)
    assert NO_CACHE.get("things", FIELDS) is None
    assert NO_CACHE.mapped("things", FIELDS) is None


def test_a_flipped_byte_anywhere_is_noticed(tmp_path: Path) -> None:
    Cache(tmp_path).put("things", FIELDS, ARRAYS)
    path = only(tmp_path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        assert Cache(tmp_path).get("things", FIELDS) is None
        assert Cache(tmp_path).mapped("things", FIELDS) is None
    path.write_bytes(whole)
    assert same(Cache(tmp_path).get("things", FIELDS), ARRAYS)


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 64, 500, -33, -1])
def test_a_shorter_file_is_noticed(length: int, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("things", FIELDS, ARRAYS)
    path = only(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    assert cache.get("things", FIELDS) is None
    assert cache.mapped("things", FIELDS) is None


def test_an_entry_under_another_s_name_is_noticed(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("things", FIELDS, ARRAYS)
    first = only(tmp_path)
    cache.put("things", {**FIELDS, "seed": 4}, ARRAYS)
    (second,) = set(tmp_path.iterdir()) - {first}
    second.write_bytes(first.read_bytes())
    assert cache.get("things", {**FIELDS, "seed": 4}) is None
    assert same(cache.get("things", FIELDS), ARRAYS)


@pytest.mark.parametrize(
    "header", [b"no JSON\n", b"[]\n", b"{}\n", b"", b'{"format":1,"kind":"things","arrays":3}\n']
)
def test_a_foreign_file_with_a_right_checksum_is_noticed(header: bytes, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("things", FIELDS, ARRAYS)
    content = header.ljust(64)
    only(tmp_path).write_bytes(content + hashlib.sha256(content).digest())
    assert cache.get("things", FIELDS) is None
    assert cache.mapped("things", FIELDS) is None


def test_a_folder_in_an_entry_s_place_is_no_entry(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("things", FIELDS, ARRAYS)
    path = only(tmp_path)
    path.unlink()
    path.mkdir()
    assert cache.get("things", FIELDS) is None
    assert cache.mapped("things", FIELDS) is None
    # What is in it is nobody's to remove.
    (path / "precious").touch()
    cache.put("things", FIELDS, ARRAYS)
    assert same(cache.get("things", FIELDS), ARRAYS)
    assert [each.name for each in tmp_path.rglob("precious")] == ["precious"]


@pytest.mark.skipif(os.name != "posix", reason="makes links and pipes")
@pytest.mark.parametrize("what", ["a link", "a dangling link", "a pipe"])
def test_no_file_is_no_entry(what: str, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    cache.put("things", FIELDS, ARRAYS)
    path = only(tmp_path / "cache")
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    before = elsewhere.read_bytes()
    if what == "a pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(elsewhere if what == "a link" else tmp_path / "missing")
    assert cache.get("things", FIELDS) is None
    cache.put("things", FIELDS, {"it": np.arange(3)})
    assert same(cache.get("things", FIELDS), {"it": np.arange(3)})
    assert not path.is_symlink()
    assert elsewhere.read_bytes() == before


def forged(whole: bytes, old: bytes, new: bytes) -> bytes:
    """An entry whose header says something else, as long as before, under a right checksum."""
    header, content = whole[: whole.index(b"\n") + 1], whole[whole.index(b"\n") + 1 : -32]
    assert header.count(old) >= 1
    changed = header.replace(old, new, 1).rstrip().ljust(len(header) - 1) + b"\n"
    changed += content
    return changed + hashlib.sha256(changed).digest()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # Its first array, (3, 4) of float64, lies at 0 and is 96 bytes long; the next one at 128.
        (b'"offset":0', b'"offset":-64'),
        (b'"offset":128', b'"offset":0'),
        (b'"offset":128', b'"offset":64'),
        (b'"offset":128', b'"offset":1e9'),
        (b'"offset":128', b'"offset":true'),
        (b'"shape":[3,4]', b'"shape":[4,3]'),
        (b'"shape":[3,4]', b'"shape":[3,4000000000000000000]'),
        (b'"shape":[3,4]', b'"shape":[-3,-4]'),
        (b'"shape":[3,4]', b'"shape":[0,1000000000000000000000]'),
        (b'"shape":[3,4]', b'"shape":[3.0,4]'),
        (b'"shape":[3,4]', b'"shape":[true,12]'),
        (b'"shape":[3,4]', b'"shape":"34"'),
        (b'"dtype":"<f8"', b'"dtype":"|O8"'),
        (b'"dtype":"<f8"', b'"dtype":"|V8"'),
        (b'"dtype":"<f8"', b'"dtype":[["a","<f8"]]'),
        (b'"dtype":"<f8"', b'"dtype":"nonsense"'),
        (b'"dtype":"<f8"', b'"dtype":"<U0"'),
        (b'"name":"one"', b'"name":"numbers"'),
        (b'"name":"one"', b'"name":1'),
        (b'"arrays":[', b'"arrays":[],"arrays":['),
        (b'"arrays":[', b'"arrays":[' + b"[" * 2000),
        (b'"format":1', b'"format":1,"format":1'),
    ],
)
def test_a_forged_header_is_noticed(old: bytes, new: bytes, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("things", FIELDS, ARRAYS)
    path = only(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(forged(whole, b'"offset":0', b'"offset":0'))
    # The forger knows how to make one that is read; (3, 4) and (4, 3) are as good as each other.
    assert same(Cache(tmp_path).get("things", FIELDS), ARRAYS)
    path.write_bytes(forged(whole, old, new))
    found = Cache(tmp_path).mapped("things", FIELDS)
    if new == b'"shape":[4,3]':
        assert found is not None
        assert found["numbers"].shape == (4, 3)
    else:
        assert found is None


@pytest.mark.parametrize("size", [1 << 20, 1 << 24])
def test_a_header_without_an_end_is_not_read_to_its_end(size: int, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("things", FIELDS, ARRAYS)
    content = b"[" * size + b"\n"
    only(tmp_path).write_bytes(content + hashlib.sha256(content).digest())
    assert cache.get("things", FIELDS) is None


def test_what_was_verified_is_verified_again_once_it_has_changed(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("things", FIELDS, ARRAYS)
    assert same(cache.mapped("things", FIELDS), ARRAYS)
    damaged = bytearray(only(tmp_path).read_bytes())
    damaged[-40] ^= 1
    only(tmp_path).write_bytes(damaged)
    os.utime(only(tmp_path), ns=(1, 1))  # whatever the clock's resolution
    assert cache.mapped("things", FIELDS) is None


def test_what_is_mapped_outlives_its_file(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("things", FIELDS, ARRAYS)
    found = cache.mapped("things", FIELDS)
    only(tmp_path).unlink()
    assert same(found, ARRAYS)


def test_objects_are_neither_kept_nor_read(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="objects cannot be kept"):
        Cache(tmp_path).put("things", FIELDS, {"it": np.array([object()])})
    assert list(tmp_path.iterdir()) == []


def test_the_first_line_says_what_an_entry_is_of(tmp_path: Path) -> None:
    Cache(tmp_path).put("things", FIELDS, ARRAYS)
    header = json.loads(only(tmp_path).read_bytes().split(b"\n")[0])
    assert (header["kind"], header["key"]) == ("things", FIELDS)


def test_writers_and_readers_at_the_same_time(tmp_path: Path) -> None:
    wrong: list[object] = []
    values = {"it": np.arange(50_000.0)}
    Cache(tmp_path).put("things", FIELDS, values)

    def work() -> None:
        cache = Cache(tmp_path)
        for _ in range(20):
            cache.put("things", FIELDS, values)
            for found in (cache.get("things", FIELDS), cache.mapped("things", FIELDS)):
                if not same(found, values):
                    wrong.append(found)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_is_made_with_all_above_it(tmp_path: Path) -> None:
    Cache(tmp_path / "a" / "b").put("things", FIELDS, ARRAYS)
    assert same(Cache(tmp_path / "a" / "b").get("things", FIELDS), ARRAYS)


@pytest.mark.parametrize("inside", [False, True])
def test_a_file_is_no_folder(inside: bool, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"--cache .*file.*Name another one"):
        Cache(tmp_path / "file" / "in it" if inside else tmp_path / "file")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a read-only folder")
def test_a_folder_that_cannot_be_written() -> None:
    with pytest.raises(UsageError, match="--cache /proc/self: is no folder that can be"):
        Cache(Path("/proc/self"))


def test_no_room_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path)

    def full(file: object, header: object, arrays: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module, "_write", full)
    with pytest.raises(UsageError, match=r"No space left on device.*Make room there"):
        cache.put("things", FIELDS, ARRAYS)
    assert list(tmp_path.iterdir()) == []


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    dead, other = tmp_path / f".onnx-relusv-{'0' * 32}.tmp", tmp_path / ".onnx-relusv-mine.tmp"
    for path in (dead, other):
        path.touch()
    with file_in(tmp_path) as (_, held):
        Cache(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted([held, other])
    assert list(tmp_path.iterdir()) == [other]


def test_the_digest_is_of_the_whole_package() -> None:
    assert code_digest() == code_digest(Path(onnx_relusv.__file__).parent)


def test_any_change_of_the_code_changes_its_digest(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    first, second = tmp_path / "a.py", tmp_path / "sub" / "b.py"
    first.write_text("x = 1\n", encoding="utf-8")
    second.write_text("", encoding="utf-8")

    def digest() -> str:
        code_digest.cache_clear()
        return code_digest(tmp_path)

    seen = [digest()]
    assert digest() == seen[0]
    first.write_text("x = 2\n", encoding="utf-8")
    seen.append(digest())
    second.rename(tmp_path / "b.py")
    seen.append(digest())
    (tmp_path / "notes.txt").write_text("no code", encoding="utf-8")
    assert digest() == seen[-1]
    assert len(set(seen)) == 3
    code_digest.cache_clear()
