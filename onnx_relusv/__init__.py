"""Make trained ONNX models smaller without training.

The seven functions have the names of the commands: `inspect`, `plan`, `apply`, `compress`,
`compare`, `trace` and `sweep`. They raise subclasses of `ReluSvError`, each of which carries an
exit code.

They are loaded when they are first asked for: with all their libraries that takes a second or more,
in which the command line wants to hear signals already.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import onnx_relusv.blas  # noqa: F401 - before numpy

if TYPE_CHECKING:
    from onnx_relusv.comparison_limits import ComparisonLimits, check_limits
    from onnx_relusv.decisions import Budgets
    from onnx_relusv.errors import ReluSvError
    from onnx_relusv.metric import Metric
    from onnx_relusv.options import MeasureOptions, PlanOptions
    from onnx_relusv.pipeline import apply, compare, compress, inspect, plan, sweep, trace

__all__ = [
    "Budgets",
    "ComparisonLimits",
    "MeasureOptions",
    "Metric",
    "PlanOptions",
    "ReluSvError",
    "apply",
    "check_limits",
    "compare",
    "compress",
    "inspect",
    "plan",
    "sweep",
    "trace",
]

_PLACES = {
    "ComparisonLimits": "onnx_relusv.comparison_limits",
    "check_limits": "onnx_relusv.comparison_limits",
    "Budgets": "onnx_relusv.decisions",
    "ReluSvError": "onnx_relusv.errors",
    "Metric": "onnx_relusv.metric",
    "MeasureOptions": "onnx_relusv.options",
    "PlanOptions": "onnx_relusv.options",
    "apply": "onnx_relusv.pipeline",
    "compare": "onnx_relusv.pipeline",
    "compress": "onnx_relusv.pipeline",
    "inspect": "onnx_relusv.pipeline",
    "plan": "onnx_relusv.pipeline",
    "sweep": "onnx_relusv.pipeline",
    "trace": "onnx_relusv.pipeline",
}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """One of the names above, from where it is defined."""
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(_PLACES[name]), name)
        return found
