"""Samples against the arrays that they were written from, and what does not fit a model."""

from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from sample_arrays import (
    BOTH,
    IMAGE,
    IMAGES,
    LABELS,
    RNG,
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
def test_an_npz(compressed: bool, tmp_path: Path) -> None:
    for wanted in (1, 3, 5, 10, 64):
        path = archive(tmp_path, compressed=compressed, image=IMAGES, tokens=TOKENS, labels=LABELS)
        samples = open_samples(path, BOTH)
        assert (samples.count, samples.fixed_batch, samples.source.path) == (10, None, path)
        assert np.array_equal(samples.labels, LABELS)
        found = everything(samples, wanted)
        assert np.array_equal(found["image"], IMAGES)
        assert np.array_equal(found["tokens"], TOKENS)
        batches = list(samples.batches(wanted))
        assert [batch.start for batch in batches] == list(range(0, 10, wanted))
        assert all(batch.size == batch.count <= wanted for batch in batches)
        # Once more from the front, and only a part of them.
        few = list(samples.batches(wanted, limit=4))
        assert sum(batch.count for batch in few) == 4
        assert np.array_equal(few[0].feeds["image"], IMAGES[: min(4, wanted)])
        assert samples.batch_size(wanted) == min(wanted, 10)


def test_names_have_to_fit(tmp_path: Path) -> None:
    for arrays in ({"image": IMAGES}, {"image": IMAGES, "token": TOKENS}, {"labels": LABELS}, {}):
        refused(archive(tmp_path, **arrays), BOTH, "the model's inputs are image, tokens")
    extra = archive(tmp_path, image=IMAGES, tokens=TOKENS)
    refused(extra, [IMAGE], "holds image, tokens")


@pytest.mark.parametrize("shape", [(10, 3), (10, 3, 5), (10, 4, 3), (10, 3, 4, 1), ()])
def test_shapes_have_to_fit(shape: tuple[int, ...], tmp_path: Path) -> None:
    path = archive(tmp_path, image=np.zeros(shape, np.float32))
    refused(path, [IMAGE], r"the model takes \(samples, 3, 4\)")
    np.save(tmp_path / "samples.npy", np.zeros(shape, np.float32))
    refused(tmp_path / "samples.npy", [IMAGE], r"the model takes \(samples, 3, 4\)")


def test_a_dynamic_axis_takes_any_length(tmp_path: Path) -> None:
    path = archive(tmp_path, x=np.zeros((2, 77), np.float32))
    assert open_samples(path, [spec("x", np.float32, None, None)]).count == 2
    refused(path, [spec("x", np.float32, None, None, 3)], r"\(samples, any, 3\)")


def test_samples_that_run_one_at_a_time_come_as_stacks_of_runs(tmp_path: Path) -> None:
    arrays = {
        "image": IMAGES,
        "state": np.arange(60.0, dtype=np.float32).reshape(10, 2, 3),
        "rate": np.arange(10),
    }
    inputs = [
        spec("image", np.float32, 1, 3, 4),
        replace(spec("state", np.float32, 2, 1, 3), samples_axis=1),
        replace(spec("rate", np.int64), samples_axis=None),
    ]
    alone = open_samples(archive(tmp_path, **arrays), inputs)
    samples = replace(alone, alike=True)
    assert (samples.batch_size(4), samples.batch_size(4, stacked=True)) == (1, 4)
    runs = list(samples.batches(4))
    stacks = list(samples.batches(4, stacked=True))
    assert [(batch.start, batch.count, batch.size) for batch in stacks] == [
        (0, 4, 4),
        (4, 4, 4),
        (8, 2, 2),
    ]
    assert all(batch.stacked for batch in stacks)
    for batch in stacks:
        rows = samples.rows(batch)
        for name, values in arrays.items():
            np.testing.assert_array_equal(
                rows[name], values[batch.start : batch.start + batch.count]
            )
            for number in range(batch.count):
                feed = runs[batch.start + number].feeds[name]
                np.testing.assert_array_equal(batch.feeds[name][number], feed)
    # Where nothing says that they can be put together, nothing is.
    for separate in (alone, samples):
        assert [batch.stacked for batch in separate.batches(4, stacked=separate is alone)] == (
            [False] * 10
        )
    several = replace(
        open_samples(archive(tmp_path, image=IMAGES), [spec("image", np.float32, 4, 3, 4)]),
        alike=True,
    )
    assert [batch.stacked for batch in several.batches(4, stacked=True)] == [False] * 3


def test_inputs_whose_samples_lie_on_another_axis_or_none(tmp_path: Path) -> None:
    states = np.arange(24.0).reshape(4, 2, 3)
    rates = np.array([8, 16, 8, 16])
    path = archive(tmp_path, state=states, rate=rates)
    state = replace(spec("state", np.float32, 2, None, 3), samples_axis=1)
    rate = replace(spec("rate", np.int64), samples_axis=None)
    samples = open_samples(path, [state, rate])
    batches = list(samples.batches(64))
    # What has no axis of samples is another one in every run.
    assert [(batch.count, batch.size) for batch in batches] == [(1, 1)] * 4
    for batch, value, number in zip(batches, states, rates, strict=True):
        assert batch.feeds["rate"].shape == ()
        assert samples.rows(batch)["rate"].shape == (1,)
        assert batch.feeds["rate"] == number
        np.testing.assert_array_equal(batch.feeds["state"], value[:, None])
    path = archive(tmp_path, state=states)
    (batch,) = open_samples(path, [state]).batches(64)
    np.testing.assert_array_equal(batch.feeds["state"], np.moveaxis(states, 0, 1))
    np.testing.assert_array_equal(open_samples(path, [state]).rows(batch)["state"], states)
    refused(path, [replace(state, samples_axis=None)], r"takes \(samples, 2, any, 3\)")
    refused(archive(tmp_path, rate=np.array(3)), [rate], r"the model takes \(samples\)")


def test_data_sets_hold_inputs_as_the_model_takes_them(tmp_path: Path) -> None:
    state = replace(spec("state", np.float32, 2, None, 3), samples_axis=1)
    rate = replace(spec("rate", np.int64), samples_axis=None)
    values = RNG.standard_normal((4, 2, 1, 3)).astype(np.float32)
    folder = data_sets(tmp_path, [[each, np.array(at)] for at, each in enumerate(values)])
    for batch, expected in zip(open_samples(folder, [state, rate]).batches(8), values, strict=True):
        np.testing.assert_array_equal(batch.feeds["state"], expected)
        assert batch.feeds["rate"] == batch.start


def test_text(tmp_path: Path) -> None:
    path = archive(tmp_path, x=np.array([["a", "bc"], ["", "d"]]))
    feeds = next(open_samples(path, [spec("x", object, None, 2)]).batches(2)).feeds
    assert feeds["x"].dtype == object
    assert feeds["x"].tolist() == [["a", "bc"], ["", "d"]]
    refused(archive(tmp_path, x=np.zeros((3, 2))), [spec("x", object, None, 2)], "model's text")


@pytest.mark.parametrize("given", [np.uint8, np.int64, bool, np.float64, np.float16, ">f4"])
def test_numbers_become_the_model_s_type(given: object, tmp_path: Path) -> None:
    values = (TOKENS[:, :4] % 2).astype(given)
    path = archive(tmp_path, x=values)
    feeds = next(open_samples(path, [spec("x", np.float32, None, 4)]).batches(64)).feeds
    assert feeds["x"].dtype == np.float32
    assert feeds["x"].dtype.isnative
    assert feeds["x"].flags.c_contiguous
    assert np.array_equal(feeds["x"], values.astype(np.float32))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (np.float32, np.int64),
        (np.float64, bool),
        (np.complex64, np.float32),
        ("U3", np.float32),
        ("M8[s]", np.int64),
    ],
)
def test_types_that_would_lose_something(given: object, wanted: object, tmp_path: Path) -> None:
    path = archive(tmp_path, x=np.zeros((3, 2)).astype(given))
    refused(path, [spec("x", wanted, None, 2)], "without loss")


