"""The command that measures the whole curve of what is lost over what is left."""

from pathlib import Path

import click

from onnx_relusv import pipeline
from onnx_relusv.cli.bars import progress_bars
from onnx_relusv.cli.options import (
    FILE,
    cache_option,
    force_option,
    input_shape_option,
    max_samples_option,
    measuring,
    memory_option,
    pattern_options,
    provider_option,
    seed_option,
    together,
)
from onnx_relusv.cli.terminal import check_config, command_line, show
from onnx_relusv.report.sweep_table import sweep_table
from onnx_relusv.sweeping.methods import METHODS
from onnx_relusv.sweeping.options import DEFAULT_METHODS, DEFAULT_SIZES


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
        found = pipeline.sweep(
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
