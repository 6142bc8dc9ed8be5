"""A folder of pictures as samples.

Every picture is opened once, several at a time: it is turned as its EXIF data says, brought to the
size that the model sees, and kept as 8-bit pixels in a temporary file. So what cannot be read is
known before anything runs, samples are known by the hash of what the model sees, and no picture is
decoded again however often samples are run. Scaling is left to when a batch is read.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from onnx_relusv.core.arguments import StrPath, as_path
from onnx_relusv.core.blocks import InputSpec
from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.core.results import Setting
from onnx_relusv.samples.files import GROUPS, LABELS, ArrayColumn, Column, only_input
from onnx_relusv.samples.preprocessing import SORTED, Colour, Layout, Preprocessing, preprocessing
from onnx_relusv.samples.sources import SampleFiles, SampleSource
from onnx_relusv.work.disk_arrays import ArrayFile, Place, release
from onnx_relusv.work.files import check_readable

# Pictures that are under way at once, a worker: enough that none waits for a slow one.
_AHEAD = 4
# Names in a message.
_NAMED = 3
_CHANNELS = (1, 3)


class Images(SampleSource):
    """A folder of pictures; subfolders may be their classes.

    Args:
        folder: The folder.
        *preprocess: Names of presets, paths of TOML files, and single settings, ``"KEY=VALUE"``;
            later ones win. See `Preprocessing` for the keys.

    Raises:
        UsageError: A setting is unknown or out of range.
        InputError: A TOML file cannot be read.
    """

    path: Path

    def __init__(self, folder: StrPath, *preprocess: StrPath) -> None:
        self.path = as_path("samples", folder)
        self.name = self.described = str(folder)
        self.setting = str(self.path.absolute())
        if not preprocess:
            raise UsageError(
                f"{folder}: it is not said how pictures become inputs. Give --preprocess imagenet, "
                "or settings such as scale=1/255."
            )
        self._prepared = preprocessing(preprocess)
        self._decoded: dict[tuple[tuple[int, int], int], _Pictures] = {}

    @property
    def settings(self) -> dict[str, Setting]:
        """The folder and how pictures are prepared."""
        return {**super().settings, "preprocess": self._prepared.options}

    @property
    def options(self) -> list[str]:
        """As on the command line."""
        each = (part for one in self._prepared.options for part in ("--preprocess", one))
        return [*super().options, *each]

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be read, and what subfolders are not taken for."""
        return tuple(dict.fromkeys(note for one in self._decoded.values() for note in one.notes))

    def elsewhere(self) -> "Images":
        """The same folder by its absolute path, not read yet."""
        return Images(self.path.absolute(), *self._prepared.options)

    def columns(self, inputs: Sequence[InputSpec]) -> dict[str, Column]:
        """Opens the pictures, all of them when it is called first."""
        name = only_input(self.name, "a folder of pictures", "an .npz", inputs)
        (spec,) = inputs
        layout = self._prepared.layout or _layout(self.name, spec)
        channels, size = self._channels(spec, layout), self._size(spec, layout)
        key = size, channels
        if key not in self._decoded:
            self._decoded[key] = _opened(self, self._prepared, *key)
        found = self._decoded[key]
        # A type of the model's may be one that pixels do not become.
        prepared = replace(
            self._prepared,
            layout=layout,
            dtype=self._prepared.dtype or _type_of(spec),
            colour=self._prepared.colour or ("grey" if channels == 1 else "RGB"),
        )
        columns: dict[str, Column] = {name: _PictureColumn(found.pixels, prepared)}
        for beside, values in ((LABELS, found.labels), (GROUPS, found.groups)):
            if values is not None:
                columns[beside] = ArrayColumn(values)
        return columns

    def _channels(self, spec: InputSpec, layout: Layout) -> int:
        colour: Colour | None = self._prepared.colour
        if colour is None:
            known = spec.shape[layout.index("C")] if len(spec.shape) == 4 else None
            colour = "grey" if known == 1 else "RGB"
        channels = 1 if colour == "grey" else 3
        for key, values in (("mean", self._prepared.mean), ("std", self._prepared.std)):
            if len(values) not in (1, channels):
                raise UsageError(
                    f"--preprocess {key}: {len(values)} numbers, and pictures have {channels} "
                    "channels; use one number, or one a channel."
                )
        return channels

    def _size(self, spec: InputSpec, layout: Layout) -> tuple[int, int]:
        if self._prepared.size is not None:
            return self._prepared.size
        known = [spec.shape[layout.index(axis)] for axis in "HW"] if len(spec.shape) == 4 else []
        height, width = (*known, None, None)[:2]
        if height is None or width is None:
            raise InputError(
                f"{self.name}: the model's file does not say what size its input {spec.name} has. "
                "Give --preprocess size=HEIGHTxWIDTH."
            )
        replace(self._prepared, size=(height, width))  # which has to go with the other settings
        return height, width


def is_folder_of_pictures(source: SampleSource) -> bool:
    """Whether samples are a folder, and none of test data sets; or may be, where nothing is."""
    if not isinstance(source, SampleFiles):
        return False
    path = Path(source.name)
    return not path.exists() or (path.is_dir() and not any(path.glob("test_data_set_*")))