@pytest.mark.parametrize(
    ("values", "wanted"),
    [([0, 300], np.uint8), ([0, -1], np.uint32), ([0, 2**40], np.int32), ([0, 2], bool)],
)
def test_whole_numbers_that_do_not_fit(values: list[int], wanted: object, tmp_path: Path) -> None:
    path = archive(tmp_path, x=np.array([values]))
    refused(path, [spec("x", wanted, None, 2)], "without loss")
    fits = archive(tmp_path, x=np.array([[0, 1]]))
    feeds = next(open_samples(fits, [spec("x", wanted, None, 2)]).batches(1)).feeds
    assert feeds["x"].tolist() == [[0, 1]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_found_where_they_are(bad: float, tmp_path: Path) -> None:
    values = IMAGES.copy()
    values[5, 1, 1] = bad
    path = archive(tmp_path, image=values)
    samples = open_samples(path, [IMAGE])
    assert len(list(samples.batches(4, limit=4))) == 1
    with pytest.raises(InputError, match=r"input image, sample 5, holds NaN or infinite"):
        list(samples.batches(4))


def test_numbers_beyond_the_model_s_type_are_infinite_to_it(tmp_path: Path) -> None:
    path = archive(tmp_path, x=np.array([[1e300, 0.0]]))
    refused(path, [spec("x", np.float32, None, 2)], r"up to 1e\+300, which are infinite in the")


def test_bfloat16_inputs(tmp_path: Path) -> None:
    inputs = [spec("x", ml_dtypes.bfloat16, None, 2)]
    path = archive(tmp_path, x=np.array([[1.0, 2.0]], np.float32))
    feeds = next(open_samples(path, inputs).batches(1)).feeds
    assert feeds["x"].dtype == ml_dtypes.bfloat16
    refused(archive(tmp_path, x=np.array([[1.0, np.nan]])), inputs, "NaN or infinite")


def test_no_samples(tmp_path: Path) -> None:
    refused(archive(tmp_path, image=IMAGES[:0]), [IMAGE], "at least one is needed")
    np.save(tmp_path / "samples.npy", IMAGES[:0])
    with pytest.raises(InputError):
        open_samples(tmp_path / "samples.npy", [IMAGE])


def test_counts_have_to_agree(tmp_path: Path) -> None:
    path = archive(tmp_path, image=IMAGES, tokens=TOKENS[:9])
    refused(path, BOTH, "numbers of samples differ: image 10, tokens 9")
    path = archive(tmp_path, image=IMAGES, labels=LABELS[:9])
    refused(path, [IMAGE], "image 10, labels 9")


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.uint64, ">i2"])
def test_labels_of_any_whole_type(dtype: object, tmp_path: Path) -> None:
    path = archive(tmp_path, image=IMAGES, labels=LABELS.astype(dtype))
    labels = open_samples(path, [IMAGE]).labels
    assert labels is not None
    assert labels.dtype == np.int64
    assert np.array_equal(labels, LABELS)


