"""`python -m onnx_relusv`, the same as the command `onnx-relusv`."""

from onnx_relusv.cli import PROGRAM, cli

if __name__ == "__main__":
    cli(prog_name=PROGRAM)
