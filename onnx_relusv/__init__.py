"""Make trained ONNX models smaller without training.

The seven functions have the names of the commands: `inspect`, `plan`, `apply`, `compress`,
`compare`, `trace` and `sweep`. They raise subclasses of `ReluSvError`, each of which carries an
exit code.
"""

import onnx_relusv.blas  # noqa: F401 - before numpy
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
