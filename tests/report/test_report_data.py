import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onnx_relusv.core.results import Comparison, Compression, Inspection
from onnx_relusv.report import files
from onnx_relusv.report.files import report_data, write_report


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def strict(text: str) -> object:
    return json.loads(text, parse_constant=refuse)


def test_the_reader_of_these_tests_notices_what_json_does_not_have() -> None:
    with pytest.raises(AssertionError, match="NaN is no JSON"):
        strict(json.dumps([math.nan]))


def test_all_three_documents_are_strict_json(
    inspection: Inspection, compression: Compression, comparison: Comparison
) -> None:
    for data in (
        report_data(inspection),
        report_data(compression),
        report_data(comparison),
    ):
        assert strict(json.dumps(data, allow_nan=False)) == data


def test_schema_and_version(
    inspection: Inspection, compression: Compression, comparison: Comparison
) -> None:
    documents = {
        "onnx-relusv/inspection": report_data(inspection),
        "onnx-relusv/compression": report_data(compression),
        "onnx-relusv/comparison": report_data(comparison),
    }
    for schema, data in documents.items():
        assert list(data)[:2] == ["schema", "schema_version"]
        assert (data["schema"], data["schema_version"]) == (schema, 1)


def test_what_was_not_computed_is_null(inspection: Inspection) -> None:
    conv, gemm, _ = (block["spectrum"] for block in report_data(inspection)["blocks"])
    assert conv["s_0_estimate"] == conv["estimate"][0] == pytest.approx(2.55)
    assert conv["estimate"][3:] == [None] * 61
    assert gemm["s_0_estimate"] is None
    assert gemm["relu_mean_width_lower"] is None
    assert gemm["relu_mean_width"] is None


def test_an_infinite_error_is_null(comparison: Comparison) -> None:
    errors = report_data(comparison)["evaluation"]["relative_error"]
    assert errors == {"logits": 0.0123, "[b]embedding": None}


def test_lists_have_seven_digits_and_single_numbers_all(compression: Compression) -> None:
    row = compression.rows[0]
    odd = replace(row.spectrum, sigma=np.array([1 / 3, 1e-9 / 3]), mean_width=1 / 3)
    changed = replace(
        compression, rows=(replace(row, spectrum=odd),), plan=replace(compression.plan, level=2 / 3)
    )
    data = report_data(changed)
    assert data["blocks"][0]["spectrum"]["sigma"] == [0.3333333, 3.333333e-10]
    assert data["blocks"][0]["spectrum"]["mean_width"] == 1 / 3
    assert data["level"] == 2 / 3


def test_an_inspection_decides_nothing(inspection: Inspection) -> None:
    for block in report_data(inspection)["blocks"]:
        assert block["choice"] is block["cost_after"] is block["reached_level"] is None


def test_a_compression_tells_plan_and_result_apart(compression: Compression) -> None:
    rows = (replace(compression.rows[0], level=0.0931), *compression.rows[1:])
    conv, _, kept = report_data(replace(compression, rows=rows))["blocks"]
    assert conv["choice"]["planned_level"] == 0.093
    assert conv["reached_level"] == 0.0931
    assert (kept["choice"]["form"], kept["choice"]["rank"]) == (None, None)


def test_a_compression_s_damage(compression: Compression) -> None:
    data = report_data(compression)
    assert (data["allocation"], data["damage"]) == ("damage", 0.0321)
    assert [block["choice"]["planned_damage"] for block in data["blocks"]] == [0.0123, None, None]
    by_level = report_data(
        replace(compression, plan=replace(compression.plan, allocation="level", damage=None))
    )
    assert (by_level["allocation"], by_level["damage"]) == ("level", None)


def test_shares_are_after_over_before(compression: Compression) -> None:
    assert report_data(compression)["shares"] == {"size": 0.5, "macs": 0.5, "parameters": 0.5}
    nothing = replace(compression.before, macs=0)
    shares = report_data(replace(compression, before=nothing))["shares"]
    assert shares["macs"] is None


def test_json_is_written_the_same_every_time(compression: Compression, tmp_path: Path) -> None:
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path in paths:
        write_report(compression, None, path, force=True)
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert first.endswith(b"\n}\n")
    assert first.startswith(b'{\n  "schema"')
    assert "\u5377".encode() in first


def test_a_number_that_json_lacks_leaves_the_old_file(
    compression: Compression, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "report_data", lambda report: {"level": math.nan})
    path = tmp_path / "report.json"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_report(compression, None, path, force=True)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_that_is_not_utf_8_survives(inspection: Inspection, tmp_path: Path) -> None:
    odd = replace(inspection, model=replace(inspection.model, path=Path("caf\udce9.onnx")))
    path = tmp_path / "report.json"
    write_report(odd, None, path, force=True)
    data = strict(path.read_text(encoding="utf-8"))
    assert isinstance(data, dict)
    assert data["model"]["path"] == "caf\udce9.onnx"
