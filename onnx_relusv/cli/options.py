"""The options that several commands share, as decorators, and the settings made of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from onnx_relusv.core.arguments import as_path
from onnx_relusv.core.metric import Metric
from onnx_relusv.core.options import DEFAULT_MEMORY, LEAST_MEMORY, MeasureOptions, PlanOptions
from onnx_relusv.core.plans import Budgets
from onnx_relusv.work.metric_file import load_metric

Command = Callable[..., Any]


class _File(click.Path):
    """A path; one that no file can have is a usage error."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path."""
        return as_path("path" if param is None else param.human_readable_name, value)


FILE = _File(path_type=Path)


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in the order in which --help shows them."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


samples_option = click.option(
    "--samples",
    type=FILE,
    help="Inputs to measure on: .npz with the input names as keys, .npy, or a folder of "
    "test_data_set_*.",
)
input_shape_option = click.option(
    "--input-shape",
    multiple=True,
    metavar="NAME=1x80x200",
    help="The shape of an input where the model is run without samples; found if not given. "
    "Repeat it for further inputs.",
)
max_samples_option = click.option(
    "--max-samples",
    type=click.IntRange(min=1),
    metavar="N",
    help="Draw so many of the samples at most, by the seed; groups stay whole.",
)
provider_option = click.option(
    "--provider",
    type=click.Choice(["auto", "cuda", "cpu"]),
    default="auto",
    show_default=True,
    help="Where graphs run; auto takes CUDA where it works.",
)
seed_option = click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Makes a run repeatable.",
)
memory_option = click.option(
    "--memory",
    type=click.IntRange(min=LEAST_MEMORY),
    default=DEFAULT_MEMORY,
    show_default=True,
    metavar="MIB",
    help="What measuring may hold besides the model itself and what its largest block needs. With "
    "less, samples run through the model more often and fewer blocks are measured at once; a block "
    "whose covariance alone exceeds it is measured by a factored one.",
)
cache_option = click.option(
    "--cache",
    type=FILE,
    metavar="DIR",
    help="Keep what long work finds in this folder, and take what is there: a run that was "
    "interrupted goes on where it was.",
)
force_option = click.option(
    "--force", is_flag=True, help="Overwrite outputs that exist, if they are regular files."
)
json_option = click.option(
    "--json",
    "json_path",
    type=FILE,
    help="Write all figures to this file; with -, to standard output, and tables to standard "
    "error.",
)
test_option = click.option(
    "--test",
    type=FILE,
    help="Other inputs to judge the result on; with `labels`, by accuracy.  [default: those of "
    "--samples that nothing is fitted to]",
)
report_option = click.option("--report", type=FILE, help="Write report.json and report.html here.")
metric_option = click.option(
    "--metric",
    metavar="FILE.py:FUNCTION",
    help="Judge by function(outputs, labels) -> float, higher is better, in place of top-1: all "
    "outputs in the graph's order as (samples, ...) arrays, and the labels, or None. The file's "
    "code is executed. With plan, it counts for --divergence metric alone.",
)
pattern_options = (
    click.option(
        "--include",
        multiple=True,
        metavar="PATTERN",
        help="Change only blocks that this matches: a glob on a block's key or on the name of one "
        "of its nodes, or op: and an operator, as in op:Conv. Units are removed only where all "
        "blocks that write and read them may change. A pattern that matches nothing is an error.",
    ),
    click.option(
        "--exclude",
        multiple=True,
        metavar="PATTERN",
        help="Keep what this matches, patterns as of --include. It wins over --include.",
    ),
)
planning_options_group = together(
    click.option("--size", type=float, help="Share of the bytes to keep, external data included."),
    click.option("--macs", type=float, help="Share of the multiply-accumulates to keep."),
    click.option(
        "--latency",
        type=float,
        help="Share of the time of a run to keep, measured here with onnxruntime's own settings.",
    ),
    click.option(
        "--batch",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Samples in a run that latency is measured at; a fixed batch of the model goes first.",
    ),
    click.option(
        "--tolerance",
        type=float,
        help="The common level: largest relative error of any block.  [default without a budget: "
        "0.02, 0.1 where nothing is known of the inputs]",
    ),
    click.option(
        "--method",
        type=click.Choice(["auto", "double-layer", "harmonic"]),
        default="auto",
        show_default=True,
        help="double-layer prunes ranks. harmonic removes neurons and channels, in balance over "
        "all groups that share them. auto does both, by the damage that each does for its bytes, "
        "where that is measured, and makes double layers elsewhere.",
    ),
    click.option(
        "--round-to",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Where units are removed, leave multiples of so many channels.",
    ),
    click.option(
        "--keep-at-least",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Where units are removed, leave no fewer channels.",
    ),
    click.option(
        "--input-range",
        type=float,
        nargs=2,
        metavar="LOW HIGH",
        help="Every value of the model's inputs lies between these; samples outside are refused. "
        "Without samples, the synthetic inputs that units are removed by have this scale.",
    ),
    click.option(
        "--allocation",
        type=click.Choice(["auto", "level", "damage"]),
        default="auto",
        show_default=True,
        help="level: one common level for all blocks. damage: the least total damage to the "
        "model's outputs, measured on a part of the samples. auto: damage where there are samples, "
        "or with --method harmonic synthetic ones, and a --size, --macs or --latency.",
    ),
    click.option(
        "--divergence",
        type=click.Choice(["auto", "kl", "l2", "metric"]),
        default="auto",
        show_default=True,
        help="What damage is. kl: the Kullback-Leibler divergence of class scores. l2: the squared "
        "relative error of all outputs. metric: what the --metric loses. auto: kl where there are "
        "class scores.",
    ),
    metric_option,
    *pattern_options,
)


