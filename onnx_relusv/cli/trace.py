"""The command that measures what single inputs do in a model."""

from pathlib import Path

import click

from onnx_relusv import pipeline
from onnx_relusv.cli.bars import progress_bars
from onnx_relusv.cli.options import (
    FILE,
    force_option,
    input_shape_option,
    json_option,
    max_samples_option,
    measuring,
    memory_option,
    provider_option,
    report_option,
    seed_option,
    together,
)
from onnx_relusv.cli.terminal import check_places, command_line, existing, json_file, show
from onnx_relusv.report.folder import write_trace
from onnx_relusv.report.trace_data import trace_data
from onnx_relusv.report.trace_table import trace_table


@click.command()
@click.argument("model", type=FILE)
@click.option(
    "--samples",
    type=FILE,
    required=True,
    help="Inputs to measure; with `labels`, to see what tells right answers from wrong ones.",
)
@click.option(
    "--exact",
    is_flag=True,
    help="Compute the mean widths too, and not only bound them: slow, an eigendecomposition for "
    "every input, block and output position.",
)
@together(
    max_samples_option,
    input_shape_option,
    json_option,
    report_option,
    provider_option,
    seed_option,
    memory_option,
    force_option,
)
def trace(
    model: Path,
    samples: Path,
    exact: bool,
    max_samples: int | None,
    input_shape: tuple[str, ...],
    json_path: Path | None,
    report: Path | None,
    provider: str,
    seed: int,
    memory: int,
    force: bool,
) -> None:
    """Measure what every input does in every block of MODEL: its activated operators.

    Of each: active units, mean width, largest ReLU singular value, and the distance to the nearest
    point at which a unit switches. With labels, how well each of them tells wrong answers.
    """
    check_places(
        {"--json": json_file(json_path)},
        report,
        models=[model],
        read=existing(samples),
        force=force,
    )
    with progress_bars() as progress:
        found = pipeline.trace(
            model,
            samples=samples,
            exact=exact,
            measuring=measuring(
                provider, seed, memory, max_samples=max_samples, input_shape=input_shape
            ),
            command=command_line(),
            progress=progress,
        )
    write_trace(found, report, json_file(json_path), force=force)
    show(trace_table(found), json_path, trace_data(found))
