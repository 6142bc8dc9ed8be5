"""Settings of pictures: presets, TOML files and single texts, the later ones first of all."""

import re
from pathlib import Path

import numpy as np
import pytest

from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.samples.preprocessing import Preprocessing, preprocessing

TOML = """
preset = "imagenet"
size = [200, 240]
std = 0.5
shorter = 300
layout = "NHWC"
classes = "classes.txt"
"""


def toml(folder: Path, text: str = TOML) -> Path:
    path = folder / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_and_what_wins_over_it(tmp_path: Path) -> None:
    found = preprocessing([toml(tmp_path), "size=128", "dtype=float16"])
    assert found.size == (128, 128)
    assert (found.fit, found.shorter, found.layout) == ("crop", 300, "NHWC")
    assert found.mean == (0.485, 0.456, 0.406)
    assert (found.std, found.scale) == ((0.5,), (1, 255))
    assert found.dtype == np.float16
    assert found.classes == tmp_path / "classes.txt"
    assert preprocessing([toml(tmp_path)]).size == (200, 240)
    # A preset behind it takes the place of what it says.
    assert preprocessing([toml(tmp_path), "imagenet"]).std == (0.229, 0.224, 0.225)


def test_the_settings_say_the_same_again(tmp_path: Path) -> None:
    first = preprocessing([toml(tmp_path), "groups=^(.*)=[0-9]+$", "scale=2/3"])
    again = preprocessing(first.options)
    assert again == first
    assert again.groups == re.compile("^(.*)=[0-9]+$")
    assert (
        preprocessing(["imagenet"]).options
        == preprocessing(preprocessing(["imagenet"]).options).options
    )


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("imagnet", "use a preset, imagenet, a file that ends in .toml, or KEY=VALUE"),
        ("sise=3", "there is no such setting; use size, fit, .* Do you mean size?"),
        ("size=", "size=: invalid literal"),
        ("size=0", "use a whole number from 1 to 65536"),
        ("size=1x2x3", "use one length, or HEIGHTxWIDTH"),
        ("fit=squash", "use resize or crop"),
        ("interpolation=best", "use nearest, box"),
        ("layout=HWC", "use NCHW or NHWC"),
        ("colour=HSV", "use RGB, BGR or grey"),
        ("scale=0", "use numbers other than 0"),
        ("scale=1/0", "use numbers other than 0"),
        ("scale=a", "could not convert"),
        ("mean=nan", "use a finite number"),
        ("std=1,0,1", "use numbers above 0"),
        ("dtype=bool", "use float32"),
        ("groups=(", "unterminated|missing"),
        ("shorter=30", "this goes with fit=crop"),
    ],
)
def test_what_is_no_setting(text: str, match: str) -> None:
    with pytest.raises(UsageError, match=f"^--preprocess.*({match})"):
        preprocessing([text])


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("size = 3\nsize = 4", InputError, "not TOML"),
        ("sise = 3", UsageError, "sise: there is no such setting"),
        ("preset = 'other'", UsageError, "preset = 'other': use imagenet"),
        ("size = true", UsageError, "size = True: use a text, a number or a list of numbers"),
        ("[size]\na = 1", UsageError, "use a text, a number or a list"),
    ],
)
def test_what_is_no_file_of_settings(
    text: str, error: type[Exception], match: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=match):
        preprocessing([toml(tmp_path, text)])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--preprocess .*missing\.toml: there is no such file"):
        preprocessing([tmp_path / "missing.toml"])


def test_nothing_is_settled_by_itself() -> None:
    found = Preprocessing()
    assert (found.size, found.layout, found.colour, found.dtype, found.options) == (
        None,
        None,
        None,
        None,
        [],
    )


def test_the_page_says_all_of_it(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "pictures.md").read_text(encoding="utf-8")
    keys = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    with pytest.raises(UsageError, match=f"use {', '.join(keys)}\\."):
        preprocessing(["x=1"])
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    found = preprocessing([toml(tmp_path, example)])
    assert (found.size, found.shorter, found.interpolation) == ((192, 192), 220, "bicubic")
    assert preprocessing(["imagenet", "size=192", "shorter=220"]).fit == "crop"
