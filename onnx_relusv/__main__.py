"""`python -m onnx_relusv`, the same as the command `onnx-relusv`."""

import sys

from onnx_relusv.cli import main

if __name__ == "__main__":
    sys.exit(main())
