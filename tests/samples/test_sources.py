"""What samples may be given as from Python, against files that hold the same arrays."""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime.quantization import CalibrationDataReader
from sample_arrays import BOTH, IMAGE, IMAGES, LABELS, TOKENS, archive, data_sets, everything, spec

from onnx_relusv.core.blocks import InputSpec
from onnx_relusv.core.errors import InputError
from onnx_relusv.samples.samples import Samples, open_samples, ranked
from onnx_relusv.samples.sources import as_source

ARRAYS = {"image": IMAGES, "tokens": TOKENS, "labels": LABELS, "groups": LABELS}


def opened(value: object, inputs: Sequence[InputSpec] = BOTH) -> Samples:
    return open_samples(as_source("samples", value), inputs)


def refused(value: object, match: str, inputs: Sequence[InputSpec] = BOTH) -> None:
    with pytest.raises(InputError, match=f"^samples.*{match}"):
        opened(value, inputs)


def pieces(arrays: Mapping[str, np.ndarray], *sizes: int) -> Iterator[dict[str, np.ndarray]]:
    """Feeds of so many samples, one after the other."""
    start = 0
    for size in sizes:
        yield {name: array[start : start + size] for name, array in arrays.items()}
        start += size


def test_the_same_samples_have_the_same_hash_whatever_they_lie_in(tmp_path: Path) -> None:
    arrays = {"image": IMAGES, "tokens": TOKENS}
    sets = data_sets(tmp_path / "sets", [(IMAGES[:3], TOKENS[:3]), (IMAGES[3:], TOKENS[3:])])
    same: list[object] = [
        archive(tmp_path, **arrays),
        sets,
        arrays,
        {"tokens": TOKENS, "image": np.asfortranarray(IMAGES)},
        pieces(arrays, 4, 4, 2),
        list(pieces(arrays, 10)),
    ]
    found = [opened(value) for value in same]
    assert len({samples.sha256 for samples in found}) == 1
    (tmp_path / "more").mkdir()
    compressed = archive(tmp_path / "more", compressed=True, **arrays)
    assert opened(compressed).sha256 == found[0].sha256
    for samples in found:
        for name, values in everything(samples, 3).items():
            np.testing.assert_array_equal(values, arrays[name])
    # Anything else has another one: a value, a type, a name, what stands beside the inputs.
    other = IMAGES.copy()
    other[7, 2, 3] = np.nextafter(other[7, 2, 3], 9)
    for changed in (
        {"image": other, "tokens": TOKENS},
        {"image": IMAGES.astype(np.float64), "tokens": TOKENS},
        {"image": IMAGES, "tokens": TOKENS.astype(np.int32)},
        {**arrays, "labels": LABELS},
    ):
        assert opened(changed).sha256 != found[0].sha256


def test_text_is_told_apart_by_its_entries() -> None:
    words = spec("words", object, None, 2)
    hashes = {
        opened({"words": np.array([texts], dtype)}, [words]).sha256
        for texts in (["ab", "c"], ["a", "bc"], ["1 a", ""], ["", "1 a"])
        for dtype in (object, "U9")
    }
    assert len(hashes) == 4


def test_arrays_are_read_where_they_are() -> None:
    images = IMAGES.copy()
    samples = opened({"image": images, "tokens": TOKENS})
    images[9] = 7
    assert (everything(samples, 4)["image"][9] == 7).all()
    batch = next(iter(samples.batches(4)))
    assert np.shares_memory(batch.feeds["image"], images)
    assert not batch.feeds["image"].flags.writeable
    # The caller's own array stays as it was.
    assert images.flags.writeable


def test_an_array_of_a_model_with_one_input(tmp_path: Path) -> None:
    samples = opened(IMAGES, [IMAGE])
    assert np.array_equal(everything(samples, 4)["image"], IMAGES)
    np.save(tmp_path / "samples.npy", IMAGES)
    assert samples.sha256 == opened(tmp_path / "samples.npy", [IMAGE]).sha256
    refused(IMAGES, "the model has 2: image, tokens. Give a dict with these keys")
    refused(np.float32(3), r"shape \(\), but the model takes \(samples, 3, 4\)", [IMAGE])
    number = spec("x", ml_dtypes.bfloat16, None, 2)
    halves = np.ones((3, 2), ml_dtypes.bfloat16)
    assert everything(opened(halves, [number]), 2)["x"].dtype == halves.dtype


def test_labels_and_groups_as_in_an_archive(tmp_path: Path) -> None:
    wanted = opened(archive(tmp_path, **ARRAYS))
    for value in (ARRAYS, pieces(ARRAYS, 1, 9)):
        found = opened(value)
        np.testing.assert_array_equal(found.labels, wanted.labels)
        np.testing.assert_array_equal(found.groups, wanted.groups)
        assert found.sha256 == wanted.sha256
    refused({**ARRAYS, "labels": LABELS[:4]}, "numbers of samples differ")
    refused({**ARRAYS, "labels": LABELS / 2}, "labels are float64")
    refused({**ARRAYS, "label": LABELS}, "the model's inputs are image, tokens")


