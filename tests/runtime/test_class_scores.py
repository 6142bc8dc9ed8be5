"""Which output holds class scores."""

from pathlib import Path

import numpy as np
import pytest
from sample_arrays import IMAGE, IMAGES, LABELS, archive

from onnx_relusv.core.errors import InputError
from onnx_relusv.runtime.outputs import check_labels, class_scores, real_rows
from onnx_relusv.samples.samples import open_samples


def test_the_first_output_of_one_row_a_sample_and_two_classes_or_more() -> None:
    values = {
        "map": np.zeros((4, 2, 3)),
        "number": np.zeros((4, 1)),
        "constant": np.zeros((3, 7)),
        "scalar": np.zeros(()),
        "scores": np.zeros((4, 2)),
        "more": np.zeros((4, 9)),
    }
    assert class_scores(values, 4) == "scores"
    del values["scores"], values["more"]
    assert class_scores(values, 4) is None


def test_rows_that_pad_a_batch_are_dropped() -> None:
    values = {"scores": np.arange(8).reshape(4, 2), "constant": np.zeros(3), "scalar": np.ones(())}
    real = real_rows(values, 3, 4)
    assert np.array_equal(real["scores"], [[0, 1], [2, 3], [4, 5]])
    assert real["constant"].shape == (3,)
    assert real["scalar"].shape == ()


@pytest.mark.parametrize(("labels", "classes"), [(LABELS, 2), (LABELS - 1, 5)])
def test_labels_have_to_be_classes(labels: np.ndarray, classes: int, tmp_path: Path) -> None:
    samples = open_samples(archive(tmp_path, image=IMAGES, labels=labels), [IMAGE])
    with pytest.raises(InputError, match=rf"go from {labels.min()} to {labels.max()}.*{classes}"):
        check_labels(samples, classes)


def test_labels_that_fit(tmp_path: Path) -> None:
    check_labels(open_samples(archive(tmp_path, image=IMAGES, labels=LABELS), [IMAGE]), 3)
