"""Options of the command line, made of what the fields of records declare.

Files and flags belong to no record; those that several commands have are declared here.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnx_relusv.core.arguments import Option, as_path, nested_records, options_of
from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.results import joined_text
from onnx_relusv.work.python_files import load_metric, names_function

if TYPE_CHECKING:
    from onnx_relusv.samples.sources import SampleSource


class _File(click.Path):
    """A path; one that cannot be one is a usage error that says so."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path."""
        return as_path("path" if param is None else param.human_readable_name, value)


class _Samples(_File):
    """Samples: a path, or a function of a Python file that gives feeds."""

    def convert(  # type: ignore[override]
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> "SampleSource":
        """Where samples come from; a file whose code is asked for is run."""
        # Its libraries take a moment, which --help does without.
        from onnx_relusv.samples.sources import as_source, feeds_of

        option = "samples" if param is None else param.human_readable_name
        if isinstance(value, str) and names_function(value) and not Path(value).exists():
            return feeds_of(f"--{option}", value)
        return as_source(option, value)


class Preprocess(click.ParamType[str]):
    """A setting of how pictures become inputs, a preset's name, or the path of a TOML file."""

    name = "text"

    def from_folder(self, value: str, folder: Path) -> str:
        """The same from anywhere, where relative paths start at a folder."""
        if "=" not in value:
            return str(folder / value) if value.endswith(".toml") else value
        key, _, file = value.partition("=")
        is_file = key == "classes" and file != "sorted"
        return f"{key}={folder / file}" if is_file else value


class CountOr(click.ParamType[int | str]):
    """A whole number from one that is the least, or a word.

    Args:
        least: The number.
        word: The word.
    """

    name = "number"

    def __init__(self, least: int, word: str) -> None:
        self.word, self._numbers = word, click.IntRange(least)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """The number or the word."""
        if value == self.word:
            return self.word
        try:
            found: int = self._numbers.convert(value, param, ctx)
        except click.BadParameter as error:
            raise click.BadParameter(f"{error.message} Or use {self.word}.", ctx, param) from error
        return found

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """What stands for it in help."""
        return f"[{self.word}|N]"


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(map(float, text.split(",")))
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: use numbers between commas.") from error


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


class _UnlessDry(click.Option):
    """An option that has to be given, but for a dry run."""

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """The value; None where there is none in a dry run."""
        try:
            return super().process_value(ctx, value)
        except click.MissingParameter:
            if ctx.params.get("dry_run"):
                return None
            raise


FILE = _File(path_type=Path)
_SAMPLES = _Samples(path_type=Path)
_PREPROCESS = Preprocess()


def file_option(name: str, help: str, *, required: bool = False) -> click.Option:
    """An option that names a file or a folder."""
    return click.Option([f"--{name}"], type=FILE, required=required, help=help)


def samples_option(name: str, help: str, *, required: bool = False) -> click.Option:
    """An option that names samples."""
    return click.Option([f"--{name}"], type=_SAMPLES, required=required, help=help)


def flag(name: str, help: str) -> click.Option:
    """An option without a value."""
    return click.Option([f"--{name}"], is_flag=True, help=help)


SAMPLES = samples_option(
    "samples",
    "Inputs to measure on: .npz with the input names as keys, .npy, a folder of "
    "test_data_set_*, one of pictures with --preprocess, or own.py:feeds, a function whose code is "
    "executed and that gives feeds.",
)
TEST = samples_option(
    "test",
    "Other inputs to judge the result on; with `labels`, by accuracy.  [default: those of "
    "--samples that nothing is fitted to]",
)
PREPROCESS = click.Option(
    ["--preprocess"],
    type=_PREPROCESS,
    multiple=True,
    metavar="PRESET|FILE.toml|KEY=VALUE",
    help="How pictures become inputs, where samples are a folder of them: a preset (imagenet), a "
    "file with settings, or single ones, such as size=224. Repeat it; later ones win.",
)
_SMALLER_HELP = "The smaller model; where MODEL is a folder, a new one with all of its files."
SMALLER = file_option("output", _SMALLER_HELP, required=True)
SMALLER_UNLESS_DRY = _UnlessDry(["--output"], type=FILE, required=True, help=_SMALLER_HELP)
QUIET = flag("quiet", "Print warnings and errors alone, and with --json - the JSON.")
VERBOSE = flag(
    "verbose",
    "Print all figures of the summary and what was checked, and on standard error how long every "
    "stage took.",
)
KEYS = flag(
    "keys", "Print the keys of the blocks alone, one a line, as --include and --exclude take them."
)
DRY_RUN = click.Option(
    ["--dry-run"],
    is_flag=True,
    is_eager=True,  # it decides whether --output is missing
    help="Print the plan and what it is expected to cost; fit, check and write nothing, so that it "
    "takes no --output. Not with --max-drop, which has to try files.",
)
CLUSTER = click.Option(
    ["--cluster"],
    metavar="ADDRESS",
    help="Have workers of the dask cluster whose scheduler is there, as tcp://HOST:8786, make the "
    "points. They see model, samples and --cache under the same paths.",
)
JSON = file_option(
    "json",
    "Write all figures to this file; with -, to standard output, and tables to standard error.",
)
REPORT = file_option("report", "Write report.json and report.html here.")
FORCE = flag("force", "Overwrite outputs that exist, if they are regular files.")


def options(record: type, names: str, *, hidden: bool = False) -> list[click.Option]:
    """Options that a record, or one in it, declares.

    Args:
        record: The record.
        names: Their long names, in the order of --help, with spaces between them.
        hidden: Whether --help leaves them out, since they are only there to be refused.
    """
    declared = {
        option.name: option
        for kind in (record, *nested_records(record).values())
        for option in options_of(kind).values()
    }
    return [_option(declared[name], hidden=hidden) for name in names.split()]


def _option(declared: Option, *, hidden: bool) -> click.Option:
    default, help = declared.default, declared.help
    if declared.joined:
        help = f"{help}  [default: {joined_text(default)}]"
    # Where nothing is given, the record has its own default.
    shown = default is not None and not isinstance(default, tuple)
    return click.Option(
        [f"--{declared.name}", declared.field],
        type=_type(declared),
        multiple=declared.kind == tuple[str, ...] and not declared.joined,
        nargs=2 if declared.kind == tuple[float, float] else 1,
        metavar=declared.metavar,
        hidden=hidden,
        help=help,
        default=default if shown else None,
        show_default=shown,
    )


def _type(declared: Option) -> Any:
    kind = declared.kind
    if declared.choices:
        return click.Choice(declared.choices)
    if declared.joined:
        return _numbers if kind == tuple[float, ...] else _names
    if kind is Path:
        return FILE
    # Open ranges are left to the record, whose message says what they mean.
    if declared.limits is not None and declared.limits.above is None:
        least, most = declared.limits.least, declared.limits.most
        if declared.word:
            return CountOr(int(least), declared.word)
        if kind is int:
            return click.IntRange(int(least))
        return click.FloatRange(least, most if most < sys.float_info.max else None)
    if kind in (float, tuple[float, float]):
        return click.FLOAT
    return click.STRING


def arguments(values: Mapping[str, Any], records: Mapping[str, type]) -> dict[str, Any]:
    """The arguments of a command's function.

    Args:
        values: By name, the values of all parameters.
        records: By argument, the records that some of them belong to.

    Raises:
        UsageError: A value is out of range, or values do not go together.
        InputError: The file of a metric cannot be read, or its code fails.
    """
    left = dict(values)
    if "preprocess" in left:
        left |= _pictures(left.pop("preprocess"), left)
    if left.get("metric") is not None:
        left["metric"] = load_metric(left["metric"])
    made = {argument: _record(kind, left) for argument, kind in records.items()}
    return {**left, **made}


def _pictures(settings: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """The samples that are folders of pictures, as they are to be prepared, by parameter."""
    if not settings:
        return {}
    from onnx_relusv.samples.images import Images, is_folder_of_pictures

    given = {name: values[name] for name in ("samples", "test") if values.get(name) is not None}
    folders = {name: one for name, one in given.items() if is_folder_of_pictures(one)}
    if not folders:
        raise UsageError("--preprocess is for --samples that are a folder of pictures; leave it.")
    return {name: Images(one.name, *settings) for name, one in folders.items()}


def _record(kind: type, left: dict[str, Any]) -> Any:
    """A record of the values that are its own, which are taken out of what is left."""
    found = {name: _record(nested, left) for name, nested in nested_records(kind).items()}
    for each in fields(kind):
        value = left.pop(each.name, None) if each.name in options_of(kind) else None
        if value is not None:
            found[each.name] = value
    return kind(**found)
