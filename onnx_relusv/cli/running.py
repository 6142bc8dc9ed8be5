"""Runs a command: checks, the function with bars of its progress, and what it found on screen."""

import shlex
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from onnx_relusv.cli.bars import progress_bars
from onnx_relusv.cli.config import check_config
from onnx_relusv.cli.streams import PROGRAM
from onnx_relusv.commands.compare import check_limits, compare
from onnx_relusv.commands.compress import apply, compress, plan
from onnx_relusv.commands.inspect import inspect
from onnx_relusv.commands.measure_latency import measure_latency
from onnx_relusv.commands.sweep import sweep
from onnx_relusv.commands.trace import trace
from onnx_relusv.core.codec import json_text
from onnx_relusv.core.plans import Plan
from onnx_relusv.planning.latency.times_file import ModelTimes
from onnx_relusv.report import words
from onnx_relusv.report.files import report_data
from onnx_relusv.report.terminal import plan_parts, report_parts

# In place of a file's name: standard output.
STANDARD_OUTPUT = Path("-")


@dataclass(frozen=True)
class _Command:
    """What a command runs, and how it is shown.

    Attributes:
        function: The function.
        table: Makes of its result what is printed.
        data: Makes of its result what --json has, if the command has that.
        ending: The last line, with the function's arguments by name.
    """

    function: Callable[..., Any]
    table: Callable[[Any], Iterable[RenderableType]]
    data: Callable[[Any], Any] | None = None
    ending: str = ""


def _plan_lines(made: Plan) -> Iterable[RenderableType]:
    changed = sum(not choice.is_kept for choice in made.choices)
    time = "" if made.latency is None else f", about {made.latency:.1%} of the time"
    yield from plan_parts(made)
    yield (
        f"{changed} of {len(made.choices)} blocks change at a relative error of {made.level:.4g}: "
        f"{made.size:.1%} of the bytes, {made.macs:.1%} of the MACs{time}."
    )
    if made.damage_measure is not None:
        yield f"Damage measured as {words.printable(made.damage_measure)}."


def _plan(*, command: str, **arguments: Any) -> Plan:
    return plan(**arguments)  # a plan does not say what made it


def _measure_latency(*, command: str, **arguments: Any) -> ModelTimes:
    return measure_latency(**arguments)  # nor do times


def _times_lines(made: ModelTimes) -> Iterable[RenderableType]:
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
    "inspect": _Command(inspect, report_parts, report_data),
    "plan": _Command(_plan, _plan_lines, ending="The plan is in {output}."),
    "measure-latency": _Command(
        _measure_latency, _times_lines, ending="The times are in {output}."
    ),
    "apply": _Command(apply, report_parts, report_data),
    "compress": _Command(compress, report_parts, report_data),
    "compare": _Command(compare, report_parts, report_data),
    "trace": _Command(trace, report_parts, report_data),
    "sweep": _Command(sweep, report_parts),
}


def run_command(name: str, arguments: dict[str, Any]) -> None:
    """Runs a command and prints what it found.

    With `--json -` that goes to standard error, and the figures alone to standard output.

    Args:
        name: The command's.
        arguments: Of its function, but for its command line and its progress.

    Raises:
        ReluSvError: As of the function, or a limit of a comparison is exceeded.
    """
    check_config(arguments)
    command = _COMMANDS[name]
    alone = arguments.get("json") == STANDARD_OUTPUT
    if alone:
        arguments["json"] = None
    line = shlex.join([PROGRAM, *sys.argv[1:]])
    with progress_bars() as progress:
        found = command.function(**arguments, command=line, progress=progress)
    if alone and command.data is not None:
        print(json_text(command.data(found)))
    console = Console(stderr=alone)
    for part in command.table(found):
        console.print(part, markup=False, highlight=False)
    if command.ending:
        console.print(command.ending.format(**arguments), markup=False, highlight=False)
    if "limits" in arguments:
        check_limits(found, arguments["limits"])
