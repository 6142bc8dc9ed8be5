"""Files of a run: paths checked before any work, and finished files put in their places.

Inputs have to be files that can be read, and outputs replace nothing else. All of a run's outputs
are published, or none: they are made in hidden folders beside their places, and renamed when all is
well, so that a reader sees the old file or the new one, never half of one. Existing files are
replaced only where that was requested, and only regular ones; a file that appears meanwhile is left
alone, however late it does.
"""

import mimetypes
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from itertools import combinations
from pathlib import Path

from onnx_relusv.core.errors import InputError, ReluSvError, UsageError
from onnx_relusv.work.interrupts import uninterrupted
from onnx_relusv.work.temporary_files import folder_in

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
        folder: Advice where the path is a folder; None for the usual one.

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
    named = [(option, path) for option, path in files.items() if path is not None]
    for option, path in named:
        _check_name(path, option, with_data=with_data)
    written = list(named)
    if report is not None:
        _check_name(report, "--report")
        written += [("--report", report), *(("--report", report / name) for name in REPORT_FILES)]
    _check_collisions(written, cache)
    read = list(inputs)
    for _, path in written:
        _check_no_input(path, read)
    for _, path in named:
        _check_file(path, force=force)
    if report is not None:
        _check_report_folder(report, force=force)


def check_utf8(path: Path, error: type[ReluSvError]) -> None:
    """Raises an error of this class where onnx and onnxruntime cannot open a path: not UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError as cause:
        raise error(
            f"{path}: onnx and onnxruntime only open models whose path is UTF-8. Choose another "
            "name."
        ) from cause


def kind_of(path: Path) -> str:
    """What is at a path, in words, links not followed; OSError where it cannot be looked at."""
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
    if "\0" in str(path):
        raise UsageError(f"{option}: a file's name cannot contain a NUL character.")
    length = len(os.fsencode(_DATA_NAME.format(path.name) if with_data else path.name))
    try:
        most = os.pathconf(path.parent, "PC_NAME_MAX")
    except (OSError, ValueError, AttributeError):  # no such folder, or no such limit
        most = 255
    if length > most:
        data = ", with what its external data needs," if with_data else ""
        raise UsageError(
            f"{option}: the name of {path}{data} has {length} bytes, and its folder takes {most}. "
            "Choose a shorter one."
        )


def _check_collisions(written: list[tuple[str, Path]], cache: Path | None) -> None:
    everything = written if cache is None else [*written, ("--cache", cache)]
    for (option, path), (other_option, other) in combinations(everything, 2):
        same = same_place(path, other) or _is_data_of(path, other) or _is_data_of(other, path)
        if same and option != other_option:
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
    folder, place = Path(os.path.realpath(samples)), Path(_place(path))
    if not samples.is_dir() or not place.is_relative_to(folder):
        return False
    names = (folder.name, place.relative_to(folder).parts[0])
    is_picture = (mimetypes.guess_type(place.name)[0] or "").startswith("image/")
    return is_picture or any(name.startswith(_SAMPLE_FOLDER) for name in names)


def _check_file(path: Path, *, force: bool, other: str = "name") -> None:
    """Checks that a file is new, or a regular one that may be replaced."""
    if not os.path.lexists(path):
        _check_folder(path)
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
        raise UsageError(
            f"{path}: exists already; choose another {other}, or overwrite with --force."
        )
    _check_folder(path)


def _check_report_folder(folder: Path, *, force: bool) -> None:
    if not folder.is_dir():
        if os.path.lexists(folder):
            raise UsageError(f"{folder}: is {kind_of(folder)}; name a folder for the report.")
        _check_folder(folder)
        return
    for name in REPORT_FILES:
        _check_file(folder / name, force=force, other="folder")


def _check_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder {path.parent} does not exist; create it first.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageError(f"{path}: the folder {path.parent} is not writable.")


# What reverts steps.
_Undo = list[Callable[[], object]]
_WRITTEN: ContextVar[list[Path]] = ContextVar("written")


@contextmanager
def written_files() -> Iterator[list[Path]]:
    """The outputs that were put in their places within the block, so far."""
    written: list[Path] = []
    token = _WRITTEN.set(written)
    try:
        yield written
    finally:
        _WRITTEN.reset(token)


@contextmanager
def staged(target: Path, *, beside: bool = False) -> Iterator[Path]:
    """A hidden folder in which an output is made; gone afterwards.

    It is beside the output's place, a file or a folder, or in it if it is an existing folder, which
    may be on another disk than its parent, and is not replaced as a whole, as what is made `beside`
    it is. UsageError where no folder can be made there.
    """
    with ExitStack() as stack:
        parent = target if target.is_dir() and not beside else target.parent
        try:
            place = stack.enter_context(folder_in(parent, hidden=True))
        except OSError as error:
            raise UsageError(
                f"{target}: nothing can be written there ({error.strerror}). "
                "Choose another output or make its folder writable."
            ) from error
        yield place


def not_written(target: Path, error: OSError) -> UsageError:
    """The error of an output for which there is no room, or no permission."""
    reason = f"cannot be written ({error.strerror}). Make room, or choose another output."
    return UsageError(f"{target}: {reason}")


class Publication:
    """Files and folders made in hidden folders, and their places, in the order of publishing."""

    def __init__(self, *, force: bool) -> None:
        self._force = force
        self._moves: list[tuple[Path, Path, bool]] = []

    def add(self, made: Path, target: Path, *, whole: bool = False) -> None:
        """Adds a file, or a folder with its contents.

        An existing folder gets the files of the new one, and keeps others; folders in it are
        replaced whole, as is the folder itself where it is added so.
        """
        self._moves.append((made, target, whole))

    def commit(self) -> None:
        """Puts all in their places, or none.

        Raises:
            UsageError: A place is taken and may not be replaced, or nothing can be written; all is
                as it was before.
        """
        undo: _Undo = []
        # Signals wait, so that the message on an interrupt is true.
        with uninterrupted():
            target = Path()
            try:
                for place, (made, target, whole) in enumerate(self._moves, 1):
                    if whole:
                        _put_folder(made, target, undo, force=self._force)
                        continue
                    _put(made, target, undo, force=self._force, last=place == len(self._moves))
            except BaseException as error:
                for step in reversed(undo):
                    with suppress(OSError):
                        step()
                if isinstance(error, OSError):
                    raise not_written(target, error) from error
                raise
            _WRITTEN.get([]).extend(target for _, target, _ in self._moves)


def _put(made: Path, target: Path, undo: _Undo, *, force: bool, last: bool) -> None:
    """Puts a file or a folder in its place, and adds the steps that revert that."""
    if not made.is_dir():
        _put_file(made, target, undo, force=force, last=last)
        return
    if not os.path.lexists(target):
        try:
            _rename(made, target, undo)
            return
        except OSError:
            if not target.is_dir():
                raise
    if not target.is_dir():
        raise UsageError(f"{target}: is {kind_of(target)}, and no folder for a report.")
    for each in sorted(made.iterdir()):
        if each.is_dir():
            _put_folder(each, target / each.name, undo, force=force)
        else:
            _put_file(each, target / each.name, undo, force=force, last=False)


def _rename(path: Path, name: Path, undo: _Undo) -> None:
    os.rename(path, name)
    undo.append(partial(os.rename, name, path))


def _put_folder(made: Path, target: Path, undo: _Undo, *, force: bool) -> None:
    if os.path.lexists(target):
        is_folder = target.is_dir() and not target.is_symlink()
        if not force and not (is_folder and not any(target.iterdir())):
            raise _appeared(target)
        if not is_folder:
            raise _irreplaceable(target)
        _rename(target, made.with_name(uuid.uuid4().hex), undo)
    _rename(made, target, undo)


def _put_file(made: Path, target: Path, undo: _Undo, *, force: bool, last: bool) -> None:
    if not os.path.lexists(target):
        try:
            _put_new(made, target)
        except FileExistsError:  # since a moment ago
            if not force:
                raise _appeared(target) from None
        else:
            undo.append(partial(_remove_same, target, os.lstat(target)))
            return
    elif not force:
        raise _appeared(target)
    if not stat.S_ISREG(os.lstat(target).st_mode):
        raise _irreplaceable(target)
    if not last:
        old = made.with_name(uuid.uuid4().hex)
        try:
            os.link(target, old)
        except OSError:  # the file system has no hard links
            shutil.copy2(target, old)
        undo.append(partial(os.replace, old, target))
    os.replace(made, target)


def _put_new(made: Path, target: Path) -> None:
    """Gives a file a name that nothing has, or raises FileExistsError."""
    try:
        # A rename would replace what is there.
        os.link(made, target)
    except FileExistsError:
        raise
    except OSError:  # the file system has no hard links
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        try:
            os.replace(made, target)
        except OSError:
            target.unlink()
            raise
    else:
        made.unlink()


def _remove_same(path: Path, state: os.stat_result) -> None:
    if os.path.samestat(os.lstat(path), state):
        path.unlink()


def _appeared(target: Path) -> UsageError:
    return _refused(target, "there by now, and is not replaced without --force")


def _irreplaceable(target: Path) -> UsageError:
    return _refused(target, f"{kind_of(target)}, which is never replaced")


def _refused(target: Path, state: str) -> UsageError:
    return UsageError(f"{target}: is {state}; nothing was written. Choose another output.")


def write_text(text: str, path: Path, *, force: bool) -> None:
    """Writes a UTF-8 file in a hidden folder beside its place, then puts it there.

    Raises:
        UsageError: The file cannot be written there, or its place is taken and may not be replaced.
    """
    with staged(path) as folder:
        made = folder / "text"
        make_text(text, made, path)
        publication = Publication(force=force)
        publication.add(made, path)
        publication.commit()


def make_text(text: str, made: Path, target: Path) -> None:
    """Writes a UTF-8 file in a hidden folder; an error names its later place, the target.

    Raises:
        UsageError: There is no room for it.
    """
    # Paths that are not UTF-8 reach us with lone surrogates; as \\udcxx they remain readable, and
    # in JSON that is their proper escape.
    try:
        made.write_bytes(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise not_written(target, error) from error
