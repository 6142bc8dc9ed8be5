"""Outputs that get their names together or not at all, and replace nobody else's."""

import os
import signal
import stat
from pathlib import Path

import pytest

from onnx_relusv.core.errors import UsageError
from onnx_relusv.work.files import Publication, staged, written_files


def content(folder: Path) -> dict[str, str]:
    """All that is in a folder, links and pipes by what they are."""
    found = {}
    for path in sorted(folder.rglob("*")):
        state = os.lstat(path)
        text = path.read_text() if stat.S_ISREG(state.st_mode) else oct(stat.S_IFMT(state.st_mode))
        found[str(path.relative_to(folder))] = text
    return found


def publish(folder: Path, *names: str, force: bool = False, between: object = None) -> None:
    """Publishes new files of these names, and a report `r`, in front of the last one."""
    with staged(folder / names[-1]) as place:
        (place / "r").mkdir()
        (place / "r" / "report.json").write_text("new")
        (place / "r" / "report.html").write_text("new")
        publication = Publication(force=force)
        for name in names:
            if name == names[-1]:
                publication.add(place / "r", folder / "r")
            (place / f"made {name}").write_text("new")
            publication.add(place / f"made {name}", folder / name)
        if callable(between):
            between()
        publication.commit()


ALL_NEW = {"a": "new", "b": "new", "r": "0o40000"} | dict.fromkeys(
    ("r/report.html", "r/report.json"), "new"
)


@pytest.fixture(params=[True, False], ids=["hard links", "no hard links"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems with and without hard links."""

    def none(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not request.param:
        monkeypatch.setattr(os, "link", none)


@pytest.mark.usefixtures("links")
def test_everything_gets_its_name(tmp_path: Path) -> None:
    with written_files() as written:
        publish(tmp_path, "a", "b")
    assert content(tmp_path) == ALL_NEW
    assert written == [tmp_path / name for name in ("a", "r", "b")]


@pytest.mark.usefixtures("links")
def test_what_is_there_is_replaced_by_force_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    for name in ("a", "b", "r/report.json", "r/others"):
        (tmp_path / name).write_text("old")
    publish(tmp_path, "a", "b", force=True)
    assert content(tmp_path) == ALL_NEW | {"r/others": "old"}


@pytest.mark.usefixtures("links")
@pytest.mark.parametrize("name", ["a", "b", "r/report.json", "r/report.html"])
@pytest.mark.parametrize("what", ["file", "folder", "pipe", "link"])
@pytest.mark.parametrize("force", [False, True])
def test_what_appears_meanwhile_is_left_and_nothing_else_is_written(
    name: str, what: str, force: bool, tmp_path: Path
) -> None:
    """A file is replaced by force, for that is what it is for; nothing else ever is."""
    before: dict[str, str] = {}

    def appear() -> None:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if what == "file":
            path.write_text("somebody's own")
        elif what == "folder":
            path.mkdir()
        elif what == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to("missing")
        before.update(
            {key: each for key, each in content(tmp_path).items() if not key.startswith(".")}
        )

    with written_files() as written:
        if what == "file" and force:
            publish(tmp_path, "a", "b", force=force, between=appear)
            assert content(tmp_path) == ALL_NEW
            return
        said = "which is never replaced" if force else "is not replaced without --force"
        with pytest.raises(UsageError, match=said):
            publish(tmp_path, "a", "b", force=force, between=appear)
    assert content(tmp_path) == before
    assert written == []


@pytest.mark.usefixtures("links")
@pytest.mark.parametrize("fails", range(1, 5))
def test_a_failure_on_the_way_takes_back_what_was_done(
    fails: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "r").mkdir()
    for name in ("a", "b", "r/report.json", "r/report.html"):
        (tmp_path / name).write_text("old")
    before = content(tmp_path)
    replace, calls = os.replace, []

    def full(*given: Path) -> None:
        calls.append(given)
        if len(calls) == fails:
            raise OSError(28, "No space left on device")
        replace(*given)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UsageError, match="No space left on device"):
        publish(tmp_path, "a", "b", force=True)
    assert content(tmp_path) == before


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_waits_until_all_is_done(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks what was written gets an answer that is true."""

    class EndError(Exception):
        pass

    def end(*_: object) -> None:
        raise EndError

    before = signal.signal(getattr(signal, name), end)
    link = os.link

    def linked(*given: Path, **options: object) -> None:
        link(*given, **options)  # type: ignore[arg-type]
        signal.raise_signal(getattr(signal, name))

    monkeypatch.setattr(os, "link", linked)
    try:
        with written_files() as written, pytest.raises(EndError):
            publish(tmp_path, "a", "b")
    finally:
        signal.signal(getattr(signal, name), before)
    assert content(tmp_path) == ALL_NEW
    assert len(written) == 3
