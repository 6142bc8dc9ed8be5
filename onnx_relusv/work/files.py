"""Paths checked before any work: inputs that can be read, and outputs that replace nothing else."""

import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from onnx_relusv.core.errors import InputError, ReluSvError, UsageError

REPORT_FILES = ("report.json", "report.html")
# What is put behind a model's name for its data: see graph/writing.
_DATA_NAME = "{}.00000000.data"
_DATA = re.compile(r"(.+)\.[0-9a-f]{8}\.data", re.DOTALL)
_SAMPLE_FOLDER = "test_data_set_"
_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_readable(path: Path, what: str = "", *, folder: str | None = None) -> None:
    """Checks that a path leads to a file that can be read, which may be a link to one.

    Pipes and devices are refused, those of a shell's `<(...)` too: files are read several times,
    from any place, and opening a pipe without a writer never ends.

    Args:
        path: The file.
        what: Stands in front of the path in messages, such as an option's name.
        folder: Advice for the case that the path is a folder; None for the usual one.

    Raises:
        InputError: It is missing, is no regular file, or may not be read.
    """
    name = f"{what} {path}" if what else str(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise InputError(f"{name}: there is no such file. Check the path.") from error
    except (OSError, ValueError) as error:  # a part of it is no folder, or it is no valid path
        raise InputError(f"{name}: cannot be read ({reason_of(error)}). Check the path.") from error
    if stat.S_ISDIR(mode) and folder is not None:
        raise InputError(f"{name}: this is a folder. {folder}")
    kind = _KINDS.get(stat.S_IFMT(mode), "a file")
    if kind != "a file":
        raise InputError(
            f"{name}: this is {kind}, not a file. Write what it holds to a file, and give that."
        )
    if not os.access(path, os.R_OK):
        raise InputError(f"{name}: cannot be read (Permission denied). Check its permissions.")


def reason_of(error: Exception) -> str:
    """The message of an error of the operating system, without numbers and paths."""
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


@dataclass(frozen=True)
class Targets:
    """Where the results of a run go.

    Attributes:
        model: The smaller model.
        report: The folder of its report; None where there is none.
        json: The file of its figures; None likewise.
        force: Whether regular files that are there may be replaced.
    """

    model: Path
    report: Path | None = None
    json: Path | None = None
    force: bool = False


def check_outputs(
    files: Mapping[str, Path | None],
    report: Path | None = None,
    *,
    force: bool,
    inputs: Iterable[Path] = (),
    cache: Path | None = None,
    with_data: bool = False,
) -> None:
    """Checks that all outputs can be written, and that no other file is lost by it.

    Args:
        files: By option, files that are written; None where there is none.
        report: The folder of a report, which may not exist yet.
        force: Whether existing regular files may be replaced.
        inputs: Files and folders that are read, which are never overwritten.
        cache: The folder of the cache.
        with_data: Whether files get external data, in further files beside them.

    Raises:
        UsageError: With what to do.
    """
    named = {option: path for option, path in files.items() if path is not None}
    for option, path in named.items():
        _check_name(path, option, with_data=with_data)
    written = list(named.items())
    if report is not None:
        _check_name(report, "--report")
        written += [("--report", report), *(("--report", report / name) for name in REPORT_FILES)]
    _check_collisions(written, cache)
    read = list(inputs)
    for _, path in written:
        _check_no_input(path, read)
    for path in named.values():
        _check_file(path, force=force)
    if report is not None:
        _check_report_folder(report, force=force)


def check_utf8(path: Path, error: type[ReluSvError]) -> None:
    """Checks that onnx and onnxruntime can open a model: they need a path that is UTF-8.

    Raises:
        ReluSvError: As the class `error`, where they cannot.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as cause:
        raise error(
            f"{path}: onnx and onnxruntime only open models whose path is UTF-8. Choose another "
            "name."
        ) from cause


def kind_of(path: Path) -> str:
    """What is at a path, in words; links are not followed.

    Raises:
        OSError: Nothing is, or it cannot be looked at.
    """
    return _KINDS.get(stat.S_IFMT(os.lstat(path).st_mode), "no regular file")


def same_place(first: Path, second: Path) -> bool:
    """Whether two paths lead to the same file, or would: by any spelling, links and hard links."""
    try:
        return first.samefile(second)
    except (OSError, ValueError):  # one is missing
        return _place(first) == _place(second)


def _place(path: Path) -> str:
    """The place that a path names, with links resolved but for the last part."""
    return os.path.join(os.path.realpath(path.parent), path.name)


def _check_name(path: Path, option: str, *, with_data: bool = False) -> None:
    name = _DATA_NAME.format(path.name) if with_data else path.name
    if "\0" in str(path):
        raise UsageError(f"{option}: a file's name cannot contain a NUL character.")
    length = len(os.fsencode(name))
    most = _longest_name(path.parent)
    if length > most:
        data = ", with what its external data needs," if with_data else ""
        raise UsageError(
            f"{option}: the name of {path}{data} has {length} bytes, and its folder takes {most}. "
            "Choose a shorter one."
        )


def _longest_name(folder: Path) -> int:
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError, AttributeError):  # no such folder, or no such limit
        return 255


def _check_collisions(written: list[tuple[str, Path]], cache: Path | None) -> None:
    everything = written if cache is None else [*written, ("--cache", cache)]
    for (option, path), (other_option, other) in combinations(everything, 2):
        if option == other_option:
            continue
        if same_place(path, other) or _is_data_of(path, other) or _is_data_of(other, path):
            raise UsageError(
                f"{option} and {other_option} name the same thing, {path}; choose another for one."
            )


def _is_data_of(path: Path, model: Path) -> bool:
    """Whether a path is one that a model's external data could get."""
    match = _DATA.fullmatch(path.name)
    return match is not None and same_place(path.parent / match[1], model)


def _check_no_input(path: Path, inputs: Iterable[Path]) -> None:
    for read in inputs:
        if same_place(path, read) or _is_data_of(read, path):
            raise UsageError(f"{path}: the output is an input too; choose another name.")
        if _lies_among_samples(path, read):
            raise UsageError(
                f"{path}: lies among the samples of {read}; choose another place for it."
            )


def _lies_among_samples(path: Path, samples: Path) -> bool:
    if not samples.is_dir():
        return False
    folder, place = Path(os.path.realpath(samples)), Path(_place(path))
    if not place.is_relative_to(folder):
        return False
    inner = place.relative_to(folder).parts
    return folder.name.startswith(_SAMPLE_FOLDER) or inner[0].startswith(_SAMPLE_FOLDER)


def _check_file(path: Path, *, force: bool) -> None:
    """Checks that a file is new, or a regular one that may be replaced."""
    if not os.path.lexists(path):
        _check_folder(path, path.parent)
        return
    what = kind_of(path)
    if what == "a folder":
        raise UsageError(f"{path}: is a folder; name a file in it.")
    if what == "a symbolic link":
        raise UsageError(
            f"{path}: is a symbolic link to {os.readlink(path)}, and links are neither followed "
            "nor replaced. Name the file it leads to, or another one."
        )
    if what != "a file":
        raise UsageError(f"{path}: is {what}, which is never replaced. Choose another name.")
    if not force:
        raise UsageError(f"{path}: exists already; choose another name, or overwrite with --force.")
    _check_folder(path, path.parent)


def _check_report_folder(folder: Path, *, force: bool) -> None:
    if not folder.is_dir():
        if os.path.lexists(folder):
            raise UsageError(f"{folder}: is {kind_of(folder)}; name a folder for the report.")
        _check_folder(folder, folder.parent)
        return
    for name in REPORT_FILES:
        path = folder / name
        if os.path.lexists(path) and kind_of(path) == "a file" and not force:
            raise UsageError(
                f"{path}: exists already; choose another folder, or overwrite with --force."
            )
        _check_file(path, force=force)


def _check_folder(path: Path, folder: Path) -> None:
    if not folder.is_dir():
        raise UsageError(f"{path}: the folder {folder} does not exist; create it first.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{path}: the folder {folder} is not writable.")
