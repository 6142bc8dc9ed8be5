"""Files of others beside those of a sweep, read from a JSON file."""

from collections import Counter
from pathlib import Path

from onnx_relusv.core.codec import FieldError, from_data
from onnx_relusv.core.errors import InputError
from onnx_relusv.core.sweeps import JudgedBy, PeerPoint
from onnx_relusv.work.json_file import read_json

_LARGEST_FILE = 1 << 20
# More than a plot can show.
_MOST = 100


def read_peers(path: Path | None) -> tuple[PeerPoint, ...]:
    """Reads a list of objects with the fields of `PeerPoint`; none without a file.

    Raises:
        InputError: It cannot be read, or a field is missing, unknown or out of range; the message
            has the field's path in the file.
    """
    if path is None:
        return ()
    data = read_json(path, "list of peers", _LARGEST_FILE)
    if not isinstance(data, list) or not data:
        raise InputError(
            f'{path}: give a list, such as [{{"name": "theirs", "bytes": 0.25, "drop": 0.4}}].'
        )
    if len(data) > _MOST:
        raise InputError(f"{path}: has {len(data)} peers; give {_MOST} at most.")
    try:
        found = from_data(tuple[PeerPoint, ...], data)
    except FieldError as error:
        raise InputError(f"{path}: {error}") from error
    (name, count), *_ = Counter(peer.name for peer in found).most_common()
    if count > 1:
        raise InputError(f"{path}: the name {name!r} is there {count} times; tell them apart.")
    return found


def check_peers(path: Path | None, peers: tuple[PeerPoint, ...], judged_by: JudgedBy) -> None:
    """Looks whether peers can be drawn beside files that are judged in this way.

    Raises:
        InputError: They say an accuracy, and files are not judged by theirs.
    """
    named = next((peer.name for peer in peers if peer.accuracy is not None), None)
    if named is not None and judged_by != "accuracy":
        unit = "answers in a hundred that change"
        if judged_by == "error":
            unit = "the relative output error"
        raise InputError(
            f"{path}: {named!r} has an accuracy, but there are no labels to judge these files by "
            f"theirs. Give drop instead, {unit}; or labels."
        )
