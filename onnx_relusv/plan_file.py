"""The plan as a JSON file: readable, editable, and bound to its model by a hash."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from onnx_relusv.errors import InputError
from onnx_relusv.records import Budgets, Choice, Plan

SCHEMA = "onnx-relusv/plan"
SCHEMA_VERSION = 1
_FORMS = ("pair", "channel", "spatial")


def plan_text(plan: Plan) -> str:
    """The plan as JSON; `read_plan` gives the same plan back."""
    data = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **asdict(plan)}
    return json.dumps(data, indent=2, allow_nan=False) + "\n"


def read_plan(path: Path) -> Plan:
    """Reads a plan and checks every field.

    Raises:
        InputError: It cannot be read, is no plan, or a field is missing or out of range.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}).") from error
    if not isinstance(data, dict) or data.pop("schema", None) != SCHEMA:
        raise InputError(f"{path}: not a plan of onnx-relusv (schema {SCHEMA}).")
    version = data.pop("schema_version", None)
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{path}: schema version {version}, but this version reads {SCHEMA_VERSION}. "
            "Make the plan again."
        )
    try:
        choices = tuple(_choice(path, fields) for fields in data.pop("choices"))
        plan = Plan(budgets=Budgets(**data.pop("budgets")), choices=choices, **data)
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: a field is missing or unknown ({error}).") from error
    if not isinstance(plan.model_sha256, str) or not isinstance(plan.seed, int):
        raise InputError(f"{path}: model_sha256 has to be text, and seed a whole number.")
    keys = [choice.key for choice in choices]
    if len(set(keys)) < len(keys):
        raise InputError(f"{path}: a block is listed twice.")
    return plan


def _choice(path: Path, fields: dict[str, Any]) -> Choice:
    choice = Choice(**fields)
    where = f"{path}: block {choice.key}"
    if choice.action not in ("keep", "double_layer"):
        raise InputError(f"{where}: action {choice.action!r}; use keep or double_layer.")
    if choice.action == "keep":
        return choice
    if choice.form not in _FORMS:
        raise InputError(f"{where}: form {choice.form!r}; use one of {', '.join(_FORMS)}.")
    if not isinstance(choice.rank, int) or isinstance(choice.rank, bool) or choice.rank < 1:
        raise InputError(f"{where}: rank {choice.rank!r}; use a whole number from 1 on.")
    return choice
