"""What a model and variants of it take on this machine, for plans that are made anywhere."""

from onnx_relusv.core.arguments import StrPath, as_optional_path, as_record
from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.core.options import MeasureOptions, PlanOptions
from onnx_relusv.graph.model_files import ModelLike, as_model, model_file
from onnx_relusv.graph.writing import check_places
from onnx_relusv.measuring.case import open_model, split_inputs
from onnx_relusv.measuring.sample_warnings import check_rewritable
from onnx_relusv.planning.latency.timed import model_times
from onnx_relusv.planning.latency.times_file import ModelTimes, times_text
from onnx_relusv.planning.settling import with_channels
from onnx_relusv.work.executors import Progress, Silent
from onnx_relusv.work.files import write_text


def measure_latency(
    model: ModelLike,
    *,
    planning: PlanOptions | None = None,
    measuring: MeasureOptions | None = None,
    output: StrPath | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> ModelTimes:
    """Times variants of a model on this machine: fewer channels, lower ranks, integers.

    It takes onnxruntime and the model, and no samples: values do not count for time.

    Args:
        model: The path of an ONNX file or of its folder, or a ModelProto.
        planning: Of this, `batch`, `precision` with `int8_format`, and `pack` count: integers are
            timed where plans are to have some.
        measuring: Provider, seed, memory and cache.
        output: File for the times, which `PlanOptions.times` names; None to write nothing.
        force: Overwrite an existing output.
        progress: Shown the variants.

    Raises:
        InputError: The model cannot be read or run, or nothing of it can be smaller.
        UsageError: The provider does not work, half precision or times were given, or the output
            exists or cannot be written.
    """
    given = as_model("model", model)
    planning = as_record("planning", planning, PlanOptions)
    output = as_optional_path("output", output)
    measuring, progress = as_record("measuring", measuring, MeasureOptions), progress or Silent()
    if planning.uses_fp16 or planning.int8_format == "weights" or planning.times is not None:
        raise UsageError(
            "measure-latency times floats, and with --precision int8 layers that read integers."
        )
    with model_file("model", given) as file:
        check_places(
            {"--output": output},
            models=[file.path],
            read=[],
            cache=measuring.cache,
            force=force,
        )
        case, inputs, workspace = open_model(
            file.path, None, measuring, for_integers=planning.uses_int8, name=file.name
        )
        check_rewritable(case, workspace)
        inputs = split_inputs(case, inputs, workspace.options)
        case = with_channels(case, inputs, workspace)
        found = model_times(case, inputs, workspace, planning, progress)
        if not found.variants:
            raise InputError(
                f"{file.name}: nothing of it can be smaller, so there is no time to find."
            )
        if output is not None:
            write_text(times_text(found), output, force=force)
    return found