@pytest.mark.parametrize(
    "labels", [LABELS.astype(np.float32), LABELS[:, None], np.int64(3), LABELS.astype("U1")]
)
def test_labels_are_whole_numbers(labels: np.ndarray, tmp_path: Path) -> None:
    refused(archive(tmp_path, image=IMAGES, labels=labels), [IMAGE], "one whole number a sample")


@pytest.mark.parametrize(
    "labels",
    [
        LABELS.astype(np.float32),
        np.stack([LABELS, LABELS], axis=1),
        LABELS.astype("U1"),
        np.full(10, np.nan),
    ],
)
def test_a_metric_takes_any_labels(labels: np.ndarray, tmp_path: Path) -> None:
    path = archive(tmp_path, image=IMAGES, labels=labels)
    samples = open_samples(path, [IMAGE], any_labels=True)
    assert samples.labels is not None
    assert samples.labels.dtype == labels.dtype
    assert np.array_equal(samples.labels, labels, equal_nan=labels.dtype.kind == "f")
    some = np.array([1, 4, 9])
    part = samples.part(some).labels
    assert np.array_equal(part, labels[some], equal_nan=labels.dtype.kind == "f")


def test_labels_are_one_a_sample_for_a_metric_too(tmp_path: Path) -> None:
    path = archive(tmp_path, image=IMAGES, labels=LABELS[:9].astype(float))
    with pytest.raises(InputError, match="image 10, labels 9"):
        open_samples(path, [IMAGE], any_labels=True)
    path = archive(tmp_path, image=IMAGES, labels=np.float64(3))
    with pytest.raises(InputError, match="labels are float64"):
        open_samples(path, [IMAGE], any_labels=True)


