"""What samples may be given as, from Python and on the command line, and their columns.

a path            of a file or folder, see `samples/files`
a dict of arrays  by input name, first axis the samples, with `labels` and `groups` as in an
                  .npz; the arrays are read where they are, and never copied as a whole
an array          of a model with one input
feeds             an iterable of dicts, each of which the model takes in one run, or what has
                  `get_next()`, as onnxruntime's CalibrationDataReader; see `samples/fed`
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from onnx_relusv.core.arguments import StrPath, as_path
from onnx_relusv.core.blocks import InputSpec
from onnx_relusv.core.errors import InputError
from onnx_relusv.core.results import Setting
from onnx_relusv.samples.fed import Fed, as_numbers
from onnx_relusv.samples.files import ArrayColumn, Column, only_input, open_columns
from onnx_relusv.work.executors import Progress, Silent
from onnx_relusv.work.python_files import load_function


class Reader(Protocol):
    """What gives feeds one by one, as onnxruntime's CalibrationDataReader."""

    def get_next(self) -> Mapping[str, npt.ArrayLike] | None:
        """The next feed; None behind the last one."""
        ...


class SampleSource(ABC):
    """Where samples come from.

    Attributes:
        name: What messages call it.
        path: The file or folder, which no output may overwrite; None where there is none.
        described: What reports say of it.
        setting: How --samples takes it from any folder; None where it cannot.
        progress: Shown what takes long to open.
    """

    name: str
    path: Path | None = None
    described: str
    setting: str | None = None
    progress: Progress = Silent()

    @property
    def settings(self) -> dict[str, Setting]:
        """The settings that repeat a run with them, by the long names of options."""
        return {} if self.setting is None else {"samples": self.setting}

    @property
    def options(self) -> list[str]:
        """The same in a command line, as they were given."""
        return ["--samples", self.name]

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user, once the columns were opened."""
        return ()

    def elsewhere(self) -> "SampleSource | None":
        """The same for a process in any folder; None where they lie in this process alone."""
        return None

    @abstractmethod
    def columns(self, inputs: Sequence[InputSpec]) -> dict[str, Column]:
        """Opens the arrays, by name.

        Args:
            inputs: The model's inputs.

        Raises:
            InputError: They cannot be read, or cannot be those of these inputs.
        """


SamplesLike = (
    StrPath
    | Mapping[str, npt.ArrayLike]
    | npt.NDArray[Any]
    | Iterable[Mapping[str, npt.ArrayLike]]
    | Reader
    | SampleSource
)
_ADVICE = (
    "give a path, as str or pathlib.Path, a dict of arrays by input name, an array, an iterable of "
    "feeds, each a dict, or a reader with get_next()."
)


def as_source(name: str, value: object, progress: Progress | None = None) -> SampleSource:
    """An argument that is samples; nothing is read yet.

    Args:
        name: The argument's name, for messages.
        value: What was given.
        progress: Shown what takes long to open.

    Raises:
        TypeError: It is none of what samples may be.
        UsageError: It is text, and no path looks so.
    """
    source = _source(name, value)
    source.progress = progress or Silent()
    return source


def _source(name: str, value: object) -> SampleSource:
    if isinstance(value, SampleSource):
        return value
    if isinstance(value, str | os.PathLike):
        return SampleFiles(as_path(name, value))
    if isinstance(value, Mapping):
        return Arrays(name, value)
    if _is_reader(value):
        return Feeds(name, lambda: _begun(value))
    if hasattr(value, "__array__"):
        return OneArray(name, value)
    is_listed = isinstance(value, Sequence) and all(isinstance(each, Mapping) for each in value)
    if is_listed or (isinstance(value, Iterable) and not isinstance(value, Sequence)):
        return Feeds(name, lambda: _begun(value))
    given = "None" if value is None else type(value).__name__
    raise TypeError(f"{name} is {given}: {_ADVICE}")


def as_optional_source(
    name: str, value: object, progress: Progress | None = None
) -> SampleSource | None:
    """The same, where None is no samples."""
    return None if value is None else as_source(name, value, progress)


class SampleFiles(SampleSource):
    """A file or a folder of samples."""

    path: Path

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = self.described = str(path)
        self.setting = str(path.absolute())

    def elsewhere(self) -> "SampleFiles":
        """The same by its absolute path."""
        return SampleFiles(self.path.absolute())

    def columns(self, inputs: Sequence[InputSpec]) -> dict[str, Column]:
        """Opens them; they are read in pieces."""
        return open_columns(Path(self.name), inputs)


class Arrays(SampleSource):
    """Arrays in memory, by name.

    Args:
        name: The argument's name.
        arrays: As numpy takes them.
    """

    def __init__(self, name: str, arrays: Mapping[Any, Any]) -> None:
        self.name, self._arrays = name, arrays
        self.described = "arrays in memory"

    def columns(self, inputs: Sequence[InputSpec]) -> dict[str, Column]:
        """The arrays as they are."""
        return {
            str(key): ArrayColumn(as_numbers(f"{self.name}[{key!r}]", value))
            for key, value in self._arrays.items()
        }


class OneArray(SampleSource):
    """The array of a model with one input.

    Args:
        name: The argument's name.
        array: As numpy takes it.
    """

    def __init__(self, name: str, array: object) -> None:
        self.name, self._array = name, array
        self.described = "an array in memory"

    def columns(self, inputs: Sequence[InputSpec]) -> dict[str, Column]:
        """The array as it is."""
        key = only_input(self.name, "an array", "a dict", inputs)
        return {key: ArrayColumn(as_numbers(self.name, self._array))}


class Feeds(SampleSource):
    """Feeds, gone through once and then in a temporary file, as they may not fit in memory.

    Args:
        name: What messages call them.
        begin: Gives them, from the first on.
        path: The file of the code that gives them; None where there is none.
        setting: As of `SampleSource`.
    """

    def __init__(
        self,
        name: str,
        begin: Callable[[], Iterator[object]],
        path: Path | None = None,
        setting: str | None = None,
    ) -> None:
        self.name, self._begin, self.path, self.setting = name, begin, path, setting
        self.described = "feeds from Python" if setting is None else name
        self._fed: Fed | None = None

    def columns(self, inputs: Sequence[InputSpec]) -> dict[str, Column]:
        """What they hold, one behind the other."""
        if self._fed is None:
            names = [spec.name for spec in inputs]
            with self.progress.stage("Feeds", 0) as advance:  # their number is unknown
                self._fed = Fed(self.name, self._begin, names, self.path, advance)
        return self._fed.columns(inputs)


def feeds_of(option: str, text: str) -> Feeds:
    """Feeds that a function of the user's gives, as `load_function` reads it.

    Args:
        option: What they are for, for messages.
        text: ``FILE.py:function``; without arguments it gives an iterable or a reader.

    Raises:
        InputError: There is no such file, its code fails, or it has no such function.
    """
    found = load_function(option, text)
    setting = f"{found.path.absolute()}:{text.rpartition(':')[2]}"
    return Feeds(text, lambda: _begun(found.call()), found.path, setting)


def _is_reader(value: object) -> bool:
    return callable(getattr(value, "get_next", None))


def _begun(value: Any) -> Iterator[object]:
    """The feeds of an iterable or of a reader, from the first on."""
    return iter(value.get_next, None) if _is_reader(value) else iter(value)


def check_there(source: SampleSource) -> None:
    """Raises InputError where a source's file or folder is missing."""
    if source.path is not None and not source.path.exists():
        raise InputError(f"{source.name}: there are no such samples.")


def path_of(source: SampleSource | None) -> Path | None:
    """The file or folder of samples; None without samples, or where they lie in none."""
    return None if source is None else source.path
