"""A model with its folder: data, configuration and all else that is used with it.

Out comes a folder like it, in which the model is the smaller one. It is made in a hidden folder
beside its place and gets its name as a whole, so that there is never half of one.
"""

import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.graph.model import data_files
from onnx_relusv.work.files import kind_of, not_written, same_place
from onnx_relusv.work.temporary_files import is_temporary, remove_leftovers

_MODEL = "model.onnx"
_ENDING = ".onnx"
# Names in a message.
_NAMED = 4


def model_in(folder: Path) -> Path:
    """The model of a folder: ``model.onnx``, or the only one there.

    Raises:
        InputError: There is none, or it is not clear which.
    """
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix == _ENDING)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}).") from error
    named = [path for path in found if path.name == _MODEL]
    if len(named or found) == 1:
        return (named or found)[0]
    if found:
        listed = ", ".join(path.name for path in found[:_NAMED])
        raise InputError(
            f"{folder}: holds {len(found)} models ({listed}), none of them named {_MODEL}. "
            "Give the file of one."
        )
    deeper = next(iter(sorted(folder.glob(f"*/*{_ENDING}"))), None)
    hint = "" if deeper is None else f" There is {deeper}: give that, or its folder."
    raise InputError(f"{folder}: this is a folder, and there is no {_ENDING} file in it.{hint}")


@dataclass(frozen=True)
class FolderCopy:
    """A folder that is to be like another one, with a smaller model.

    Attributes:
        source: The folder of the original.
        model: The original's file in it.
        target: The folder that is to be written.
    """

    source: Path
    model: Path
    target: Path

    @property
    def output(self) -> Path:
        """Where the smaller model is going to be."""
        return self.target / self.model.name

    def check(
        self, others: Mapping[str, Path | None], read: Iterable[Path | None], *, force: bool
    ) -> None:
        """Checks before any work that the folder can be written and harms nothing.

        Args:
            others: By option, what else is written or kept.
            read: What else is read.
            force: Whether a folder that is there may be replaced.

        Raises:
            UsageError: With what to do.
            InputError: Something in the source cannot be copied.
        """
        target, real = self.target, Path(os.path.realpath(self.target))
        source = Path(os.path.realpath(self.source))
        if target.suffix == _ENDING:
            raise UsageError(
                f"{target}: the model is given as a folder, and so is what is written: name a "
                f"folder. Give {self.model} for a file alone."
            )
        if real.is_relative_to(source) or source.is_relative_to(real):
            raise UsageError(
                f"{target}: the output is the folder of the model, or one of the two lies in the "
                "other; choose another place."
            )
        for option, path in others.items():
            if path is not None and _lies_in(path, real):
                raise UsageError(
                    f"{option} {path}: lies in the folder of --output; choose another."
                )
        for path in read:
            if path is not None and _lies_in(path, real):
                raise UsageError(
                    f"{target}: {path} lies in there and is read; choose another name."
                )
        if not target.parent.is_dir():
            raise UsageError(
                f"{target}: the folder {target.parent} does not exist; create it first."
            )
        if not os.access(target.parent, os.W_OK | os.X_OK):
            raise UsageError(f"{target}: the folder {target.parent} is not writable.")
        remove_leftovers(target.parent)
        self.check_replaceable(force=force)

    def check_replaceable(self, *, force: bool) -> None:
        """Checks that nothing is at the target, or a folder that holds no more than it will.

        Raises:
            UsageError: Something else is.
        """
        target = self.target
        if not os.path.lexists(target):
            return
        what = kind_of(target)
        if what != "a folder":
            raise UsageError(f"{target}: is {what}, and a folder is written. Choose another name.")
        there = _files(target)
        if there and not force:
            raise UsageError(
                f"{target}: exists already; choose another name, or replace it with --force."
            )
        data = re.compile(re.escape(self.model.name) + r"\.[0-9a-f]{8}\.data")
        known = set(self.files())
        foreign = [file for file in there if file not in known and not data.fullmatch(str(file))]
        if foreign:
            raise UsageError(
                f"{target}: holds {foreign[0]}, which is not written there, and is not replaced; "
                "choose another folder."
            )

    def files(self) -> list[Path]:
        """All files of the source but the data of the original alone, by their paths in it.

        Raises:
            InputError: Something there is neither a file nor a folder.
        """
        data = set(data_files(self.model))
        if data:
            # Other models that stay may read it too.
            for other in self.source.glob(f"*{_ENDING}"):
                if other != self.model:
                    data -= set(data_files(other))
        left_out = {os.path.normpath(path) for path in data}
        return [
            path
            for path in _files(self.source)
            if os.path.normpath(self.source / path) not in left_out
        ]

    def fill(self, folder: Path) -> None:
        """Copies all files but the model into a new folder.

        Args:
            folder: It is made.

        Raises:
            UsageError: There is no room for them.
            InputError: Something in the source cannot be read.
        """
        files = self.files()
        try:
            folder.mkdir()
            for path in files:
                if self.source / path != self.model:
                    (folder / path).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(self.source / path, folder / path)
        except PermissionError as error:
            raise InputError(f"{error.filename}: cannot be read ({error.strerror}).") from error
        except OSError as error:
            raise not_written(self.target, error) from error


def _lies_in(path: Path, folder: Path) -> bool:
    return same_place(path, folder) or Path(os.path.realpath(path)).is_relative_to(folder)


def _files(folder: Path) -> list[Path]:
    """The files of a folder and of those in it, by their paths there, in order."""
    return sorted(path.relative_to(folder) for path in _walk(folder))


def _walk(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = folder / entry.name
            if entry.is_dir(follow_symlinks=False):
                # What another run is making there is none of it.
                yield from () if is_temporary(entry.name) else _walk(path)
                continue
            try:
                mode = path.stat().st_mode
            except OSError as error:
                raise InputError(
                    f"{path}: cannot be copied ({error.strerror}). Remove or mend it."
                ) from error
            if not stat.S_ISREG(mode):
                what = "a link to a folder" if stat.S_ISDIR(mode) else kind_of(path)
                raise InputError(
                    f"{path}: is {what}, and files and folders alone are copied. Remove it, or put "
                    "what it leads to there."
                )
            yield path