def test_an_input_named_labels_is_an_input(tmp_path: Path) -> None:
    inputs = [IMAGE, spec("labels", np.int64, None)]
    samples = open_samples(archive(tmp_path, image=IMAGES, labels=LABELS), inputs)
    assert samples.labels is None
    assert np.array_equal(everything(samples, 4)["labels"], LABELS)


def test_a_fixed_batch_is_padded_with_the_last_sample(tmp_path: Path) -> None:
    inputs = [spec("image", np.float32, 4, 3, 4)]
    samples = open_samples(archive(tmp_path, image=IMAGES), inputs)
    assert samples.fixed_batch == 4
    assert samples.batch_size(64) == 4
    batches = list(samples.batches(64))
    assert [(batch.count, batch.size, batch.start) for batch in batches] == [
        (4, 4, 0),
        (4, 4, 4),
        (2, 4, 8),
    ]
    assert np.array_equal(batches[2].feeds["image"], IMAGES[[8, 9, 9, 9]])
    (only,) = samples.batches(64, limit=3)
    assert np.array_equal(only.feeds["image"], IMAGES[[0, 1, 2, 2]])
    with pytest.raises(InputError, match=r"different fixed lengths \[2, 4\]"):
        open_samples(
            archive(tmp_path, image=IMAGES, tokens=TOKENS),
            [*inputs, spec("tokens", np.int64, 2, 5)],
        )


def test_the_hash_is_the_content_s(tmp_path: Path) -> None:
    first = archive(tmp_path, image=IMAGES)
    hashes = {open_samples(first, [IMAGE]).sha256}
    copy = tmp_path / "copy.npz"
    copy.write_bytes(first.read_bytes())
    assert open_samples(copy, [IMAGE]).sha256 in hashes
    changed = IMAGES.copy()
    changed[9, 0, 0] += 1
    hashes.add(open_samples(archive(tmp_path, image=changed), [IMAGE]).sha256)
    # In whatever they lie.
    for name, arrays in (("sets", IMAGES), ("other", changed)):
        folder = data_sets(tmp_path / name, [(arrays[:5],), (arrays[5:],)])
        hashes.add(open_samples(folder, [IMAGE]).sha256)
    assert len(hashes) == 2
    assert all(len(digest) == 64 for digest in hashes)


def test_groups_are_counted_once_each(tmp_path: Path) -> None:
    path = archive(tmp_path, image=IMAGES, groups=np.array([5, 5, -1, 5, 2, 2, 2, 2, 2, 2]))
    found = open_samples(path, [IMAGE])
    assert (found.count, found.independent) == (10, 3)
    part = found.part(np.array([0, 3, 4]))
    assert (part.count, part.independent) == (3, 2)
    np.testing.assert_array_equal(part.groups, [5, 5, 2])
    alone = open_samples(archive(tmp_path, image=IMAGES), [IMAGE])
    assert (alone.groups, alone.independent) == (None, 10)


@pytest.mark.parametrize("groups", [np.zeros(10), np.zeros((10, 1), np.int64)])
def test_groups_are_whole_numbers(groups: np.ndarray, tmp_path: Path) -> None:
    refused(archive(tmp_path, image=IMAGES, groups=groups), [IMAGE], "groups are .* whole number")


def test_groups_are_one_a_sample(tmp_path: Path) -> None:
    path = archive(tmp_path, image=IMAGES, groups=np.zeros(9, np.int64))
    refused(path, [IMAGE], "numbers of samples differ: image 10, groups 9")


def test_an_input_named_groups_is_an_input(tmp_path: Path) -> None:
    path = archive(tmp_path, groups=IMAGES)
    found = open_samples(path, [spec("groups", np.float32, None, 3, 4)])
    assert (found.count, found.groups) == (10, None)
