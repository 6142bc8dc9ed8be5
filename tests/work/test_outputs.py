"""What may be written where, before any work."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from onnx_relusv import compare
from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.work.files import check_outputs, check_utf8

POSIX = pytest.mark.skipif(os.name != "posix", reason="makes links and pipes")


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


MAKERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder": (Path.mkdir, "is a folder"),
    "pipe": (os.mkfifo, "is a named pipe, which is never replaced"),
    "socket": (make_socket, "is a socket, which is never replaced"),
    "link": (lambda path: path.symlink_to("model.onnx"), "is a symbolic link to model.onnx"),
    "dangling": (lambda path: path.symlink_to("missing"), "is a symbolic link to missing"),
    "loop": (lambda path: path.symlink_to(path.name), "is a symbolic link to"),
}


@POSIX
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("what", MAKERS)
def test_regular_files_alone_are_replaced(
    what: str, force: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    (tmp_path / "model.onnx").touch()
    make, said = MAKERS[what]
    for name in ("out", "r"):
        Path(name).mkdir()
    make(Path("out/x"))
    with pytest.raises(UsageError, match=said):
        check_outputs({"--output": Path("out/x")}, force=force)
    make(Path("r/report.html"))
    with pytest.raises(UsageError, match=said):
        check_outputs({}, Path("r"), force=force)
    if what != "folder":
        with pytest.raises(UsageError, match=r"is a .*name a folder for the report"):
            check_outputs({}, Path("out/x"), force=force)


@POSIX
def test_a_report_may_go_through_a_link_to_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    check_outputs({"--output": tmp_path / "link" / "x"}, tmp_path / "link", force=False)


def test_existing_files_need_force(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "report.json").touch()
    check_outputs({"--output": tmp_path / "x"}, tmp_path / "r", force=True)
    for files, report in (({"--output": tmp_path / "x"}, None), ({}, tmp_path / "r")):
        with pytest.raises(UsageError, match="overwrite with --force"):
            check_outputs(files, report, force=False)


@POSIX
@pytest.mark.parametrize("spelling", ["same", "dots", "through a link", "hard link", "to a link"])
def test_an_input_is_never_an_output(spelling: str, tmp_path: Path) -> None:
    model = tmp_path / "in" / "model.onnx"
    model.parent.mkdir()
    model.touch()
    output, given = model, model
    if spelling == "dots":
        output = tmp_path / "in" / ".." / "in" / "model.onnx"
    elif spelling == "through a link":
        (tmp_path / "link").symlink_to("in")
        output = tmp_path / "link" / "model.onnx"
    elif spelling == "hard link":
        output = tmp_path / "other.onnx"
        os.link(model, output)
    elif spelling == "to a link":
        given = tmp_path / "given.onnx"
        given.symlink_to(model)
    with pytest.raises(UsageError, match="is an input too"):
        check_outputs({"--output": output}, force=True, inputs=[tmp_path / "none", given])


@pytest.mark.parametrize(
    ("files", "report", "cache"),
    [
        ({"--output": "r/report.html"}, "r", None),
        ({"--json": "r/../r/report.json"}, "r", None),
        ({"--output": "new"}, "new", None),
        ({"--output": "x", "--json": "r/../x"}, None, None),
        ({"--output": "x"}, None, "x"),
        ({}, "r", "r"),
        ({}, "r", "./r/"),
        # A name that the external data of the other may get.
        ({"--output": "x", "--json": "x.0123abcd.data"}, None, None),
    ],
)
def test_two_options_never_name_one_thing(
    files: dict[str, str],
    report: str | None,
    cache: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r").mkdir()
    places = {option: Path(path) for option, path in files.items()}
    report_path, cache_path = (None if each is None else Path(each) for each in (report, cache))
    with pytest.raises(UsageError, match=r"and --\w+ name the same thing"):
        check_outputs(places, report_path, force=True, cache=cache_path)
    apart = {option: Path("r", f"{number}.x") for number, option in enumerate(places)}
    check_outputs(apart, report_path, force=True, cache=Path("elsewhere"))


def test_what_external_data_may_be_called_is_kept_from_inputs(tmp_path: Path) -> None:
    data = tmp_path / "x.0123abcd.data"
    with pytest.raises(UsageError, match="is an input too"):
        check_outputs({"--output": tmp_path / "x"}, force=True, inputs=[data])
    check_outputs({"--output": tmp_path / "y"}, force=True, inputs=[data])


@pytest.mark.parametrize("whole", [False, True])
def test_nothing_is_put_among_samples(whole: bool, tmp_path: Path) -> None:
    folder = tmp_path / "test_data_set_0"
    folder.mkdir()
    samples = folder if whole else tmp_path
    with pytest.raises(UsageError, match="lies among the samples"):
        check_outputs({"--output": folder / "output_0.pb"}, force=True, inputs=[samples])
    check_outputs({"--output": tmp_path / "small.onnx"}, force=True, inputs=[samples])


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    def check(name: str, *, with_data: bool = False) -> None:
        check_outputs({"--output": tmp_path / name}, force=False, with_data=with_data)

    check("n" * 255)
    check("n" * 241, with_data=True)
    check("caf\N{LATIN SMALL LETTER E WITH ACUTE}\n\t", with_data=True)
    check(os.fsdecode(b"\xff"))
    for name, with_data in (("n" * 300, False), ("n" * 256, False), ("n" * 250, True)):
        with pytest.raises(UsageError, match="Choose a shorter one"):
            check(name, with_data=with_data)
    with pytest.raises(UsageError, match="NUL"):
        check("a\0b")
    with pytest.raises(InputError, match="whose path is UTF-8"):
        check_utf8(tmp_path / os.fsdecode(b"\xff"), InputError)
    odd, plain = tmp_path / os.fsdecode(b"\xff.onnx"), tmp_path / "plain.onnx"
    for pair in ((odd, plain), (plain, odd)):
        with pytest.raises(InputError, match="whose path is UTF-8"):
            compare(*pair, samples=tmp_path / "samples.npz")
    check_utf8(tmp_path / "caf\N{LATIN SMALL LETTER E WITH ACUTE}", InputError)
    with pytest.raises(UsageError, match="create it first"):
        check("missing/x")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="create it first"):
        check("file/x")
