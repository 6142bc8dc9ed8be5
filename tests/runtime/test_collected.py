"""Outputs joined over batches, in files, against numpy."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from graphs import model_proto, normal, run, saved

from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.runtime.outputs import CollectedOutputs, collected, picked
from onnx_relusv.runtime.session import CPU, Session
from onnx_relusv.samples.samples import open_samples

COUNT = 131


def joined(pieces: list[np.ndarray]) -> np.ndarray:
    taken = CollectedOutputs(["y"])
    for piece in pieces:
        taken.add({"y": piece}, len(piece), len(piece))
    (found,) = taken.arrays()
    return found


@pytest.mark.parametrize("batch", ["N", "4"])
def test_all_outputs_in_order_without_padding(batch: str, tmp_path: Path) -> None:
    text = f"(float[{batch},3,2] x) => (z, y) {{ y = Relu(x) z = ReduceMax<axes=[1,2]>(x) }}"
    model = saved(model_proto(text), tmp_path)
    x = normal(COUNT, 3, 2)
    np.save(tmp_path / "x.npy", x)
    samples = open_samples(tmp_path / "x.npy", model.inputs)
    found = collected(Session(model.path, CPU), samples, model.output_names)
    assert model.output_names == ("z", "y")
    assert np.array_equal(found[0], x.max(axis=(1, 2), keepdims=True))
    assert np.array_equal(found[1], np.maximum(x, 0))
    some = np.array([0, 5, 6, 130])
    for whole, part in zip(found, picked(found, some), strict=True):
        assert np.array_equal(part, whole[some])
        # A metric must not change what the next one is told.
        assert not part.flags.writeable
        assert not whole.flags.writeable
        assert type(whole) is type(part) is np.ndarray


def test_types() -> None:
    for values in (
        normal(7, 3),
        np.arange(7),
        np.arange(7) > 3,
        normal(7, 3).astype(ml_dtypes.bfloat16),
        np.array([*"abcdefg"], object),
        np.zeros((7, 0, 3), np.float32),
    ):
        found = joined([values[:4], values[4:]])
        assert (found.dtype, found.shape) == (values.dtype, values.shape)
        assert np.array_equal(found, values)
        (part,) = picked([found], np.array([1, 6]))
        assert np.array_equal(part, values[[1, 6]])


def test_many_rows_are_copied_in_pieces() -> None:
    values, some = normal(40, 3), np.arange(0, 40, 3)
    assert np.array_equal(picked([values], some, chunk_bytes=50)[0], values[some])


def test_an_output_without_an_axis_of_samples_is_refused() -> None:
    for value in (normal(3, 7), np.float32(2), np.zeros(()), [normal(2, 2)] * 4):
        taken = CollectedOutputs(["y"])
        with pytest.raises(
            InputError, match=r"output y is .*first axis is not that of the samples"
        ):
            taken.add({"y": value}, 4, 4)  # type: ignore[dict-item]


def test_detections_of_any_number_are_refused(tmp_path: Path) -> None:
    """As many rows as there are positive values, over all samples of a batch."""
    text = "(float[N,3] x) => (y) { t = NonZero(x) y = Transpose(t) }"
    model = saved(model_proto(text), tmp_path)
    np.save(tmp_path / "x.npy", normal(5, 3))
    assert run(model.path, {"x": normal(5, 3)})["y"].shape == (15, 2)
    samples = open_samples(tmp_path / "x.npy", model.inputs)
    with pytest.raises(InputError, match=r"output y is \(15, 2\) for 5 samples"):
        collected(Session(model.path, CPU), samples, model.output_names)


def test_lengths_that_change_are_refused() -> None:
    with pytest.raises(InputError, match=r"output y is \(3,\) for some .* \(4,\) for others"):
        joined([normal(2, 3), normal(2, 4)])


def test_no_room_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> object:
        return open("/dev/full", "wb", buffering=0)

    if not Path("/dev/full").exists():
        pytest.skip("there is no full device here")
    monkeypatch.setattr("onnx_relusv.work.disk_arrays.nameless_file", full)
    with pytest.raises(UsageError, match=r"cannot be stored.*TMPDIR"):
        joined([normal(3, 50_000)])
