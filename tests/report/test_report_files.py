import os
import stat
from pathlib import Path

import pytest

from onnx_relusv.core.errors import UsageError
from onnx_relusv.work.files import write_text


def test_a_file_is_replaced_as_a_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")
    before = path.stat().st_ino
    write_text("n\u00e9w\n", path, force=True)
    assert path.read_bytes() == "n\u00e9w\n".encode()
    assert path.stat().st_ino != before
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UsageError, match=r"report\.html: .*No space left on device"):
        write_text("new", path, force=True)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="missing"):
        write_text("new", tmp_path / "missing" / "report.html", force=True)


def test_a_report_is_as_readable_as_any_new_file(tmp_path: Path) -> None:
    plain, report = tmp_path / "plain", tmp_path / "report"
    plain.touch()
    write_text("new", report, force=False)
    assert stat.S_IMODE(report.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
