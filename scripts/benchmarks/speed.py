"""What `compress` costs, in plain passes of onnxruntime over its samples, at every effort.

Costs are processor time, user and system, so that other work on the machine counts less: of a
process that does nothing but load libraries and run the samples, and of one that compresses. Both
run on one core, since threads that wait for each other take processor time, too.
"""

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from machine import machine_line

from onnx_relusv.work.effort import SPENDING

MODEL = Path("models/fashion_vgg.onnx")
SAMPLES = Path("models/fashion_calibration.npz")
SIZE = 0.25
# Passes that are wanted at most.
WANTED = {"quick": 8, "normal": 30}
_ROUNDS = 3
# Prints the seconds of a pass, its session included, in batches of 250.
_PASS = """
import sys, time
import numpy, onnxruntime
model, samples = sys.argv[1:]
with numpy.load(samples) as arrays:
    images = arrays["image"].astype(numpy.float32)
begun = time.process_time()
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
for start in range(0, len(images), 250):
    session.run(None, {name: images[start : start + 250]})
print(time.process_time() - begun)
"""


def main(efforts: Sequence[str] = ()) -> None:
    """Prints for every effort the medians of a pass and of a compression, and their ratio.

    Args:
        efforts: Some of them; all if there are none.
    """
    unknown = [effort for effort in efforts if effort not in SPENDING]
    if unknown:
        sys.exit(f"usage: scripts/bench speed [{'|'.join(SPENDING)} ...]")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    print(machine_line())
    print(f"{MODEL.name} at {SIZE}, on one core, median of {_ROUNDS} rounds")
    print("| `--effort` | a pass | compress | passes | wanted at most |")
    print("|---|---|---|---|---|")
    for effort in efforts or SPENDING:
        # A pass before and one after: what else the machine does changes meanwhile.
        rounds = [(_pass(), _compress(effort), _pass()) for _ in range(_ROUNDS)]
        ones = [(before + after) / 2 for before, _, after in rounds]
        passes = median(each[1] / one for each, one in zip(rounds, ones, strict=True))
        seconds = median(each[1] for each in rounds)
        print(
            f"| {effort} | {median(ones):.2f} s | {seconds:.1f} s | {passes:.1f} "
            f"| {WANTED.get(effort, '-')} |",
            flush=True,
        )


def _pass() -> float:
    command = [sys.executable, "-c", _PASS, str(MODEL), str(SAMPLES)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _compress(effort: str) -> float:
    before = _of_children()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "onnx_relusv", "compress", str(MODEL)]
        command += ["--output", str(Path(folder) / "small.onnx"), "--samples", str(SAMPLES)]
        command += ["--size", str(SIZE), "--effort", effort]
        subprocess.run(command, check=True, capture_output=True)
    return _of_children() - before


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
