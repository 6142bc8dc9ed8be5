"""What a written file says about where it comes from, in one entry of its metadata."""

import json
from dataclasses import asdict
from importlib.metadata import version

from onnx_relusv import encoded
from onnx_relusv.decisions import Budgets, Plan
from onnx_relusv.graph.surgery import PROVENANCE_KEY
from onnx_relusv.opened import Opened

# A level of as many digits as one has.
_LONGEST = 0.00012345678901234567


def provenance_text(opened: Opened, plan: Plan) -> str:
    """The entry's value for a plan's file."""
    return _text(opened, plan.method, plan.level, plan.budgets, plan.input_range)


def provenance_bytes(
    opened: Opened, method: str, budgets: Budgets, input_range: tuple[float, float] | None
) -> int:
    """What the entry adds to a file at most; an older one that it replaces counts against it."""
    longest = _text(opened, method, _LONGEST, budgets, input_range)
    replaced = sum(
        encoded.entry(entry.ByteSize())
        for entry in opened.model.proto.metadata_props
        if entry.key == PROVENANCE_KEY
    )
    return encoded.entry(encoded.text(PROVENANCE_KEY) + encoded.text(longest)) - replaced


def _text(
    opened: Opened,
    method: str,
    level: float,
    budgets: Budgets,
    input_range: tuple[float, float] | None,
) -> str:
    return json.dumps(
        {
            "version": version("onnx-relusv"),
            "original_sha256": opened.model.sha256,
            "samples_sha256": None if opened.given is None else opened.given.sha256,
            "method": method,
            "level": level,
            "budgets": asdict(budgets),
            "seed": opened.options.seed,
            # Outside of it the file may compute something else.
            **({} if input_range is None else {"input_range": input_range}),
            # What max_drop is of, where it is not top-1.
            **({} if opened.metric is None else {"metric": opened.metric.name}),
        }
    )
