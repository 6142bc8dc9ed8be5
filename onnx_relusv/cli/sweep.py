"""The command that measures the whole curve of what is lost over what is left.

The command that measures what single inputs do in a model.
"""

from pathlib import Path

import click

from onnx_relusv.cli.group import progress_bars
from onnx_relusv.cli.options import (
    FILE,
    cache_option,
    force_option,
    input_shape_option,
    json_option,
    max_samples_option,
    measuring,
    memory_option,
    pattern_options,
    provider_option,
    report_option,
    seed_option,
    together,
)
from onnx_relusv.cli.terminal import (
    check_config,
    check_places,
    command_line,
    existing,
    json_file,
    show,
)
from onnx_relusv.commands.sweep import DEFAULT_METHODS, DEFAULT_SIZES
from onnx_relusv.commands.sweep import sweep as run_sweep
from onnx_relusv.commands.sweep_points import METHODS
from onnx_relusv.commands.trace import trace as run_trace
from onnx_relusv.report.html import write_trace
from onnx_relusv.report.tables import sweep_table, trace_table
from onnx_relusv.report.trace_plots import trace_data


def _numbers(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[float, ...]:
    if value is None:
        return DEFAULT_SIZES
    try:
        return tuple(float(one) for one in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: use numbers between commas.") from error


def _names(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[str, ...]:
    return DEFAULT_METHODS if value is None else tuple(value.split(","))


@click.command()
@click.argument("model", type=FILE)
@click.option(
    "--samples",
    type=FILE,
    required=True,
    help="Inputs to measure on and to fit to, as of compress.",
)
@click.option(
    "--test",
    type=FILE,
    help="Other inputs to judge on; with `labels`, by accuracy.  [default: a part of --samples "
    "that is set aside]",
)
@click.option(
    "--report",
    type=FILE,
    required=True,
    help="Write report.json and report.html here, with plots and the command of every point.",
)
@click.option(
    "--sizes",
    callback=_numbers,
    metavar="SHARE,...",
    help=f"Shares of the bytes to keep.  [default: {','.join(map(str, DEFAULT_SIZES))}]",
)
@click.option(
    "--methods",
    callback=_names,
    metavar="NAME,...",
    help=f"{'; '.join(f'{name}: {one.meaning}' for name, one in METHODS.items())}.  "
    f"[default: {','.join(DEFAULT_METHODS)}]",
)
@click.option("--keep", is_flag=True, help="Keep the models, in the report's folder `models`.")
@together(*pattern_options)
@together(
    max_samples_option,
    input_shape_option,
    provider_option,
    seed_option,
    memory_option,
    cache_option,
    force_option,
)
def sweep(
    model: Path,
    samples: Path,
    test: Path | None,
    report: Path,
    sizes: tuple[float, ...],
    methods: tuple[str, ...],
    keep: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    max_samples: int | None,
    input_shape: tuple[str, ...],
    provider: str,
    seed: int,
    memory: int,
    cache: Path | None,
    force: bool,
) -> None:
    """Make MODEL smaller at many sizes by several methods, and judge every file.

    The report shows what is lost over bytes, MACs and the time of a run, marks each method's knee,
    and has the command that makes each file again. A size that a method cannot reach is named
    there with its reason.
    """
    check_config(report=report)
    with progress_bars() as progress:
        found = run_sweep(
            model,
            samples=samples,
            test=test,
            sizes=sizes,
            methods=methods,
            include=include,
            exclude=exclude,
            measuring=measuring(provider, seed, memory, cache, max_samples, input_shape),
            report=report,
            keep=keep,
            force=force,
            command=command_line(),
            progress=progress,
        )
    show(sweep_table(found))


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
        found = run_trace(
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
