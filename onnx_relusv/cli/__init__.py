"""The command line; the only place that prints or exits."""

from onnx_relusv.cli.commands import cli
from onnx_relusv.cli.terminal import PROGRAM

__all__ = ["PROGRAM", "cli"]
