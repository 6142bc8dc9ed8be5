"""Make trained ONNX models smaller without training.

The six functions have the names of the commands: `inspect`, `plan`, `apply`, `compress`, `compare`
and `trace`. They raise subclasses of `ReluSvError`, each of which carries an exit code.
"""

from onnx_relusv.decisions import Budgets
from onnx_relusv.errors import ReluSvError
from onnx_relusv.metric import Metric
from onnx_relusv.options import MeasureOptions, PlanOptions
from onnx_relusv.pipeline import apply, compare, compress, inspect, plan, trace

__all__ = [
    "Budgets",
    "MeasureOptions",
    "Metric",
    "PlanOptions",
    "ReluSvError",
    "apply",
    "compare",
    "compress",
    "inspect",
    "plan",
    "trace",
]