def _layout(name: str, spec: InputSpec) -> Layout:
    """Where an input has its channels: the only axis of so few, beside that of the samples."""
    if len(spec.shape) == 4:
        if spec.shape[1] in _CHANNELS and spec.shape[3] not in _CHANNELS:
            return "NCHW"
        if spec.shape[3] in _CHANNELS and spec.shape[1] not in _CHANNELS:
            return "NHWC"
    raise InputError(
        f"{name}: the model's file does not say which axis of its input {spec.name} holds "
        "channels. Give --preprocess layout=NCHW or layout=NHWC; other inputs than of pictures "
        "take an .npz."
    )


def _type_of(spec: InputSpec) -> np.dtype[np.generic]:
    return spec.dtype if spec.dtype.kind in "fiu" else np.dtype(np.float32)


class _PictureColumn:
    """Pictures as the model sees them, made of their pixels batch by batch.

    Args:
        pixels: (pictures, height, width, channels) uint8.
        prepared: Of which nothing is open but the size.
    """

    def __init__(self, pixels: np.ndarray, prepared: Preprocessing) -> None:
        assert prepared.dtype is not None
        self._pixels, self._prepared = pixels, prepared
        self.dtype: np.dtype[np.generic] = prepared.dtype
        count, height, width, channels = pixels.shape
        shape = (channels, height, width) if self._first else (height, width, channels)
        self.shape: tuple[int, ...] = (count, *shape)

    @property
    def _first(self) -> bool:
        return self._prepared.layout == "NCHW"

    def rows(self, size: int) -> Iterator[np.ndarray]:
        """All pictures, `size` at a time."""
        for start in range(0, self.shape[0], size):
            yield self._values(self._pixels[start : start + size])
            release([self._pixels])

    def _values(self, pixels: np.ndarray) -> np.ndarray:
        kind: Any = np.float64 if self.dtype == np.float64 else np.float32
        if self._prepared.colour == "BGR":
            pixels = pixels[..., ::-1]
        values = pixels.astype(kind)
        multiplier, divisor = self._prepared.scale
        if multiplier != 1:
            values *= kind(multiplier)
        if divisor != 1:
            values /= kind(divisor)
        values -= np.asarray(self._prepared.mean, kind)
        values /= np.asarray(self._prepared.std, kind)
        moved = values.transpose(0, 3, 1, 2) if self._first else values
        return moved.astype(self.dtype)


@dataclass(frozen=True, eq=False)
class _Pictures:
    """The pictures of a folder that could be read.

    Attributes:
        pixels: (pictures, height, width, channels) uint8, mapped.
        labels: (pictures,) int64, or None.
        groups: (pictures,) int64, or None.
        notes: Sentences for the user.
    """

    pixels: np.ndarray
    labels: np.ndarray | None
    groups: np.ndarray | None
    notes: tuple[str, ...]


def _opened(
    source: Images, prepared: Preprocessing, size: tuple[int, int], channels: int
) -> _Pictures:
    """Reads all pictures of a folder.

    Raises:
        InputError: There are none, none can be read, or classes or groups cannot be told.
        UsageError: Pillow is missing, or there is no room for temporary files.
    """
    name, folder = source.name, Path(source.name)
    pillow = _pillow()
    known = pillow.registered_extensions().items()
    suffixes = {suffix for suffix, kind in known if kind in pillow.OPEN}
    files, in_classes = _listed(name, folder, suffixes)
    labels = _labels(name, files, prepared.classes) if in_classes else None
    if prepared.classes is not None and labels is None:
        raise InputError(
            f"{name}: classes are given, and the pictures are in no subfolders. Put those of a "
            "class into a folder of its name, or leave classes away."
        )
    groups = _groups(name, files, prepared)
    stored, place = ArrayFile(), None
    broken: list[tuple[str, str]] = []
    good: list[int] = []

    def decoded(file: Path) -> np.ndarray | str:
        try:
            return _pixels(folder / file, prepared, size, channels)
        except MemoryError:
            raise
        except Exception as error:  # Pillow's readers raise whatever a damaged file leads them to
            return " ".join(str(error).split()) or type(error).__name__

    with source.progress.stage("Pictures", len(files)) as advance:
        for number, found in enumerate(_in_order(decoded, files)):
            if isinstance(found, str):
                broken.append((str(files[number]), found))
            else:
                place = _added(stored, place, found[None])
                good.append(number)
            advance(1)
    if place is None:
        raise InputError(
            f"{name}: none of {len(files)} pictures can be read. The first, {broken[0][0]}: "
            f"{broken[0][1]}."
        )
    pixels = stored.mapped(place)
    stored.close()
    notes = []
    if broken:
        listed = "; ".join(f"{file}: {reason}" for file, reason in broken[:_NAMED])
        more = f"; and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
        notes.append(
            f"{len(broken)} of {len(files)} pictures in {name} cannot be read and are left out: "
            f"{listed}{more}."
        )
    if in_classes and labels is None:
        notes.append(
            f"The subfolders of {name} are taken for no labels: give --preprocess classes=FILE "
            "with one class a line, in the model's order, or classes=sorted."
        )
    return _Pictures(
        pixels,
        None if labels is None else labels[good],
        None if groups is None else groups[good],
        tuple(notes),
    )


