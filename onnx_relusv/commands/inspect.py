"""What is in a model: every block measured, and what was left alone."""

from onnx_relusv.core.arguments import StrPath, as_optional_path, as_record
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.core.results import Inspection
from onnx_relusv.graph.model_files import ModelLike, as_model, model_file
from onnx_relusv.graph.writing import check_places
from onnx_relusv.measuring.blocks import measure_blocks
from onnx_relusv.measuring.case import block_moments, open_model
from onnx_relusv.measuring.provenance import provenance
from onnx_relusv.measuring.sample_warnings import sample_warnings
from onnx_relusv.planning.settling import model_coverage
from onnx_relusv.report.files import write_report
from onnx_relusv.samples.sources import SamplesLike, as_optional_source, path_of
from onnx_relusv.work.executors import Progress, Silent


def block_keys(model: ModelLike, *, measuring: MeasureOptions | None = None) -> tuple[str, ...]:
    """The keys of a model's blocks, in the order in which it computes them; nothing is measured.

    Args:
        model: The path of an ONNX file, or a ModelProto.
        measuring: Provider, and shapes of inputs: the model runs once.

    Raises:
        InputError: The model cannot be read or run.
        UsageError: The provider does not work.
    """
    given = as_model("model", model)
    measuring = as_record("measuring", measuring, MeasureOptions)
    with model_file("model", given) as file:
        case, _, _ = open_model(file.path, None, measuring, name=file.name)
        return tuple(block.key for block in case.blocks)


def inspect(
    model: ModelLike,
    *,
    samples: SamplesLike | None = None,
    measuring: MeasureOptions | None = None,
    report: StrPath | None = None,
    json: StrPath | None = None,
    force: bool = False,
    command: str = "onnx_relusv.inspect",
    progress: Progress | None = None,
) -> Inspection:
    """Measures every block of a model and says what was refused, with reasons.

    Args:
        model: The path of an ONNX file or of its folder, or a ModelProto.
        samples: If given, blocks are measured in the metric of what they really see: a path, a dict
            of arrays, an array, an iterable of feeds, or a reader with `get_next()`.
        measuring: Provider, seed, memory and cache.
        report: Folder for report.json and report.html.
        json: File for what is in report.json.
        force: Overwrite existing outputs.
        command: Goes into the provenance.
        progress: Shown the stages.

    Raises:
        InputError: The model or the samples cannot be read or do not fit.
        UsageError: The provider does not work, an output exists or cannot be written, or there is
            no room for temporary files or in the cache.
    """
    given, source = as_model("model", model), as_optional_source("samples", samples, progress)
    report, json = as_optional_path("report", report), as_optional_path("json", json)
    measuring, progress = as_record("measuring", measuring, MeasureOptions), progress or Silent()
    with model_file("model", given) as file:
        check_places(
            {"--json": json},
            report,
            models=[file.path],
            read=[path_of(source)],
            cache=measuring.cache,
            force=force,
        )
        case, inputs, workspace = open_model(file.path, source, measuring, name=file.name)
        with block_moments(case, inputs, workspace, progress) as moments:
            measured = measure_blocks(case, inputs, workspace, moments, progress)
            warnings = sample_warnings(case, inputs, moments, progress)
        found = Inspection(
            model=case.facts,
            rows=measured.rows,
            refusals=case.refusals,
            warnings=warnings,
            coverage=model_coverage(case),
            provenance=provenance(workspace.provider, workspace.options, inputs.samples, command),
        )
        write_report(found, report, json, force=force)
    return found
