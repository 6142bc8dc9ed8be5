"""Python's own warnings become one line each, without a path and a line of source."""

import warnings

import click
import pytest
from click.testing import CliRunner

from onnx_relusv.cli.group import Commands


@pytest.mark.filterwarnings("default")
def test_a_warning_becomes_a_line() -> None:
    @click.group(cls=Commands)
    def group() -> None:
        pass

    @group.command()
    def warns() -> None:
        warnings.warn("of two\nlines", RuntimeWarning, stacklevel=1)

    before = warnings.showwarning
    result = CliRunner().invoke(group, ["warns"])
    assert result.exit_code == 0
    assert result.stderr == "warning: of two lines\n"
    assert warnings.showwarning is before
