"""The peak memory of `inspect`, each measured in a process of its own.

    python scripts/benchmarks/memory.py MODEL [SAMPLES]

inspects a model and prints the largest resident memory of that process in bytes.
"""

import resource
import subprocess
import sys
from pathlib import Path

from onnx_relusv import inspect
from onnx_relusv.core.options import MeasureOptions

# Linux counts in kibibytes, macOS in bytes.
_UNIT = 1 if sys.platform == "darwin" else 1024


def peak_of_inspect(model: Path, samples: Path | None) -> int:
    """Bytes, the interpreter and the libraries included."""
    command = [sys.executable, __file__, str(model), *([] if samples is None else [str(samples)])]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


if __name__ == "__main__":
    inspect(
        Path(sys.argv[1]),
        samples=Path(sys.argv[2]) if len(sys.argv) > 2 else None,
        measuring=MeasureOptions(provider="cpu"),
    )
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT)
