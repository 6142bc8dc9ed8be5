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

from onnx_relusv.cli.options import FILE
from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.work.files import kind_of

Options = Mapping[str, click.Option]
_FILE = "onnx_relusv.config"
# Bytes; no configuration has so many options.
_LARGEST = 1 << 20
# What is about the command line itself.
_NOT_IN_FILES = ("config", "help")


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


def config_files() -> list[Path]:
    """The file that this command's options were read from, if there is one."""
    context = click.get_current_context(silent=True)
    return [] if context is None or _FILE not in context.meta else [context.meta[_FILE]]


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
    own: dict[str, object] = {}
    for name, value in _read(path).items():
        if isinstance(value, dict):
            if name not in commands:
                raise UsageError(
                    f"{path}: [{name}] is no command; use {', '.join(sorted(commands))}."
                )
            options = commands[name]
            for key, each in value.items():
                where = f"{path}: [{name}] {key}"
                if key not in options:
                    known = ", ".join(sorted(options))
                    raise UsageError(f"{where}: {name} has no such option; use {known}.")
                found = _checked(where, options[key], each, path.parent, context)
                if name == context.command.name:
                    own[options[key].name or key] = found
        else:
            having = {
                other: options[name] for other, options in commands.items() if name in options
            }
            if not having:
                known = ", ".join(sorted({key for options in commands.values() for key in options}))
                raise UsageError(f"{path}: {name}: no command has such an option; use {known}.")
            for other, option in having.items():
                found = _checked(f"{path}: {name}", option, value, path.parent, context)
                if other == context.command.name:
                    shared[option.name or name] = found
    return shared | own


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
    if option.multiple:
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise UsageError(f'{where} = {value!r}: use a list of texts, as in ["a", "b"].')
        return value
    if option.nargs > 1:
        if not _are_numbers(value, option.nargs):
            raise UsageError(f"{where} = {value!r}: use a list of {option.nargs} numbers.")
        return value
    expected, types = _expected(option)
    # True and false are whole numbers to Python.
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise UsageError(f"{where} = {value!r}: use {expected}.")
    if isinstance(option.type, click.Path):
        return str(folder / str(value))
    try:
        option.type.convert(value, option, context)
    except click.BadParameter as error:
        raise UsageError(f"{where} = {value!r}: {error.message}") from error
    return value


def _are_numbers(value: object, count: int) -> bool:
    if not isinstance(value, list) or len(value) != count:
        return False
    return all(isinstance(each, int | float) and not isinstance(each, bool) for each in value)


def _expected(option: click.Option) -> tuple[str, tuple[type, ...]]:
    """What a file has to hold for an option, in words and in Python's types."""
    if option.is_flag:
        return "true or false", (bool,)
    if isinstance(option.type, click.Path):
        return "a path in quotes", (str,)
    if isinstance(option.type, click.types.IntParamType):
        return "a whole number", (int,)
    if isinstance(option.type, click.types.FloatParamType):
        return "a number", (int, float)
    if isinstance(option.type, click.Choice):
        return f"one of {', '.join(option.type.choices)}, in quotes", (str,)
    return "a text in quotes", (str,)
