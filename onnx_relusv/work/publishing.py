"""Finished files put in their places: all of a run's outputs or none, and no other file replaced.

Everything is made in a hidden folder beside its place, and renamed when all is well, so that a
reader sees the old file or the new one, never half of one. Existing files are replaced only where
that was requested, and only regular ones; otherwise a file that appears meanwhile is left alone,
however late it does.
"""

import filecmp
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path

from onnx_relusv.core.errors import UsageError
from onnx_relusv.work.files import kind_of
from onnx_relusv.work.interrupts import uninterrupted
from onnx_relusv.work.temporary_files import folder_in

# Reverts a step.
Undo = Callable[[], object]

_WRITTEN: ContextVar[list[Path] | None] = ContextVar("written", default=None)


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
def staged(target: Path) -> Iterator[Path]:
    """A hidden folder in which an output is made; gone afterwards.

    Args:
        target: The output's place, a file or a folder. The hidden folder is beside it, or in it if
            it is an existing folder, which may be on another disk than its parent.

    Raises:
        UsageError: No folder can be made there.
    """
    with ExitStack() as stack:
        parent = target if target.is_dir() else target.parent
        try:
            place = stack.enter_context(folder_in(parent, hidden=True))
        except OSError as error:
            raise UsageError(
                f"{target}: nothing can be written there ({error.strerror}). "
                "Choose another output or make its folder writable."
            ) from error
        yield place


def leftover_places(*targets: Path | None) -> list[Path]:
    """The folders in which a run that wrote these may have left hidden folders."""
    places = [place for target in targets if target for place in (target, target.parent)]
    return [place for place in places if place.is_dir()]


def not_written(target: Path, error: OSError) -> UsageError:
    """The error of an output for which there is no room, or no permission."""
    return UsageError(
        f"{target}: cannot be written ({error.strerror}). Make room, or choose another output."
    )


class Publication:
    """Files and folders made in hidden folders, and their places, in the order of publishing.

    Args:
        force: Whether existing files may be replaced.
    """

    def __init__(self, *, force: bool) -> None:
        self._force = force
        self._moves: list[tuple[Path, Path]] = []

    def add(self, made: Path, target: Path) -> None:
        """Adds a file, or a folder with its contents.

        An existing folder gets the files of the new one, and keeps others; folders in it are
        replaced whole.
        """
        self._moves.append((made, target))

    def commit(self) -> None:
        """Puts all in their places, or none.

        Raises:
            UsageError: A place is taken and may not be replaced, or nothing can be written; all is
                as it was before.
        """
        undo: list[Undo] = []
        # Signals wait, so that the message on an interrupt is true.
        with uninterrupted():
            target = Path()
            try:
                for place, (made, target) in enumerate(self._moves, 1):
                    last = place == len(self._moves)
                    _put(made, target, undo, force=self._force, last=last)
            except BaseException as error:
                for step in reversed(undo):
                    with suppress(OSError):
                        step()
                if isinstance(error, OSError):
                    raise not_written(target, error) from error
                raise
            written = _WRITTEN.get()
            if written is not None:
                written.extend(target for _, target in self._moves)


def _put(made: Path, target: Path, undo: list[Undo], *, force: bool, last: bool) -> None:
    """Puts a file or a folder in its place, and adds the steps that revert that."""
    if not made.is_dir():
        _put_file(made, target, undo, force=force, last=last)
        return
    if not os.path.lexists(target):
        try:
            os.rename(made, target)
        except OSError:
            if not target.is_dir():
                raise
        else:
            undo.append(partial(os.rename, target, made))
            return
    if not target.is_dir():
        raise UsageError(f"{target}: is {kind_of(target)}, and no folder for a report.")
    for each in sorted(made.iterdir()):
        if each.is_dir():
            _put_folder(each, target / each.name, undo, force=force)
        else:
            _put_file(each, target / each.name, undo, force=force, last=False)


def _put_folder(made: Path, target: Path, undo: list[Undo], *, force: bool) -> None:
    if os.path.lexists(target):
        if not force:
            raise _appeared(target)
        if target.is_symlink() or not target.is_dir():
            raise _irreplaceable(target)
        old = _place_for_old(made)
        os.rename(target, old)
        undo.append(partial(os.rename, old, target))
    os.rename(made, target)
    undo.append(partial(os.rename, target, made))


def _put_file(made: Path, target: Path, undo: list[Undo], *, force: bool, last: bool) -> None:
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
        old = _place_for_old(made)
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


def _place_for_old(made: Path) -> Path:
    """A name beside the new file for the old one, which is put back if something fails."""
    return made.parent / uuid.uuid4().hex


def _appeared(target: Path) -> UsageError:
    return UsageError(
        f"{target}: is there by now, and is not replaced without --force; nothing was written. "
        "Choose another output."
    )


def _irreplaceable(target: Path) -> UsageError:
    return UsageError(
        f"{target}: is {kind_of(target)}, which is never replaced; nothing was written. "
        "Choose another output."
    )


def is_equal(first: Path, second: Path) -> bool:
    """Whether two paths lead to existing regular files of the same content."""
    try:
        return stat.S_ISREG(os.lstat(first).st_mode) and filecmp.cmp(first, second, shallow=False)
    except OSError:
        return False


def write_text(text: str, path: Path, *, force: bool) -> None:
    """Writes a UTF-8 file in a hidden folder beside its place, then puts it there.

    Args:
        text: Its content.
        path: Its place.
        force: Whether an existing regular file may be replaced.

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
    """Writes a UTF-8 file in a hidden folder.

    Args:
        text: Its content.
        made: Its path there.
        target: Its place later on, which an error names.

    Raises:
        UsageError: There is no room for it.
    """
    # Paths that are not UTF-8 reach us with lone surrogates; as \\udcxx they remain readable, and
    # in JSON that is their proper escape.
    try:
        made.write_bytes(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise not_written(target, error) from error
