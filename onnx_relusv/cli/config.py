"""Options from a file: --config relusv.toml.

At its top level stand options of any command by their long names; a command takes those that it
has. In a table with a command's name stand options of that command alone. What is given on the
command line wins. Relative paths start at the file's own folder, wherever the command is run.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from onnx_relusv.cli.options import FILE, CountOr, Preprocess
from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.work.files import REPORT_FILES, kind_of, same_place

Options = Mapping[str, click.Option]
_FILE = "onnx_relusv.config"
# Bytes; no configuration has so many options.
_LARGEST = 1 << 20
# What is about the command line itself.
_NOT_IN_FILES = ("config", "help", "keys", "dry-run")


def config_option() -> click.Option:
    """--config, read before all other options so that it can stand in for them."""
    return click.Option(
        ["--config"],
        type=FILE,
        metavar="TOML",
        is_eager=True,
        expose_value=False,
        callback=_use,
        help="Read options from this file, by their long names: for all commands, and in tables "
        "like [compress] for one. The command line wins.",
    )


def check_config(arguments: Mapping[str, object]) -> None:
    """Checks that no output is the file of --config; all else is checked by what is called.

    Args:
        arguments: Of the command's function, by name.

    Raises:
        UsageError: One is.
    """
    config = click.get_current_context().meta.get(_FILE)
    if config is None:
        return
    written = [arguments.get(name) for name in ("output", "json")]
    if isinstance(report := arguments.get("report"), Path):
        written += [report / name for name in REPORT_FILES]
    for path in written:
        if isinstance(path, Path) and same_place(path, config):
            raise UsageError(f"{path}: the output is the --config too; choose another name.")


def _use(context: click.Context, option: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    context.meta[_FILE] = path
    group = context.find_root().command
    assert isinstance(group, click.Group)  # which has given the command this option
    commands = {name: _options(command) for name, command in group.commands.items()}
    context.default_map = _defaults(path, commands, context)


def _options(command: click.Command) -> dict[str, click.Option]:
    """A command's options by their long names; one that is hidden is there to be refused."""
    return {
        name.removeprefix("--"): option
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden
        for name in option.opts
        if name.startswith("--") and name.removeprefix("--") not in _NOT_IN_FILES
    }


def _defaults(
    path: Path, commands: Mapping[str, Options], context: click.Context
) -> dict[str, object]:
    """What a file says for the command of a context, by the parameters' names.

    Raises:
        InputError: The file cannot be read or is no TOML.
        UsageError: Something in it, whichever command it is for, is unknown or of a wrong type.
    """
    shared: dict[str, object] = {}
    special: dict[str, object] = {}
    for name, value in _read(path).items():
        if not isinstance(value, dict):
            having = {other: known for other, known in commands.items() if name in known}
            if not having:
                known = sorted({key for options in commands.values() for key in options})
                raise UsageError(
                    f"{path}: {name}: no command has such an option; use {', '.join(known)}."
                )
            entries = [(other, f"{path}: {name}", name, value) for other in having]
        elif name in commands:
            entries = [(name, f"{path}: [{name}] {key}", key, each) for key, each in value.items()]
        else:
            raise UsageError(f"{path}: [{name}] is no command; use {', '.join(sorted(commands))}.")
        for command, where, key, each in entries:
            if key not in commands[command]:
                known = sorted(commands[command])
                raise UsageError(f"{where}: {command} has no such option; use {', '.join(known)}.")
            option = commands[command][key]
            found = _checked(where, option, each, path.parent, context)
            if command == context.command.name:
                (special if isinstance(value, dict) else shared)[option.name or key] = found
    return shared | special


def _read(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file():
            what = f"is {kind_of(path)}" if os.path.lexists(path) else "No such file"
            raise InputError(f"--config {path}: cannot be read ({what}). Name a file of TOML.")
        if path.stat().st_size > _LARGEST:
            raise InputError(f"--config {path}: is too large to be options.")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--config {path}: cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"--config {path}: not TOML ({error}).") from error


def _checked(
    where: str, option: click.Option, value: object, folder: Path, context: click.Context
) -> object:
    """A value as click takes it from a command line, of the type that the option has."""
    expected, fits = _expected(option, value)
    if not fits:
        raise UsageError(f"{where} = {value!r}: use {expected}.")
    if isinstance(value, list):
        if isinstance(option.type, Preprocess):
            return [option.type.from_folder(each, folder) for each in value]
        return value
    if isinstance(option.type, click.Path):
        return str(folder / str(value))
    try:
        option.type.convert(value, option, context)
    except click.BadParameter as error:
        raise UsageError(f"{where} = {value!r}: {error.message}") from error
    return value


def _expected(option: click.Option, value: object) -> tuple[str, bool]:
    """What a file has to hold for an option, in words, and whether a value is that."""
    values = value if isinstance(value, list) else []
    if option.multiple:
        words = 'a list of texts, as in ["a", "b"]'
        return words, isinstance(value, list) and all(isinstance(each, str) for each in values)
    if option.nargs > 1:
        return f"a list of {option.nargs} numbers", (
            len(values) == option.nargs and all(_is_number(each) for each in values)
        )
    if option.is_flag:
        return "true or false", isinstance(value, bool)
    if isinstance(option.type, CountOr):
        words = f'a whole number, or "{option.type.word}"'
        return words, value == option.type.word or (_is_number(value) and isinstance(value, int))
    if isinstance(option.type, click.types.IntParamType):
        return "a whole number", _is_number(value) and isinstance(value, int)
    if isinstance(option.type, click.types.FloatParamType):
        return "a number", _is_number(value)
    words = "a text"
    if isinstance(option.type, click.Path):
        words = "a path"
    elif isinstance(option.type, click.Choice):
        words = f"one of {', '.join(option.type.choices)},"
    return f"{words} in quotes", isinstance(value, str)


def _is_number(value: object) -> bool:
    # True and false are whole numbers to Python.
    return isinstance(value, int | float) and not isinstance(value, bool)
