"""Runs a command: checks, the function with bars of its progress, and what it found on screen."""

import shlex
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from onnx_relusv.cli.bars import progress_bars
from onnx_relusv.cli.config import check_config
from onnx_relusv.cli.streams import PROGRAM
from onnx_relusv.cli.time_left import expected
from onnx_relusv.commands.compare import check_limits, compare
from onnx_relusv.commands.compress import apply, compress, plan
from onnx_relusv.commands.inspect import block_keys, inspect
from onnx_relusv.commands.measure_latency import measure_latency
from onnx_relusv.commands.sweep import sweep
from onnx_relusv.commands.trace import trace
from onnx_relusv.core.codec import json_text
from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.options import PlanOptions
from onnx_relusv.core.plans import Plan
from onnx_relusv.planning.latency.times_file import ModelTimes
from onnx_relusv.report import words
from onnx_relusv.report.files import report_data
from onnx_relusv.report.pages import Report
from onnx_relusv.report.terminal import (
    choice_parts,
    plan_parts,
    plan_summary,
    report_parts,
    warning_parts,
)
from onnx_relusv.work.executors import Silent
from onnx_relusv.work.pools import cluster

# In place of a file's name: standard output.
STANDARD_OUTPUT = Path("-")


@dataclass(frozen=True)
class _Command:
    """What a command runs, and how it is shown.

    Attributes:
        function: The function.
        table: Makes of its result what is printed; told whether in short.
        data: Makes of its result what --json has, if the command has that.
        ending: The last line, with the function's arguments by name.
        warnings: Makes of its result what is printed where all else is not.
    """

    function: Callable[..., Any]
    table: Callable[[Any, bool], Iterable[RenderableType]]
    data: Callable[[Any], Any] | None = None
    ending: str = ""
    warnings: Callable[[Any], Iterable[RenderableType]] = warning_parts


def _plan_lines(made: Plan, short: bool) -> Iterable[RenderableType]:
    yield from plan_parts(made)
    yield plan_summary(made)


def _dry_run_lines(made: Plan, short: bool) -> Iterable[RenderableType]:
    yield from choice_parts(made)
    yield from _plan_lines(made, short)
    yield "Nothing was written: that was a plan."


def _report_lines(report: Report, short: bool) -> Iterable[RenderableType]:
    return report_parts(report, short=short)


def _plan(*, command: str, **arguments: Any) -> Plan:
    return plan(**arguments)  # a plan does not say what made it


def _measure_latency(*, command: str, **arguments: Any) -> ModelTimes:
    return measure_latency(**arguments)  # nor do times


def _times_lines(made: ModelTimes, short: bool) -> Iterable[RenderableType]:
    shares = [one.after / one.before for one in made.variants]
    threads = made.timed_on.threads
    yield (
        f"{words.counted(len(shares), 'variant')} timed at batch {made.batch} on "
        f"{words.printable(made.timed_on.machine)} ({made.timed_on.provider}, onnxruntime "
        f"{made.timed_on.onnxruntime}"
        + ("" if threads is None else f", {words.counted(threads, 'thread')}")
        + f"): {words.seconds(made.variants[0].before)} as it is, {min(shares):.2f} to "
        f"{max(shares):.2f} of that with less in it."
    )


_COMMANDS = {
    "inspect": _Command(inspect, _report_lines, report_data),
    "plan": _Command(_plan, _plan_lines, ending="The plan is in {output}."),
    "measure-latency": _Command(
        _measure_latency, _times_lines, ending="The times are in {output}.", warnings=lambda _: ()
    ),
    "dry-run": _Command(_plan, _dry_run_lines),
    "apply": _Command(apply, _report_lines, report_data),
    "compress": _Command(compress, _report_lines, report_data),
    "compare": _Command(compare, _report_lines, report_data),
    "trace": _Command(trace, _report_lines, report_data),
    "sweep": _Command(sweep, _report_lines),
}


@dataclass(frozen=True)
class Shown:
    """What is printed of a run.

    Attributes:
        quiet: Warnings and errors alone.
        verbose: All figures, and how long every stage took.
        keys: The keys of the blocks alone; nothing is measured.
        dry_run: The plan and what it is expected to cost; nothing is written.
    """

    quiet: bool = False
    verbose: bool = False
    keys: bool = False
    dry_run: bool = False


def run_command(name: str, arguments: dict[str, Any], shown: Shown = Shown()) -> None:
    """Runs a command and prints what it found.

    With `--json -` that goes to standard error, and the figures alone to standard output.

    Args:
        name: The command's.
        arguments: Of its function, but for its command line and its progress.
        shown: What is printed.

    Raises:
        ReluSvError: As of the function, or a limit of a comparison is exceeded.
    """
    check_config(arguments)
    if shown.keys:
        _print_keys(arguments)
        return
    if shown.dry_run:
        name, arguments = "dry-run", _of_plan(arguments)
    command = _COMMANDS[name]
    alone = arguments.get("json") == STANDARD_OUTPUT
    if alone:
        arguments["json"] = None
    line = shlex.join([PROGRAM, *sys.argv[1:]])
    address = arguments.pop("cluster", None)
    bars = progress_bars(stages=expected(name, arguments), every_stage=shown.verbose)
    with ExitStack() as stack:
        if address is not None:
            arguments["executor"] = stack.enter_context(cluster(address))
        stages = stack.enter_context(nullcontext(Silent()) if shown.quiet else bars)
        found = command.function(**arguments, command=line, progress=stages)
    if alone and command.data is not None:
        print(json_text(command.data(found)))
    if shown.quiet:
        for part in command.warnings(found):
            Console(stderr=True).print(part, markup=False, highlight=False)
    else:
        console = Console(stderr=alone)
        for part in command.table(found, not shown.verbose):
            console.print(part, markup=False, highlight=False)
        if command.ending:
            console.print(command.ending.format(**arguments), markup=False, highlight=False)
    if "limits" in arguments:
        check_limits(found, arguments["limits"])


def _of_plan(arguments: dict[str, Any]) -> dict[str, Any]:
    """What `plan` takes of the arguments of `compress`."""
    planning: PlanOptions = arguments["planning"]
    if planning.budgets.max_drop is not None:
        raise UsageError(
            "--dry-run plans and tries no file, which --max-drop has to. Use --size, or leave "
            "--dry-run out."
        )
    taken = {name: arguments[name] for name in ("model", "samples", "planning", "measuring")}
    return {**taken, "output": None, "force": False}


def _print_keys(arguments: dict[str, Any]) -> None:
    for name in ("samples", "json", "report"):
        if arguments[name] is not None:
            raise UsageError(f"--keys measures nothing: leave --{name} out, or --keys.")
    for key in block_keys(arguments["model"], measuring=arguments["measuring"]):
        print(words.printable(key))
