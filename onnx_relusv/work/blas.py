"""Lets OpenBLAS's threads sleep as soon as they have nothing to do.

numpy's and scipy's OpenBLAS reads the environment when it is loaded, so this has to come before
either of them. By itself it keeps its threads waiting busily after every product, about 30 ms, and
on a few cores they stand in the way of onnxruntime's, with which they take turns here. A value
set by the user is kept.
"""

import os

# The logarithm of the processor's ticks that it waits; the least that it accepts.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
