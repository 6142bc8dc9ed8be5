"""Pictures as the model sees them, against a preparation with Pillow and numpy written out here."""

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pictures import pictures, pixels
from PIL import Image
from sample_arrays import everything, spec

from onnx_relusv import Images
from onnx_relusv.core.blocks import InputSpec
from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.samples.samples import Samples, open_samples
from onnx_relusv.samples.sources import as_source
from onnx_relusv.work.executors import Advance

IMAGE = spec("image", np.float32, None, 3, 24, 32)
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def opened(folder: Path, *settings: str, of: InputSpec = IMAGE) -> Samples:
    return open_samples(Images(folder, *settings), [of])


def values(folder: Path, *settings: str, of: InputSpec = IMAGE) -> np.ndarray:
    return everything(opened(folder, *settings, of=of), 2)[of.name]


def stretched(
    file: Path, height: int, width: int, resample: Image.Resampling, mode: str = "RGB"
) -> np.ndarray:
    """(height, width, channels) uint8."""
    with Image.open(file) as image:
        found = np.asarray(image.convert(mode).resize((width, height), resample))
    return found.reshape(height, width, -1)


@pytest.mark.parametrize("name", FILTERS)
def test_size_and_interpolation(name: str, tmp_path: Path) -> None:
    files = pictures(tmp_path)
    wanted = [stretched(file, 24, 32, FILTERS[name]).transpose(2, 0, 1) for file in files]
    found = values(tmp_path, f"interpolation={name}")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array(wanted, np.float32))
    # Where the model leaves the size open, it is that of the settings.
    loose = spec("image", np.float32, None, 3, None, None)
    again = values(tmp_path, f"interpolation={name}", "size=24x32", of=loose)
    np.testing.assert_array_equal(again, found)


def test_the_filters_differ(tmp_path: Path) -> None:
    pictures(tmp_path)
    found = [values(tmp_path, f"interpolation={name}").tobytes() for name in FILTERS]
    assert len(set(found)) == len(FILTERS)


def test_imagenet_is_what_torchvision_does(tmp_path: Path) -> None:
    files = pictures(tmp_path, [(300, 400), (511, 257), (256, 256), (100, 90)])
    wanted = []
    for file in files:
        with Image.open(file) as image:
            width, height = image.size
            if width <= height:
                width, height = 256, int(256 * height / width)
            else:
                width, height = int(256 * width / height), 256
            array = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
        top, left = round((height - 224) / 2.0), round((width - 224) / 2.0)
        cut = array[top : top + 224, left : left + 224].astype(np.float32) / np.float32(255)
        wanted.append(((cut - MEAN) / STD).transpose(2, 0, 1))
    classifier = spec("image", np.float32, None, 3, 224, 224)
    np.testing.assert_array_equal(values(tmp_path, "imagenet", of=classifier), np.array(wanted))


@pytest.mark.parametrize("shorter", [None, 32, 45])
def test_crop(shorter: int | None, tmp_path: Path) -> None:
    files = pictures(tmp_path)
    wanted = []
    for file in files:
        with Image.open(file) as image:
            width, height = image.size
            if shorter is None:  # as little as covers 24 by 32
                share = max(24 / height, 32 / width)
                size = max(round(share * width), 32), max(round(share * height), 24)
            else:
                size = (
                    math.floor(shorter * width / min(width, height)),
                    math.floor(shorter * height / min(width, height)),
                )
            array = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
        top, left = round((size[1] - 24) / 2), round((size[0] - 32) / 2)
        wanted.append(array[top : top + 24, left : left + 32].transpose(2, 0, 1))
    settings = ["fit=crop"] if shorter is None else ["fit=crop", f"shorter={shorter}"]
    found = values(tmp_path, *settings)
    np.testing.assert_array_equal(found, np.array(wanted, np.float32))
    assert not np.array_equal(found, values(tmp_path, "fit=resize"))


