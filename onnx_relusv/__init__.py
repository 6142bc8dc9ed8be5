"""Make trained ONNX models smaller without training.

The eight functions have the names of the commands: `inspect`, `plan`, `apply`, `compress`,
`compare`, `trace`, `sweep` and `measure_latency`. They raise subclasses of `ReluSvError`, each of
which carries an exit code.

They are loaded when they are first used: with all their libraries that takes a second or more,
in which the command line wants to hear signals already.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Lets OpenBLAS's threads sleep as soon as they have nothing to do; a value set by the user is kept.
# By itself it keeps them waiting busily after every product, about 30 ms, and on a few cores they
# stand in the way of onnxruntime's, with which they take turns here. The value is the logarithm of
# the processor's ticks that they wait, the least that it accepts; it is read when OpenBLAS is
# loaded, so this comes before numpy and scipy.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

if TYPE_CHECKING:
    from onnx_relusv.commands.compare import check_limits, compare
    from onnx_relusv.commands.compress import apply, compress, plan
    from onnx_relusv.commands.inspect import inspect
    from onnx_relusv.commands.measure_latency import measure_latency
    from onnx_relusv.commands.sweep import sweep
    from onnx_relusv.commands.trace import trace
    from onnx_relusv.core.errors import ReluSvError
    from onnx_relusv.core.metric import ComparisonLimits, Metric
    from onnx_relusv.core.options import ApplyOptions, MeasureOptions, PlanOptions
    from onnx_relusv.core.plans import Budgets
    from onnx_relusv.core.sweeps import SweepOptions
    from onnx_relusv.samples.images import Images

__all__ = [
    "ApplyOptions",
    "Budgets",
    "ComparisonLimits",
    "Images",
    "MeasureOptions",
    "Metric",
    "PlanOptions",
    "ReluSvError",
    "SweepOptions",
    "apply",
    "check_limits",
    "compare",
    "compress",
    "inspect",
    "measure_latency",
    "plan",
    "sweep",
    "trace",
]

_MODULES = {
    "commands.compare": ("check_limits", "compare"),
    "commands.compress": ("apply", "compress", "plan"),
    "commands.inspect": ("inspect",),
    "commands.measure_latency": ("measure_latency",),
    "commands.sweep": ("sweep",),
    "commands.trace": ("trace",),
    "core.errors": ("ReluSvError",),
    "core.metric": ("ComparisonLimits", "Metric"),
    "core.options": ("ApplyOptions", "MeasureOptions", "PlanOptions"),
    "core.plans": ("Budgets",),
    "core.sweeps": ("SweepOptions",),
    "samples.images": ("Images",),
}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """One of the names above, from where it is defined."""
        for module, names in _MODULES.items():
            if name in names:
                found = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
                return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        """All names, whether they are loaded or not."""
        return sorted({*globals(), *__all__})