class OwnReader(CalibrationDataReader):  # type: ignore[misc]
    """As those that models are quantized with."""

    def __init__(self, feeds: Iterator[dict[str, np.ndarray]]) -> None:
        self._feeds = feeds

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def test_a_reader_of_onnxruntime_s() -> None:
    arrays = {"image": IMAGES, "tokens": TOKENS}
    samples = opened(OwnReader(pieces(arrays, *[1] * 10)))
    assert samples.sha256 == opened(arrays).sha256
    refused(OwnReader(iter(())), "gives no feeds; at least one is needed")


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(0, 2), st.integers(1, 7))
def test_feeds_of_any_lengths_along_any_axis(sizes: list[int], axis: int, batch: int) -> None:
    total = sum(sizes)
    values = np.arange(total * 6.0).reshape(total, 2, 3).astype(np.float32)
    moved = np.moveaxis(values, 0, axis)
    shape = [None if place == axis else moved.shape[place] for place in range(3)]
    state = replace(spec("state", np.float32, *shape), samples_axis=axis)
    ends = np.cumsum(sizes)[:-1]
    feeds = [{"state": piece} for piece in np.split(moved, ends, axis)]
    samples = opened(iter(feeds), [state])
    assert samples.count == total
    found = [samples.rows(one)["state"] for one in samples.batches(batch)]
    np.testing.assert_array_equal(np.concatenate(found), values)
    assert samples.sha256 == opened({"state": values}, [state]).sha256


def test_feeds_without_an_axis_of_samples() -> None:
    rate = replace(spec("rate", np.int64), samples_axis=None)
    feeds = ({"rate": np.int64(number), "labels": number} for number in range(5))
    samples = opened(feeds, [rate])
    assert [int(batch.feeds["rate"]) for batch in samples.batches(1)] == [0, 1, 2, 3, 4]
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1, 2, 3, 4]


def test_feeds_of_text() -> None:
    words = spec("words", object, None)
    samples = opened(iter([{"words": np.array(["a", "bcd"])}, {"words": ["ef"]}]), [words])
    assert everything(samples, 2)["words"].tolist() == ["a", "bcd", "ef"]
    refused(iter([{"words": np.array([b"x", {}], object)}]), "holds Python objects", [words])


def test_feeds_are_gone_through_once() -> None:
    begun = []

    def feeds() -> Iterator[dict[str, np.ndarray]]:
        begun.append(1)
        yield {"image": IMAGES}

    source = as_source("samples", feeds())
    open_input = replace(IMAGE, shape=(), has_rank=False)
    assert len(ranked(source, [open_input])[0].shape) == 3
    samples = open_samples(source, [IMAGE])
    for _ in range(2):
        assert np.array_equal(everything(samples, 4)["image"], IMAGES)
    assert begun == [1]


FIRST = {"image": IMAGES[:2], "tokens": TOKENS[:2]}


@pytest.mark.parametrize(
    ("feeds", "match"),
    [
        ([], "gives no feeds"),
        ([{}], "feed 0 holds nothing, but the model's inputs are"),
        ([{"image": IMAGES}], "feed 0 holds image, but the model's inputs are"),
        ([{**FIRST, "x": 1}], "feed 0 holds image, tokens, x, but"),
        ([FIRST, {"image": IMAGES}], "feed 1 holds image, and feed 0 image, tokens"),
        ([FIRST, (IMAGES, TOKENS)], "feed 1 is tuple; let each be a dict of arrays"),
        ([FIRST, {**FIRST, "image": IMAGES.astype(float)}], "feed 1: image is float64, and float3"),
        ([FIRST, {**FIRST, "image": IMAGES[0]}], "feed 1: image has 2 axes, and 3 in feed 0"),
        (
            [FIRST, FIRST, {**FIRST, "image": IMAGES[:2, :2]}],
            r"feed 2: image has the shape \(2, 2, 4\), where that of feed 0 is \(2, 3, 4\)",
        ),
        (
            [{**FIRST, "tokens": TOKENS[:1]}, {**FIRST, "image": IMAGES[:1]}],
            "image and tokens have different numbers of samples in a feed",
        ),
        ([{**FIRST, "image": IMAGES[:2, :2]}], r"the model takes \(samples, 3, 4\)"),
        ([{**FIRST, "image": np.full((2, 3, 4), "a")}], "image is object, which"),
        ([{**FIRST, "image": [[1], [1, 2]]}], "feed 0, image: cannot be read as an array"),
        ([{**FIRST, "image": object()}], "feed 0, image: holds Python objects"),
    ],
)
def test_feeds_that_do_not_fit(feeds: list[Any], match: str) -> None:
    refused(iter(feeds), match)


def test_a_generator_that_fails() -> None:
    def broken() -> Iterator[dict[str, np.ndarray]]:
        yield FIRST
        raise OSError("the disk is gone")

    refused(broken(), "feed 1 cannot be made: line .*OSError: the disk is gone")
    spent = pieces(FIRST, 2)
    list(spent)
    refused(spent, "An iterator that was gone through before is at its end")


def test_an_endless_generator_of_others_is_noticed_at_once() -> None:
    def endless() -> Iterator[dict[str, np.ndarray]]:
        while True:
            yield {"img": IMAGES}

    refused(endless(), "feed 0 holds img, but the model's inputs are image", [IMAGE])


@pytest.mark.parametrize("value", [3, b"x", ["samples.npz"], [IMAGES], None, object(), len])
def test_what_no_samples_are(value: object) -> None:
    with pytest.raises(TypeError, match=r"^samples is .*: give a path.*get_next"):
        as_source("samples", value)


RESIDENT = """
import numpy as np
from onnx_relusv.core.blocks import InputSpec
from onnx_relusv.samples.samples import open_samples
from onnx_relusv.samples.sources import as_source

def resident():
    lines = open("/proc/self/status")
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) >> 10

def feeds():
    for number in range(60):
        yield {"x": np.full((8, 65536), number, np.float32)}

before, found = resident(), []
spec = InputSpec("x", np.dtype("f4"), (None, 65536))
samples = open_samples(as_source("samples", feeds()), [spec])
found.append(resident())
for batch in samples.batches(8):
    found.append(resident())
print(max(found) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="it is Linux's")
def test_feeds_lie_on_disk() -> None:
    """120 MiB of them, of which memory holds some batches, in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", RESIDENT], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 40
