"""The command line without a process of its own, and what it writes without line breaks."""

from click.testing import CliRunner, Result

from onnx_relusv.cli.commands import cli


def run(*arguments: object) -> Result:
    """Runs a command; arguments of any kind become text."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def words(result: Result) -> str:
    """What was written, however it was broken into lines."""
    return " ".join(result.output.split())
