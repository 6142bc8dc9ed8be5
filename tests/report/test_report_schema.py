"""docs/report-schema.md and the code say the same, field by field."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pruned_records import pruned
from swept import swept
from traced import trace_of

from onnx_relusv.core.blocks import FunctionBounds
from onnx_relusv.core.results import BlockReport, Comparison, Compression, Inspection
from onnx_relusv.report.files import report_data

DOCUMENT = Path(__file__).parents[2] / "docs" / "report-schema.md"
SCALARS: dict[str, type | tuple[type, ...]] = {
    "text": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
}

Objects = dict[str, dict[str, str]]


def documented() -> Objects:
    """Every object's fields with their types, in the document's order."""
    objects: Objects = {}
    fields: dict[str, str] = {}
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            fields = objects.setdefault(line.removeprefix("## "), {})
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]
        if len(cells) == 7 and cells[1].startswith("`"):
            name = cells[1].strip("`")
            assert name not in fields
            assert ("null" in cells[2]) == bool(cells[5]), f"{name}: when is it null?"
            fields[name] = re.sub(r"\[(\w+)\]\(#\w+\)", r"\1", cells[2])
    return objects


class Checker:
    """Compares data with the document and remembers what it has seen."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.null: set[str] = set()
        self.filled: set[str] = set()

    def check(self, value: Any, kind: str, where: str) -> None:
        if kind.startswith("list of "):
            assert isinstance(value, list), where
            for item in value:
                self.check(item, kind.removeprefix("list of "), where)
        elif kind.startswith("map of "):
            assert isinstance(value, dict), where
            for item in value.values():
                self.check(item, kind.removeprefix("map of "), where)
        elif value is None:
            assert kind.endswith(" or null"), f"{where} is null"
            self.null.add(where)
        else:
            self.filled.add(where)
            self._check_filled(value, kind.removesuffix(" or null"), where)

    def _check_filled(self, value: Any, kind: str, where: str) -> None:
        if kind in SCALARS:
            assert isinstance(value, SCALARS[kind]), where
            assert isinstance(value, bool) == (kind == "boolean"), where
            return
        assert list(value) == list(self._objects[kind]), kind
        for name, field_kind in self._objects[kind].items():
            self.check(value[name], field_kind, f"{kind}.{name}")


def measured(rows: tuple[BlockReport, ...]) -> tuple[BlockReport, ...]:
    """Rows as a run has them: what the records leave out on purpose is in every real one.

    The last one has an activation that is not homogeneous behind it.
    """
    full = rows[0].spectrum
    behind = FunctionBounds(
        name="silu", output="act", radius=4.0, holds=0.5, lower=np.ones(2), upper=2 * np.ones(2)
    )
    found = tuple(
        replace(row, spectrum=replace(full, operator_norm=row.spectrum.operator_norm))
        for row in rows
    )
    return (*found[:-1], replace(found[-1], behind=behind))


def test_the_documents_have_the_documented_fields_and_no_others(
    inspection: Inspection,
    compression: Compression,
    without_samples: Compression,
    certified: Compression,
    estimated: Compression,
    faster: Compression,
    comparison: Comparison,
    judged: Comparison,
) -> None:
    objects = documented()
    checker = Checker(objects)
    inspection = replace(inspection, rows=measured(inspection.rows))
    compression = replace(compression, rows=measured(compression.rows))
    certified = replace(certified, rows=compression.rows)
    without_samples = replace(without_samples, rows=compression.rows)
    estimated = replace(estimated, rows=compression.rows)
    faster = replace(faster, rows=compression.rows)
    checker.check(report_data(inspection), "Inspection", "inspection")
    checker.check(report_data(compression), "Compression", "compression")
    checker.check(report_data(pruned(compression)), "Compression", "pruned")
    checker.check(report_data(certified), "Compression", "certified")
    presumed = replace(certified.plan.budgets, drop_by="probabilities")
    by_probabilities = replace(certified, plan=replace(certified.plan, budgets=presumed))
    checker.check(report_data(by_probabilities), "Compression", "by probabilities")
    checker.check(report_data(without_samples), "Compression", "without samples")
    checker.check(report_data(estimated), "Compression", "estimated")
    checker.check(report_data(faster), "Compression", "faster")
    checker.check(report_data(comparison), "Comparison", "comparison")
    checker.check(report_data(judged), "Comparison", "judged")
    checker.check(report_data(trace_of(("conv1", "fc1"), samples=60)), "Trace", "trace")
    sweep = replace(swept(), warnings=("A picture cannot be read.",))
    checker.check(report_data(sweep), "Sweep", "sweep")
    every = {f"{name}.{field}" for name, fields in objects.items() for field in fields}
    # Two of the budgets were not asked for in the records of these tests.
    assert every - checker.filled == {"Budgets.macs", "Budgets.tolerance"}


def test_the_checker_notices_a_new_field_and_a_wrong_type(inspection: Inspection) -> None:
    data = report_data(inspection)
    with pytest.raises(AssertionError, match="Inspection"):
        Checker(documented()).check({**data, "extra": 1}, "Inspection", "inspection")
    data["model"]["opset"] = "17"
    with pytest.raises(AssertionError, match=r"Model\.opset"):
        Checker(documented()).check(data, "Inspection", "inspection")
    data["model"]["opset"] = None
    with pytest.raises(AssertionError, match=r"Model\.opset is null"):
        Checker(documented()).check(data, "Inspection", "inspection")
