"""Temporary files and folders that clear themselves away.

A folder is gone when its block is left, at the latest when the program ends. After a kill that
cannot be caught, a later run removes it: its lock file, locked for as long as its process lives,
shows that it is ours and no longer in use.
"""

import atexit
import os
import re
import shutil
import stat
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from onnx_relusv.core.errors import UsageError
from onnx_relusv.work.interrupts import uninterrupted

try:
    import fcntl
except ImportError:  # no POSIX: ownership cannot be proved, so leftovers are not removed
    fcntl = None  # type: ignore[assignment]

_PREFIX = "onnx-relusv-"
_LOCK = ".onnx-relusv.lock"
# Written once the lock is held: a file without it is not ours, or not yet locked.
_MARK = b"A temporary folder of onnx-relusv; unused when no process holds a lock on this file.\n"
_FOLDER = re.compile(rf"\.?{_PREFIX}[A-Za-z0-9_]{{8}}")
_FILE = re.compile(rf"\.{_PREFIX}[0-9a-f]{{32}}\.tmp")
# How often emptying a folder is tried, into which another thread may still write.
_TRIES = 3


def nameless_file() -> IO[bytes]:
    """A temporary file without buffers; where the system allows it, it never has a name.

    Raises:
        UsageError: There can be no temporary file.
    """
    try:
        return tempfile.TemporaryFile(prefix=_PREFIX, buffering=0)
    except OSError as error:
        raise UsageError(
            f"no temporary file can be made ({error.strerror}). Let TMPDIR name a folder."
        ) from error


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for temporary files; gone afterwards.

    Raises:
        UsageError: There can be none.
    """
    made = False
    try:
        with folder_in(Path(tempfile.gettempdir())) as folder:
            made = True
            yield folder
    except OSError as error:
        if made:
            raise
        raise UsageError(
            f"no temporary folder can be made ({error.strerror}). Let TMPDIR name a folder."
        ) from error


def is_temporary(name: str) -> bool:
    """Whether a folder of this name is one that a run makes here."""
    return _FOLDER.fullmatch(name) is not None


@contextmanager
def folder_in(parent: Path, *, hidden: bool = False) -> Iterator[Path]:
    """A folder of a unique name in another one; gone afterwards.

    Raises:
        OSError: There can be none.
    """
    folder: Path | None = None
    try:
        # An interrupt comes before the folder exists or after it is known here.
        with uninterrupted():
            folder = _LIVING.made_folder(parent, "." * hidden + _PREFIX)
        yield folder
    finally:
        if folder is not None:
            with uninterrupted():
                _LIVING.remove(folder)


@contextmanager
def file_in(parent: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A file of a unique hidden name, to be renamed; gone afterwards where it was not.

    Raises:
        OSError: There can be none.
    """
    made: tuple[BinaryIO, Path] | None = None
    try:
        with uninterrupted():
            made = _LIVING.made_file(parent)
        yield made
    finally:
        if made is not None:
            with uninterrupted():
                made[0].close()
                _LIVING.remove(made[1])


def remove_leftovers(*folders: Path) -> None:
    """Removes leftovers of killed runs from some folders and from that for temporary files.

    These are folders that bear our mark, belong to this user, and are not locked.
    """
    for folder in dict.fromkeys((*folders, Path(tempfile.gettempdir()))):
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if _FOLDER.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                    _remove_dead_folder(folder / entry.name)


def remove_left_files(folder: Path) -> None:
    """Removes files of `file_in` that killed runs left in a folder, and no process has locked.

    Raises:
        OSError: The folder cannot be read.
    """
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if _FILE.fullmatch(entry.name)]
    for name in names:
        with _locked(folder / name) as file:
            if file is not None:
                with suppress(FileNotFoundError):
                    os.unlink(folder / name)


class _Living:
    """The temporary files and folders of this process, by path, with their locks."""

    def __init__(self) -> None:
        self._held: dict[Path, int | None] = {}
        self._guard = threading.RLock()
        self._ended = False
        self._process = os.getpid()
        atexit.register(self._end)

    def made_folder(self, parent: Path, prefix: str) -> Path:
        with self._guard:
            self._check()
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            self._held[folder] = None
            try:
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
                file = self._held[folder] = os.open(folder / _LOCK, flags, 0o600)
                if _lock(file, wait=True):
                    os.write(file, _MARK)
            except BaseException:
                self.remove(folder)
                raise
            return folder

    def made_file(self, parent: Path) -> tuple[BinaryIO, Path]:
        with self._guard:
            self._check()
            while True:
                path = parent / f".{_PREFIX}{uuid.uuid4().hex}.tmp"
                file = path.open("xb")
                self._held[path] = None
                # Another run may have removed it as a leftover before it was locked.
                if not _lock(file.fileno(), wait=True) or _is_same(path, file.fileno()):
                    return file, path
                file.close()
                self.remove(path)

    def remove(self, path: Path) -> None:
        with self._guard:
            lock = self._held.pop(path, None)
        if path.is_dir() and not path.is_symlink():
            _empty(path)
        else:
            with suppress(OSError):
                path.unlink()
        if lock is not None:
            os.close(lock)

    def _check(self) -> None:
        if self._ended:  # in a thread that outlives the program: the file would never be removed
            raise OSError(0, "the program ends")

    def _end(self) -> None:
        if os.getpid() != self._process:  # a forked copy, which owns nothing
            return
        with self._guard:
            self._ended = True
            for path in list(self._held):
                self.remove(path)


_LIVING = _Living()


def _lock(file: int, *, wait: bool) -> bool:
    """Locks a file for this process; whether that worked."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # another process holds it, or the file system has no locks
        return False
    return True


def _is_same(path: Path, file: int) -> bool:
    """Whether a path still leads to an open file."""
    try:
        state = os.lstat(path)
    except OSError:
        return False
    return os.path.samestat(state, os.fstat(file))


@contextmanager
def _locked(path: Path) -> Iterator[int | None]:
    """A regular file of this user that no other process had locked; None for any other."""
    try:
        # Neither follows a link nor waits for the other end of a pipe.
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        yield None
        return
    try:
        state = os.fstat(file)
        ours = stat.S_ISREG(state.st_mode) and state.st_uid == os.geteuid()
        yield file if ours and _lock(file, wait=False) and _is_same(path, file) else None
    finally:
        os.close(file)


def _remove_dead_folder(folder: Path) -> None:
    with _locked(folder / _LOCK) as file:
        if file is None or os.lstat(folder).st_uid != os.geteuid():
            return
        if os.read(file, len(_MARK) + 1) == _MARK:
            _empty(folder)


def _empty(folder: Path) -> None:
    """Removes a folder, its lock file last, by which remaining files are recognised as ours."""
    for _ in range(_TRIES):
        with suppress(OSError):
            for entry in list(os.scandir(folder)):
                if entry.name == _LOCK:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    with suppress(OSError):
                        os.unlink(entry.path)
            if set(os.listdir(folder)) <= {_LOCK}:
                with suppress(FileNotFoundError):
                    os.unlink(folder / _LOCK)
                os.rmdir(folder)
                return
