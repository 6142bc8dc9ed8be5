"""The seven things the package does, each with its stages in order; the only place that knows it.

read -> blocks -> moments of the samples -> spectra and candidates -> plan -> factors -> surgery ->
validation -> report -> the file
"""

from onnx_relusv.pipeline.comparing import compare, sweep
from onnx_relusv.pipeline.looking import inspect, trace
from onnx_relusv.pipeline.shrinking import apply, compress, plan

__all__ = ["apply", "compare", "compress", "inspect", "plan", "sweep", "trace"]
