"""Who makes a result, and from what: what a run is repeated with."""

import platform
from importlib.metadata import version

import numpy as np
import onnx

from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.core.results import NO_SETTINGS, Provenance, Settings, settings_of
from onnx_relusv.runtime.session import runtime_version
from onnx_relusv.samples.samples import Samples


def provenance(
    provider: str,
    options: MeasureOptions,
    samples: Samples | None,
    command: str,
    further: Settings = NO_SETTINGS,
) -> Provenance:
    """Who makes a result, and from what.

    Args:
        provider: The execution provider in force.
        options: As asked for.
        samples: What was measured on.
        command: The command line, or the API call.
        further: The other settings of the run.
    """
    given: Settings = {} if samples is None else samples.source.settings
    return Provenance(
        versions=versions(),
        provider=provider,
        seed=options.seed,
        command=command,
        samples=None if samples is None else samples.source.described,
        samples_sha256=None if samples is None else samples.sha256,
        sample_count=0 if samples is None else samples.count,
        sample_groups=None if samples is None or samples.groups is None else samples.independent,
        settings={**given, **further, **settings_of(options)},
    )


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    return {
        "onnx-relusv": version("onnx-relusv"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": runtime_version(),
    }
