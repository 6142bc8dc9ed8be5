"""What importing the package asks of OpenBLAS, in processes of their own."""

import os
import subprocess
import sys

import pytest

NAME = "OPENBLAS_THREAD_TIMEOUT"
# Modules that load an OpenBLAS, in the order in which they are loaded.
SCRIPT = f"""
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in ("numpy", "scipy"):
            print(name, os.environ.get({NAME!r}))
sys.meta_path.insert(0, Watch())
from onnx_relusv import compress
"""


@pytest.mark.parametrize(("given", "expected"), [(None, "4"), ("20", "20")])
def test_it_is_asked_before_it_is_loaded(given: str | None, expected: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != NAME}
    if given is not None:
        environment[NAME] = given
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, check=True, capture_output=True, text=True
    )
    assert ran.stdout.splitlines() == [f"numpy {expected}", f"scipy {expected}"]