def _added(stored: ArrayFile, place: Place | None, rows: np.ndarray) -> Place:
    return stored.put(rows) if place is None else stored.added(place, rows)


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise UsageError(
            'pictures are read by Pillow. Install it with `pip install "onnx-relusv[images]"`.'
        ) from error
    return Image


def _listed(name: str, folder: Path, suffixes: set[str]) -> tuple[list[Path], bool]:
    """The pictures by their paths in a folder, in order, and whether they are in subfolders."""
    if not folder.is_dir():
        check_readable(folder, "--samples")
        raise InputError(f"{name}: --preprocess is for a folder of pictures, and this is a file.")

    def unreadable(error: OSError) -> None:
        raise InputError(
            f"{error.filename}: cannot be read ({error.strerror}). Check its permissions."
        ) from error

    found = sorted(
        Path(place, file).relative_to(folder)
        for place, _, files in os.walk(folder, onerror=unreadable)
        for file in files
        if not file.startswith(".") and Path(file).suffix.lower() in suffixes
    )
    if not found:
        raise InputError(
            f"{name}: there are no pictures in it; files that Pillow knows by their endings, such "
            "as .jpg and .png, are looked for in it and in its subfolders."
        )
    nested = [file for file in found if len(file.parts) > 1]
    if nested and len(nested) < len(found):
        alone = next(file for file in found if len(file.parts) == 1)
        raise InputError(
            f"{name}: holds pictures ({alone}) and subfolders of pictures ({nested[0]}). Put all "
            "of them into subfolders, one a class, or none."
        )
    return found, bool(nested)


def _labels(name: str, files: Sequence[Path], classes: Path | str | None) -> np.ndarray | None:
    """(pictures,) int64: the places of their folders' names among the classes."""
    if classes is None:
        return None
    folders = [file.parts[0] for file in files]
    if isinstance(classes, str):
        assert classes == SORTED
        listed = sorted(set(folders))
    else:
        check_readable(classes, "--preprocess classes:")
        listed = [line.strip() for line in classes.read_text(encoding="utf-8").splitlines()]
        repeated = sorted({line for line in listed if line and listed.count(line) > 1})
        if repeated:
            raise InputError(f"{classes}: the class {repeated[0]} is in it twice.")
    numbers: Mapping[str, int] = {line: number for number, line in enumerate(listed) if line}
    unknown = sorted({*folders} - {*numbers})
    if unknown:
        raise InputError(
            f"{name}: {len(unknown)} subfolders are no classes of {classes}, {unknown[0]} first. "
            "Name them as the classes are, one a line."
        )
    return np.array([numbers[each] for each in folders], np.int64)


def _groups(name: str, files: Sequence[Path], prepared: Preprocessing) -> np.ndarray | None:
    """(pictures,) int64: the places of what the pattern finds in their paths, sorted."""
    if prepared.groups is None:
        return None
    texts = []
    for file in files:
        match = prepared.groups.search(file.as_posix())
        text = None if match is None else match[1 if prepared.groups.groups else 0]
        if text is None:
            raise InputError(
                f"{name}: --preprocess groups={prepared.groups.pattern}: nothing of {file} "
                "matches, so it has no group. Let the pattern match every path in the folder."
            )
        texts.append(text)
    return np.unique(texts, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _in_order(
    function: Callable[[Path], np.ndarray | str], items: Sequence[Path]
) -> Iterator[np.ndarray | str]:
    """A function's results for some items, in their order, of which several are worked on."""
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    waiting: deque[Future[np.ndarray | str]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="pictures") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > _AHEAD * (workers or 1):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()


def _pixels(
    path: Path, prepared: Preprocessing, size: tuple[int, int], channels: int
) -> np.ndarray:
    """A picture as (height, width, channels) uint8, as torchvision's transforms make it."""
    from PIL import Image, ImageOps

    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode[0] in "IF":  # what Pillow makes of them is white, or black
            raise ValueError(f"its mode {image.mode} has more than 8 bits a channel")
        image = image.convert("L" if channels == 1 else "RGB")
    height, width = size
    resample = Image.Resampling[prepared.interpolation.upper()]
    if prepared.fit == "resize":
        image = image.resize((width, height), resample)
    else:
        image = image.resize(_before_crop(image.size, size, prepared.shorter), resample)
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        image = image.crop((left, top, left + width, top + height))
    return np.asarray(image, np.uint8).reshape(height, width, channels)


def _before_crop(
    old: tuple[int, int], size: tuple[int, int], shorter: int | None
) -> tuple[int, int]:
    """Width and height to which a picture is resized before its middle is cut out."""
    width, height = old
    if shorter is not None:
        # As torchvision rounds.
        least = min(old)
        return int(shorter * width / least), int(shorter * height / least)
    share = max(size[0] / height, size[1] / width)
    return max(round(share * width), size[1]), max(round(share * height), size[0])
