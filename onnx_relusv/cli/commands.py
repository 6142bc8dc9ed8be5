"""The commands and their options; what they run is loaded when one of them runs."""

from typing import Any

import click

from onnx_relusv.cli.group import Commands
from onnx_relusv.cli.options import (
    CLUSTER,
    DRY_RUN,
    FILE,
    FORCE,
    JSON,
    KEYS,
    PREPROCESS,
    QUIET,
    REPORT,
    SAMPLES,
    SMALLER,
    SMALLER_UNLESS_DRY,
    TEST,
    VERBOSE,
    arguments,
    file_option,
    flag,
    options,
    samples_option,
)
from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.metric import ComparisonLimits
from onnx_relusv.core.options import ApplyOptions, MeasureOptions, PlanOptions
from onnx_relusv.core.sweeps import SweepOptions
from onnx_relusv.work.interrupts import uninterrupted

_MODEL = click.Argument(["model"], type=FILE)
# Flags that say what is printed; they are no arguments of the commands' functions.
_SHOWN = ("quiet", "verbose", "keys", "dry_run")
_PLANNING = (
    "size macs latency batch tolerance method round-to keep-at-least input-range allocation "
    "divergence metric include exclude precision int8-format pack times"
)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="onnx-relusv")
def cli() -> None:
    """Make a trained ONNX model smaller without training, and know what it costs.

    MODEL is an ONNX file, or a folder with model.onnx, or a single .onnx, and what is used with it;
    then --output is a folder too, with all of its files.

    Exit codes: 0 done; 2 usage; 3 an input cannot be read or does not fit; 4 the budget cannot be
    reached; 5 the result failed validation; 6 a limit of compare is exceeded; 130 interrupted, 143
    terminated; 1 anything else. Unless it is 0 or 6, no output is written and none is overwritten.
    """


def _add(name: str, help: str, *params: click.Parameter, **records: type) -> None:
    """Adds a command.

    Args:
        name: Its name, and that of the function that it runs.
        help: What --help says of it.
        *params: Its parameters in the order of --help, with the names of the function's arguments.
        **records: By argument of the function, the records that options belong to.
    """

    def run(**values: Any) -> None:
        shown = {name: values.pop(name, False) for name in _SHOWN}
        if shown["quiet"] and shown["verbose"]:
            raise UsageError("--quiet and --verbose are opposites: use one of them.")
        made = arguments(values, records)
        # Loading the libraries takes a second, which --help and --version do without. Signals
        # wait: what a library makes of an interrupt on its way is anything.
        with uninterrupted():
            from onnx_relusv.cli.running import Shown, run_command
        run_command(name, made, Shown(**shown))

    every = [*params, QUIET, VERBOSE]
    cli.add_command(click.Command(name, params=every, callback=run, help=help))


