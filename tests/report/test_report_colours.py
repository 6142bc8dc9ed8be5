import re

from onnx_relusv.report.plots import COLOURS, light


def test_light_colours_tell_roles_apart() -> None:
    found = [light(role) for role in COLOURS]
    assert len(set(found)) == len(found)


def test_colours_are_written_as_matplotlib_writes_them() -> None:
    for colour in COLOURS.values():
        assert re.fullmatch("#[0-9a-f]{6}", colour.light)
        assert re.fullmatch("#[0-9a-f]{6}", colour.dark)
