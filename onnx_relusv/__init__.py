"""Make trained ONNX models smaller without training.

The seven functions have the names of the commands: `inspect`, `plan`, `apply`, `compress`,
`compare`, `trace` and `sweep`. They raise subclasses of `ReluSvError`, each of which carries an
exit code.

They are loaded when they are first asked for: with all their libraries that takes a second or more,
in which the command line wants to hear signals already.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import onnx_relusv.work.blas  # noqa: F401 - before numpy

if TYPE_CHECKING:
    from onnx_relusv.checking.limits import ComparisonLimits, check_limits
    from onnx_relusv.commands.compare import compare
    from onnx_relusv.commands.compress import apply, compress, plan
    from onnx_relusv.commands.inspect import inspect
    from onnx_relusv.commands.sweep import sweep
    from onnx_relusv.commands.trace import trace
    from onnx_relusv.core.errors import ReluSvError
    from onnx_relusv.core.metric import Metric
    from onnx_relusv.core.options import MeasureOptions, PlanOptions
    from onnx_relusv.core.plans import Budgets

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
    "ComparisonLimits": "onnx_relusv.checking.limits",
    "check_limits": "onnx_relusv.checking.limits",
    "Budgets": "onnx_relusv.core.plans",
    "ReluSvError": "onnx_relusv.core.errors",
    "Metric": "onnx_relusv.core.metric",
    "MeasureOptions": "onnx_relusv.core.options",
    "PlanOptions": "onnx_relusv.core.options",
    "apply": "onnx_relusv.commands.compress",
    "compare": "onnx_relusv.commands.compare",
    "compress": "onnx_relusv.commands.compress",
    "inspect": "onnx_relusv.commands.inspect",
    "plan": "onnx_relusv.commands.compress",
    "sweep": "onnx_relusv.commands.sweep",
    "trace": "onnx_relusv.commands.trace",
}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """One of the names above, from where it is defined."""
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(_PLACES[name]), name)
        return found