_add(
    "inspect",
    "Measure every block of MODEL: ReLU singular values, mean width, and what they would save.",
    _MODEL,
    SAMPLES,
    PREPROCESS,
    *options(MeasureOptions, "max-samples input-shape"),
    KEYS,
    JSON,
    REPORT,
    *options(MeasureOptions, "provider seed memory cache"),
    FORCE,
    measuring=MeasureOptions,
)
_add(
    "plan",
    "Decide what is done with every block of MODEL, and write a plan that can be read and edited.",
    _MODEL,
    file_option("output", "The plan, a JSON file.", required=True),
    *options(PlanOptions, _PLANNING),
    *options(PlanOptions, "max-drop confidence drop-by", hidden=True),
    SAMPLES,
    PREPROCESS,
    *options(MeasureOptions, "effort max-samples input-shape provider seed memory cache"),
    FORCE,
    planning=PlanOptions,
    measuring=MeasureOptions,
)
_add(
    "measure-latency",
    """Time MODEL and variants of it on this machine, for plans by its times that are made anywhere.

    It takes no samples. The file that it writes is what --times of plan, compress and sweep names;
    it is for one model and one --batch, and with --precision int8 for plans with integers too.
    """,
    _MODEL,
    file_option("output", "The times, a JSON file.", required=True),
    *options(PlanOptions, "batch precision int8-format pack"),
    *options(MeasureOptions, "input-shape provider seed memory cache"),
    FORCE,
    planning=PlanOptions,
    measuring=MeasureOptions,
)
_add(
    "apply",
    "Apply PLAN to MODEL, the one that it was made for, and write the smaller model.",
    _MODEL,
    click.Argument(["plan"], type=FILE),
    SMALLER,
    *options(ApplyOptions, "seed"),
    SAMPLES,
    PREPROCESS,
    *options(ApplyOptions, "effort max-samples input-shape"),
    TEST,
    JSON,
    REPORT,
    *options(ApplyOptions, "provider memory cache"),
    FORCE,
    measuring=ApplyOptions,
)
_add(
    "compress",
    """Make MODEL smaller: plan, rewrite, check, write.

    All budgets hold together. With --size, --macs or --latency, the model's outputs are changed as
    little as these allow; without samples, the largest relative error of any block is kept as small
    as they allow. --tolerance limits that error. With --max-drop, the smallest file that keeps it
    is searched for, from --size down.
    """,
    _MODEL,
    SMALLER_UNLESS_DRY,
    DRY_RUN,
    *options(PlanOptions, f"{_PLANNING} max-drop confidence drop-by"),
    SAMPLES,
    PREPROCESS,
    *options(MeasureOptions, "effort max-samples input-shape"),
    TEST,
    JSON,
    REPORT,
    *options(MeasureOptions, "provider seed memory cache"),
    FORCE,
    planning=PlanOptions,
    measuring=MeasureOptions,
)
_add(
    "compare",
    """Put two models with the same inputs and outputs side by side on samples.

    The --fail options are for pipelines: results are printed and written all the same, and the exit
    code is 6.
    """,
    click.Argument(["before"], metavar="A", type=FILE),
    click.Argument(["after"], metavar="B", type=FILE),
    samples_option("samples", "Inputs to compare on; with `labels` for accuracy.", required=True),
    PREPROCESS,
    *options(ComparisonLimits, "fail-below-agreement fail-above-change fail-above-drop"),
    *options(MeasureOptions, "max-samples input-shape"),
    *options(PlanOptions, "metric"),
    JSON,
    REPORT,
    *options(MeasureOptions, "provider seed"),
    FORCE,
    limits=ComparisonLimits,
    measuring=MeasureOptions,
)
_add(
    "trace",
    """Measure what every input does in every block of MODEL: its activated operators.

    Of each: active units, mean width, largest ReLU singular value, and the distance to the nearest
    point at which a unit switches. With labels, how well each of them tells wrong answers.
    """,
    _MODEL,
    samples_option(
        "samples",
        "Inputs to measure; with `labels`, to see what tells right answers from wrong ones.",
        required=True,
    ),
    PREPROCESS,
    flag(
        "exact",
        "Compute the mean widths too, and not only bound them: slow, an eigendecomposition for "
        "every input, block and output position.",
    ),
    *options(MeasureOptions, "max-samples input-shape"),
    JSON,
    REPORT,
    *options(MeasureOptions, "provider seed memory"),
    FORCE,
    measuring=MeasureOptions,
)
_add(
    "sweep",
    """Make MODEL smaller at many sizes by several methods, and judge every file.

    The report shows what is lost over bytes, MACs and the time of a run, marks each method's knee,
    and has the command that makes each file again. A size that a method cannot reach is named
    there with its reason.
    """,
    _MODEL,
    samples_option("samples", "Inputs to measure on and to fit to, as of compress.", required=True),
    PREPROCESS,
    samples_option(
        "test",
        "Other inputs to judge on; with `labels`, by accuracy.  [default: a part of --samples "
        "that is set aside]",
    ),
    file_option(
        "report",
        "Write report.json and report.html here, with plots and the command of every point.",
        required=True,
    ),
    *options(SweepOptions, "sizes methods"),
    flag("keep", "Keep the models, in the report's folder `models`."),
    file_option(
        "peers",
        "Files of others to draw beside these: a JSON list of objects with name, bytes (share of "
        "the original's), accuracy (share) or drop (in the curves' unit), and if known macs and "
        "latency (shares).",
    ),
    *options(SweepOptions, "include exclude int8-format pack times"),
    *options(MeasureOptions, "effort max-samples input-shape provider seed memory cache"),
    CLUSTER,
    FORCE,
    sweeping=SweepOptions,
    measuring=MeasureOptions,
)
