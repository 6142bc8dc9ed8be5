"""What a run says, and with which exit code it ends, where it cannot print or is told to end."""

import errno
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from rich.console import Console

from onnx_relusv.cli.group import Commands
from onnx_relusv.work.files import write_text

Step = Callable[[], None]


class Full(io.StringIO):
    """A stream on a disk without room."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def closed() -> Iterator[io.TextIOBase]:
    """A pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    yield stream
    stream.close()


def ends(
    *steps: Step, out: object = None, err: object = None, monkeypatch: pytest.MonkeyPatch
) -> int:
    """The exit code of a command of these steps."""
    group = Commands()

    @group.command()
    def work() -> None:
        for step in steps:
            step()

    for name, stream in (("stdout", out), ("stderr", err)):
        if stream is not None:
            monkeypatch.setattr(sys, name, stream)
    with pytest.raises(SystemExit) as leaving:
        group.main(["work"], prog_name="onnx-relusv")
    assert isinstance(leaving.value.code, int)
    return leaving.value.code


def table() -> None:
    Console().print("word " * 5000)


def echo() -> None:
    click.echo("word " * 5000)


@pytest.fixture(params=[table, echo])
def prints(request: pytest.FixtureRequest) -> Step:
    """What fills any buffer."""
    step: Step = request.param
    return step


def writes(path: Path) -> Step:
    return lambda: write_text("figures", path, force=False)


def fails(error: BaseException) -> Step:
    def fail() -> None:
        raise error

    return fail


def told(number: int) -> Step:
    return lambda: signal.raise_signal(number)


def test_what_was_written_stays_written(
    prints: Step, closed: io.TextIOBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, out, said in (
        ("one", closed, "was closed by its reader"),
        ("two", Full(), "cannot be written (No space left on device)"),
    ):
        path, err = tmp_path / name, io.StringIO()
        code = ends(writes(path), prints, prints, out=out, err=err, monkeypatch=monkeypatch)
        assert code == 0
        assert err.getvalue() == (
            f"note: standard output {said}; not everything was printed. {path} is written.\n"
        )
        assert path.read_text() == "figures"
        assert sys.stdout is out


def test_what_is_only_printed_is_lost_and_that_is_said(
    prints: Step, closed: io.TextIOBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    err = io.StringIO()
    assert ends(prints, out=Full(), err=err, monkeypatch=monkeypatch) == 2
    assert err.getvalue() == (
        "error: standard output cannot be written (No space left on device); nothing was written.\n"
    )
    err = io.StringIO()
    assert ends(prints, out=closed, err=err, monkeypatch=monkeypatch) == 0
    assert err.getvalue() == (
        "note: standard output was closed by its reader; not everything was printed.\n"
    )


def test_a_few_words_are_found_to_be_lost_too(
    closed: io.TextIOBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stay in a buffer until the end."""
    steps, err = (writes(tmp_path / "x"), lambda: click.echo("x", nl=False)), io.StringIO()
    assert ends(*steps, out=closed, err=err, monkeypatch=monkeypatch) == 0
    assert "was closed by its reader" in err.getvalue()


def test_without_a_standard_error_work_goes_on(
    closed: io.TextIOBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def log() -> None:
        Console(stderr=True).print("word " * 5000)
        click.echo("word " * 5000, err=True)

    path, out = tmp_path / "x", io.StringIO()
    steps = (log, writes(path), lambda: click.echo("done"))
    assert ends(*steps, out=out, err=closed, monkeypatch=monkeypatch) == 0
    assert (out.getvalue(), path.read_text()) == ("done\n", "figures")
    assert ends(log, fails(ValueError("x")), err=Full(), monkeypatch=monkeypatch) == 1


def test_names_are_spelled_where_a_stream_lacks_their_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ASCII stream, and a name that is no UTF-8: what was written is told all the same."""
    for encoding in ("ascii", "utf-8"):
        content = io.BytesIO()
        out = io.TextIOWrapper(content, encoding=encoding, write_through=True)
        steps = (
            writes(tmp_path / encoding),
            lambda: Console(width=80).print("caf\N{LATIN SMALL LETTER E WITH ACUTE} \udcff"),
        )
        assert ends(*steps, out=out, monkeypatch=monkeypatch) == 0
        assert b"\\udcff" in content.getvalue()
        assert (b"caf\\xe9" in content.getvalue()) == (encoding == "ascii")


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_signals(name: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number = getattr(signal, name)
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, number)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        err, path = io.StringIO(), tmp_path / "x"
        assert ends(told(number), writes(path), err=err, monkeypatch=monkeypatch) == code
        assert err.getvalue().strip() == "error: interrupted; nothing was written."
        assert not path.exists()
        err = io.StringIO()
        assert ends(writes(path), told(number), err=err, monkeypatch=monkeypatch) == code
        assert err.getvalue().strip() == (
            f"error: interrupted; {path} had been written before, checked and whole."
        )
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
def test_a_signal_that_is_ignored_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        steps = (told(signal.SIGHUP), writes(tmp_path / "x"))
        assert ends(*steps, monkeypatch=monkeypatch) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/t/x"), 2, "no room for /t/x (No space"),
        (OSError(errno.EFBIG, "File too large"), 2, "there is no room (File too large)"),
        (OSError(errno.EIO, "Input/output error"), 1, "unexpected OSError"),
        (MemoryError(), 1, "not enough memory"),
        (ValueError("x\x1b[31m"), 1, "unexpected ValueError: x\\x1b[31m"),
    ],
)
def test_errors_tell_what_was_written(
    error: BaseException, code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for steps, outcome in (
        ((fails(error),), "othing was written"),
        ((writes(tmp_path / "x"), fails(error)), f"{tmp_path / 'x'} had been written before"),
    ):
        err = io.StringIO()
        assert ends(*steps, err=err, monkeypatch=monkeypatch) == code
        assert said in err.getvalue()
        assert outcome in err.getvalue()


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to another process")
@pytest.mark.parametrize("library", ["click", "onnxruntime"])
def test_a_signal_is_heard_while_libraries_are_loaded(library: str) -> None:
    """Loading them takes a second or more, and what they make of an interrupt is anything."""
    telling = (
        "import os, signal, sys; from onnx_relusv import __main__;"
        "from onnx_relusv.work import interrupts;"
        "sys.argv = ['onnx-relusv', 'inspect', 'model.onnx'];"
        f"sys.addaudithook(lambda event, given: event == 'import' and given[0] == '{library}'"
        " and os.kill(os.getpid(), signal.SIGTERM)); __main__.main()"
    )
    ended = subprocess.run([sys.executable, "-c", telling], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (143, "")
    # click ends the line of a terminal first.
    assert ended.stderr.lstrip() == "error: interrupted; nothing was written.\n"
