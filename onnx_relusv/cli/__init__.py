"""The command line; the only place that prints or exits."""

from onnx_relusv.cli.commands import PROGRAM, cli

__all__ = ["PROGRAM", "cli"]