def test_layout(tmp_path: Path) -> None:
    pictures(tmp_path)
    first = values(tmp_path, "scale=1")
    last = spec("image", np.float32, None, 24, 32, 3)
    np.testing.assert_array_equal(values(tmp_path, "scale=1", of=last), first.transpose(0, 2, 3, 1))
    loose = spec("image", np.float32, None, None, None, None)
    for layout, wanted in (("NCHW", first), ("nhwc", first.transpose(0, 2, 3, 1))):
        found = values(tmp_path, f"layout={layout}", "size=24x32", of=loose)
        np.testing.assert_array_equal(found, wanted)
    with pytest.raises(InputError, match=r"does not say which axis .* holds channels"):
        opened(tmp_path, "size=24x32", of=loose)
    with pytest.raises(InputError, match=r"the model takes \(samples, 3, 24, 32\)"):
        opened(tmp_path, "layout=NHWC", "size=24x32")


def test_colour(tmp_path: Path) -> None:
    files = pictures(tmp_path)
    rgb = values(tmp_path, "colour=RGB")
    np.testing.assert_array_equal(values(tmp_path, "colour=BGR"), rgb[:, ::-1])
    # The luma of ITU-R 601, as Pillow rounds it.
    grey = spec("image", np.float32, None, 1, 24, 32)
    wanted = [
        stretched(file, 24, 32, FILTERS["bilinear"], "L").transpose(2, 0, 1) for file in files
    ]
    for settings in (("scale=1",), ("colour=grey",)):
        np.testing.assert_array_equal(values(tmp_path, *settings, of=grey), np.float32(wanted))
    # Numbers a channel are of the channels in their order.
    shifted = values(tmp_path, "colour=bgr", "mean=1,2,3")
    np.testing.assert_array_equal(shifted, rgb[:, ::-1] - np.float32([1, 2, 3])[:, None, None])


def test_scale_mean_and_std(tmp_path: Path) -> None:
    pictures(tmp_path)
    raw = values(tmp_path, "scale=1")
    assert (raw.min() >= 0, raw.max() > 200) == (True, True)
    np.testing.assert_array_equal(values(tmp_path, "scale=1/255"), raw / np.float32(255))
    np.testing.assert_array_equal(values(tmp_path, "scale=0.5"), raw * np.float32(0.5))
    np.testing.assert_array_equal(values(tmp_path, "mean=127.5"), raw - np.float32(127.5))
    np.testing.assert_array_equal(
        values(tmp_path, "std=2,4,8"), raw / np.float32([2, 4, 8])[:, None, None]
    )
    together = values(tmp_path, "scale=1/255", "mean=0.485,0.456,0.406", "std=0.229,0.224,0.225")
    wanted = (raw.transpose(0, 2, 3, 1) / np.float32(255) - MEAN) / STD
    np.testing.assert_array_equal(together, wanted.transpose(0, 3, 1, 2))


def test_dtype(tmp_path: Path) -> None:
    pictures(tmp_path)
    raw = values(tmp_path, "scale=1")
    for dtype in (np.float16, np.float64, np.uint8):
        own = spec("image", dtype, None, 3, 24, 32)
        found = values(tmp_path, "scale=1", of=own)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, raw.astype(dtype))
    signed = values(tmp_path, "mean=128", of=spec("image", np.int8, None, 3, 24, 32))
    np.testing.assert_array_equal(signed, raw.astype(np.int16) - 128)
    # What the model casts is what the settings say.
    coarse = values(tmp_path, "scale=1/255", "dtype=float16")
    np.testing.assert_array_equal(coarse, (raw / np.float32(255)).astype(np.float16))
    with pytest.raises(UsageError, match="do not become uint8"):
        opened(tmp_path, "scale=1/255", of=spec("image", np.uint8, None, 3, 24, 32))
    with pytest.raises(UsageError, match="do not become int8"):
        opened(tmp_path, "dtype=int8")


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, lambda upright: upright),
        (2, lambda upright: upright[:, ::-1]),
        (3, lambda upright: upright[::-1, ::-1]),
        (4, lambda upright: upright[::-1]),
        (5, lambda upright: upright.transpose(1, 0, 2)),
        (6, lambda upright: np.rot90(upright, 1)),
        (7, lambda upright: upright[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda upright: np.rot90(upright, -1)),
    ],
)
def test_a_picture_is_turned_as_its_exif_says(
    orientation: int, turned: object, tmp_path: Path
) -> None:
    """The file has what a camera stores, and the model sees what people do."""
    assert callable(turned)
    upright = pixels(3, 24, 32)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(turned(upright))).save(tmp_path / "a.png", exif=exif)
    found = values(tmp_path, "scale=1")
    np.testing.assert_array_equal(found[0].transpose(1, 2, 0), upright)


