import json
from dataclasses import replace

import numpy as np
import pytest
from traced import trace_of

from onnx_relusv.report.files import report_data


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def test_a_trace_is_strict_json_with_schema_and_version() -> None:
    data = report_data(trace_of(("conv1", "fc1"), samples=60))
    assert json.loads(json.dumps(data, allow_nan=False), parse_constant=refuse) == data
    assert list(data)[:2] == ["schema", "schema_version"]
    assert (data["schema"], data["schema_version"]) == ("onnx-relusv/trace", 1)


def test_columns_have_an_entry_an_input_and_six_digits() -> None:
    trace = trace_of(("conv1", "fc1"), samples=60)
    data = report_data(trace)
    for block, recorded in zip(data["blocks"], trace.blocks, strict=True):
        for name in ("active", "width_lower", "width_upper", "largest", "margin"):
            column = getattr(recorded, name)
            # Half a unit of the sixth digit, at most 5e-6 of the number.
            np.testing.assert_allclose(block[name], column, rtol=5e-6)
            assert all(value == float(f"{value:.6g}") for value in block[name])
    assert data["blocks"][1]["margin"] != trace.blocks[1].margin.tolist()
    assert trace.max_softmax is not None
    np.testing.assert_allclose(data["class_scores"]["max_softmax"], trace.max_softmax, rtol=5e-6)
    assert len(data["class_scores"]["entropy"]) == 60


def test_what_was_not_computed_or_is_infinite_is_null() -> None:
    trace = trace_of(("conv1", "fc1"), samples=60)
    dead = replace(trace.blocks[1], margin=np.full(60, np.inf))
    exact, bracketed = report_data(replace(trace, blocks=(trace.blocks[0], dead)))["blocks"]
    assert None not in exact["width"]
    assert bracketed["width"] == [None] * 60
    assert bracketed["margin"] == [None] * 60


def test_answers_are_counted() -> None:
    trace = trace_of(("conv1",), samples=60)
    answers = report_data(trace)["answers"]
    assert (answers["right"], answers["wrong"]) == (51, 9)
    assert trace.correct is not None
    assert answers["correct"] == trace.correct.tolist()


def test_scores_keep_all_digits_and_their_order() -> None:
    trace = trace_of(("conv1", "fc1"), samples=60)
    found, data = trace.separation, report_data(trace)["separation"]
    assert found is not None
    assert [(one["block"], one["quantity"]) for one in data["scores"]] == [
        (one.block, one.quantity) for one in found.scores
    ]
    assert data["scores"][3]["auroc"]["upper"] == found.scores[3].auroc.upper
    assert data["baselines"][0]["gain"] is None
    assert data["baselines"][1]["gain"]["lower"] == pytest.approx(
        0 if found.baselines[1].gain is None else found.baselines[1].gain.lower
    )
    assert data["combined"]["block"] is None


def test_without_labels_or_class_scores_there_is_null() -> None:
    trace = replace(trace_of(("conv1",), samples=60), correct=None, separation=None)
    data = report_data(trace)
    assert data["answers"] is data["separation"] is None
    assert data["class_scores"] is not None
    assert report_data(replace(trace, max_softmax=None, entropy=None))["class_scores"] is None


def test_what_could_not_be_combined_is_null() -> None:
    trace = trace_of(("conv1",), samples=60)
    assert trace.separation is not None
    few = replace(trace.separation, combined=None, combined_with_output=None, folds=0)
    data = report_data(replace(trace, separation=few))["separation"]
    assert data["combined"] is data["combined_with_output"] is None