def drop_options(*, hidden: bool = False) -> Callable[[Command], Command]:
    """--max-drop and --confidence; hidden where they are known only to be refused."""
    return together(
        click.option(
            "--max-drop",
            type=float,
            metavar="POINTS",
            hidden=hidden,
            help="Find the smallest file that loses at most so much accuracy, certified on a part "
            "of the samples. Without labels: of which at most so many answers in a hundred change. "
            "With a --metric: that loses at most so much of it, in its own units and not in "
            "points; that is estimated, not exact.",
        ),
        click.option(
            "--confidence",
            type=float,
            hidden=hidden,
            help="The probability with which --max-drop has to hold.  [default: 0.95]",
        ),
    )


def measuring(
    provider: Any,
    seed: int,
    memory: int = DEFAULT_MEMORY,
    cache: Path | None = None,
    max_samples: int | None = None,
    input_shape: tuple[str, ...] = (),
) -> MeasureOptions:
    """The settings of these options; click has checked the provider's name."""
    return MeasureOptions(
        provider=provider,
        seed=seed,
        memory=memory,
        cache=cache,
        max_samples=max_samples,
        input_shape=input_shape,
    )


def planning_options(
    size: float | None,
    macs: float | None,
    latency: float | None,
    batch: int,
    tolerance: float | None,
    max_drop: float | None,
    confidence: float | None,
    method: Any,
    round_to: int,
    keep_at_least: int,
    input_range: tuple[float, float] | None,
    allocation: Any,
    divergence: Any,
    metric: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
) -> PlanOptions:
    """The settings of the options in `planning_options_group` and of `drop_options`."""
    budgets = Budgets(
        size=size,
        macs=macs,
        latency=latency,
        tolerance=tolerance,
        max_drop=max_drop,
        confidence=confidence,
    )
    return PlanOptions(
        budgets=budgets,
        method=method,
        allocation=allocation,
        include=include,
        exclude=exclude,
        divergence=divergence,
        metric=metric_of(metric),
        batch=batch,
        round_to=round_to,
        keep_at_least=keep_at_least,
        input_range=input_range,
    )


def metric_of(text: str | None) -> Metric | None:
    """The metric of --metric, read from its file; None where none was given."""
    return None if text is None else load_metric(text)