def test_modes_of_pictures(tmp_path: Path) -> None:
    colours = pixels(0, 24, 32)
    alpha = np.full((24, 32, 1), 99, np.uint8)
    Image.fromarray(np.concatenate([colours, alpha], axis=2)).save(tmp_path / "rgba.png")
    Image.fromarray(colours[..., 0]).save(tmp_path / "grey.png")
    found = values(tmp_path, "scale=1").transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(found[0], np.repeat(colours[..., :1], 3, axis=2))
    np.testing.assert_array_equal(found[1], colours)


def test_what_cannot_be_read_is_named_and_left_out(tmp_path: Path) -> None:
    files = pictures(tmp_path)
    whole = values(tmp_path, "scale=1")
    (tmp_path / "picture_0.png").write_bytes(files[0].read_bytes()[:200])
    (tmp_path / "picture_3.png").write_bytes(b"")
    deep = Image.fromarray(np.full((30, 30), 60_000, np.uint16))
    deep.save(tmp_path / "picture_9.png")
    (tmp_path / "notes.txt").write_text("no picture, and not looked at")
    (tmp_path / ".hidden.png").write_bytes(b"nor this")
    samples = opened(tmp_path, "scale=1")
    np.testing.assert_array_equal(everything(samples, 2)["image"], whole[[1, 2, 4]])
    (note,) = samples.source.notes
    assert note.startswith(f"3 of 6 pictures in {tmp_path} cannot be read and are left out: ")
    for file in ("picture_0.png", "picture_3.png", "picture_9.png"):
        assert file in note
    assert "more than 8 bits" in note
    for file in files:
        file.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"none of 6 pictures can be read. The first, picture_0"):
        opened(tmp_path, "scale=1")


def test_progress_is_shown_of_every_picture(tmp_path: Path) -> None:
    files = pictures(tmp_path)
    files[1].write_bytes(b"broken")
    shown: list[tuple[str, int, int]] = []

    class Shown:
        @contextmanager
        def stage(self, name: str, total: int) -> Iterator[Advance]:
            steps: list[int] = []
            yield steps.append
            shown.append((name, total, sum(steps)))

    open_samples(as_source("samples", Images(tmp_path, "scale=1"), Shown()), [IMAGE])
    assert shown == [("Pictures", 5, 5)]


