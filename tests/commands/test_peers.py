"""Files of others that a sweep is told of."""

import json
from pathlib import Path

import pytest

from onnx_relusv.commands.peers import check_peers, read_peers
from onnx_relusv.core.errors import InputError
from onnx_relusv.core.sweeps import PeerPoint


def written(folder: Path, data: object) -> Path:
    path = folder / "peers.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    theirs = {"name": "theirs", "bytes": 0.25, "accuracy": 0.92, "macs": 0.5, "latency": 1.2}
    found = read_peers(written(tmp_path, [theirs, {"name": "other", "bytes": 1.5, "drop": -0.1}]))
    assert found == (
        PeerPoint(name="theirs", bytes=0.25, accuracy=0.92, macs=0.5, latency=1.2),
        PeerPoint(name="other", bytes=1.5, drop=-0.1),
    )
    assert read_peers(None) == ()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("{", "not JSON"),
        ('[{"name": "a", "name": "b"}]', "has the field name twice"),
        ({}, "give a list, such as"),
        ([], "give a list, such as"),
        ([{"name": "a", "drop": 1}], r"\[0\]: the field bytes is missing"),
        ([{"name": "a", "bytes": 0, "drop": 1}], r"\[0\]\.bytes: 0; use"),
        ([{"name": "a", "bytes": "1", "drop": 1}], r"\[0\]\.bytes: .*1.*; use"),
        ([{"name": "a", "bytes": 0.5}], r"\[0\]: give accuracy, a share from 0 to 1, or drop"),
        ([{"name": "a", "bytes": 0.5, "drop": 1, "accuracy": 0.5}], "one of them"),
        ([{"name": "a", "bytes": 0.5, "accuracy": 92}], r"\[0\]\.accuracy: 92; use"),
        ([{"name": "a", "bytes": 0.5, "drop": 1, "speed": 2}], "the field speed is unknown"),
        ([{"name": " ", "bytes": 0.5, "drop": 1}], "name is empty"),
        ([{"name": "a", "bytes": 0.5, "drop": 1}] * 2, "the name 'a' is there 2 times"),
        ([{"name": str(n), "bytes": 0.5, "drop": 1} for n in range(101)], "give 100 at most"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(data: object, problem: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=problem):
        read_peers(written(tmp_path, data))


def test_accuracies_are_for_files_that_are_judged_by_theirs() -> None:
    peers = (PeerPoint(name="theirs", bytes=0.25, accuracy=0.92),)
    check_peers(Path("p.json"), peers, "accuracy")
    with pytest.raises(InputError, match=r"'theirs' has an accuracy.* Give drop instead, answers"):
        check_peers(Path("p.json"), peers, "agreement")
    with pytest.raises(InputError, match="the relative output error"):
        check_peers(Path("p.json"), peers, "error")
