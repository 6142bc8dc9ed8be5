"""What is in a model, and what single inputs do in it."""

from onnx_relusv.core.arguments import StrPath, as_optional_path, as_path, as_record
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.core.results import Inspection
from onnx_relusv.measuring.blocks import measure_blocks
from onnx_relusv.measuring.case import block_moments, open_model, provenance
from onnx_relusv.measuring.sample_warnings import sample_warnings
from onnx_relusv.planning.reachable import model_coverage
from onnx_relusv.work.executors import Progress, Silent


def inspect(
    model: StrPath,
    *,
    samples: StrPath | None = None,
    measuring: MeasureOptions | None = None,
    command: str = "onnx_relusv.inspect",
    progress: Progress | None = None,
) -> Inspection:
    """Measures every block of a model and says what was refused, with reasons.

    Args:
        model: An ONNX file.
        samples: If given, blocks are measured in the metric of what they really see.
        measuring: Provider, seed, memory and cache.
        command: Goes into the provenance.
        progress: Shown the stages.

    Raises:
        InputError: The model or the samples cannot be read or do not fit.
        UsageError: The provider does not work, or there is no room for temporary files or in the
            cache.
    """
    model, samples = as_path("model", model), as_optional_path("samples", samples)
    measuring, progress = as_record("measuring", measuring, MeasureOptions), progress or Silent()
    opened = open_model(model, samples, measuring)
    with block_moments(opened, progress) as moments:
        measured = measure_blocks(opened, moments, progress)
        warnings = sample_warnings(opened, moments, progress)
    return Inspection(
        model=opened.facts,
        rows=measured.rows,
        refusals=opened.refusals,
        warnings=warnings,
        coverage=model_coverage(opened),
        provenance=provenance(opened.provider, opened.options, opened.samples, command),
    )