def test_pictures_are_opened_once(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    pictures(folder)
    source = Images(folder, "scale=1")
    first = open_samples(source, [IMAGE])
    wanted = everything(first, 5)["image"]
    shutil.rmtree(folder)
    # Other readings of the model's inputs and further passes take what was read.
    again = open_samples(source, [replace(IMAGE, shape=(4, 3, 24, 32))])
    np.testing.assert_array_equal(everything(again, 1)["image"][:4], wanted[:4])
    assert again.sha256 == first.sha256


def test_the_hash_is_of_what_the_model_sees(tmp_path: Path) -> None:
    files = pictures(tmp_path)
    samples = opened(tmp_path, "scale=1/255")
    arrays = {"image": everything(samples, 3)["image"]}
    assert open_samples(as_source("samples", arrays), [IMAGE]).sha256 == samples.sha256
    assert opened(tmp_path, "scale=1/254").sha256 != samples.sha256
    files[2].rename(tmp_path / "picture_2b.png")  # which keeps the order
    assert opened(tmp_path, "scale=1/255").sha256 == samples.sha256


def in_classes(folder: Path) -> None:
    for number, name in enumerate(("owl", "cat", "dog")):
        pictures(folder / name / "more", [(30, 40 + number)] * (number + 1))


def test_subfolders_are_classes_of_a_list(tmp_path: Path) -> None:
    folder, listed = tmp_path / "pictures", tmp_path / "classes.txt"
    in_classes(folder)
    listed.write_text("background\ndog\nfox\n\nowl\ncat\n", encoding="utf-8")
    # By their paths: cat, cat, dog, dog, dog, owl.
    samples = opened(folder, "scale=1", f"classes={listed}")
    assert samples.labels is not None
    assert samples.labels.tolist() == [5, 5, 1, 1, 1, 4]
    in_order = opened(folder, "scale=1", "classes=sorted").labels
    assert in_order is not None
    assert in_order.tolist() == [0, 0, 1, 1, 1, 2]
    assert samples.source.notes == ()
    (folder / "cat" / "more" / "picture_1.png").write_bytes(b"broken")
    fewer = opened(folder, "scale=1", f"classes={listed}").labels
    assert fewer is not None
    assert fewer.tolist() == [5, 1, 1, 1, 4]


def test_classes_are_not_guessed(tmp_path: Path) -> None:
    folder, listed = tmp_path / "pictures", tmp_path / "classes.txt"
    in_classes(folder)
    samples = opened(folder, "scale=1")
    assert samples.labels is None
    assert "taken for no labels: give --preprocess classes=FILE" in samples.source.notes[0]
    listed.write_text("cat\ndog\n", encoding="utf-8")
    with pytest.raises(
        InputError, match=r"1 subfolders are no classes of .*classes\.txt, owl first"
    ):
        opened(folder, f"classes={listed}")
    listed.write_text("cat\ndog\nowl\ncat\n", encoding="utf-8")
    with pytest.raises(InputError, match="the class cat is in it twice"):
        opened(folder, f"classes={listed}")
    with pytest.raises(InputError, match="no such file"):
        opened(folder, "classes=missing.txt")
    pictures(folder, [(30, 30)])
    with pytest.raises(InputError, match=r"holds pictures \(picture_0.png\) and subfolders"):
        opened(folder, "scale=1")
    pictures(tmp_path / "flat", [(30, 30)])
    with pytest.raises(InputError, match="the pictures are in no subfolders"):
        opened(tmp_path / "flat", "classes=sorted")


def test_groups_by_a_pattern_of_the_path(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("b_1", "a_1", "b_2", "a_2", "c_1"):
        Image.fromarray(pixels(0, 30, 30)).save(folder / f"{name}.png")
    for pattern in (r"groups=^(\w)_", r"groups=^\w"):
        groups = opened(folder, pattern).groups
        assert groups is not None
        assert groups.tolist() == [0, 0, 1, 1, 2]  # in the order of the paths
    with pytest.raises(InputError, match=r"nothing of c_1.png matches"):
        opened(folder, "groups=^([ab])")


def test_the_settings_in_a_command_line_and_in_a_file(tmp_path: Path) -> None:
    source = Images(tmp_path, "imagenet", "classes=sorted")
    assert source.options[:6] == [
        "--samples",
        str(tmp_path),
        "--preprocess",
        "size=224",
        "--preprocess",
        "fit=crop",
    ]
    assert source.settings["samples"] == str(tmp_path)
    assert source.settings["preprocess"] == source.options[3::2]


def test_models_that_pictures_are_no_inputs_of(tmp_path: Path) -> None:
    pictures(tmp_path)
    with pytest.raises(InputError, match="a folder of pictures holds one input, but the model has"):
        open_samples(Images(tmp_path, "scale=1"), [IMAGE, spec("x", np.float32, None)])
    with pytest.raises(InputError, match="does not say what size its input image has"):
        opened(tmp_path, "scale=1", of=spec("image", np.float32, None, 3, None, 32))
    with pytest.raises(InputError, match=r"take an \.npz"):
        opened(tmp_path, "size=30", of=spec("image", np.float32, None, 9))
    with pytest.raises(UsageError, match="shorter=30: a picture of that side has no room"):
        opened(tmp_path, "fit=crop", "shorter=30")
    with pytest.raises(UsageError, match="mean: 2 numbers, and pictures have 3 channels"):
        opened(tmp_path, "mean=1,2")


def test_folders_without_pictures_or_settings(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are no pictures in it"):
        opened(tmp_path, "scale=1")
    pictures(tmp_path)
    with pytest.raises(UsageError, match="it is not said how pictures become inputs"):
        Images(tmp_path)
    with pytest.raises(InputError, match="say how they become inputs, as in --preprocess imagenet"):
        open_samples(as_source("samples", tmp_path), [IMAGE])
    with pytest.raises(InputError, match="is for a folder of pictures, and this is a file"):
        opened(tmp_path / "picture_0.png", "scale=1")
    with pytest.raises(InputError, match="there is no such file"):
        opened(tmp_path / "missing", "scale=1")
