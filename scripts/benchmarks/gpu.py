"""What an NVIDIA GPU changes: the tests marked gpu, and times beside those of the CPU.

    EXTRAS=gpu,test scripts/bench gpu

takes eight minutes at most: every part has a limit, and one that reaches it says so. ResNet-50
takes part where `scripts/zoo` has brought it, with a few images and blocks. The card's peak is
what it reaches on a product of two large float32 matrices, by the same onnxruntime.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from time import perf_counter

import numpy as np
import onnx
from ascents import providers_timed
from machine import machine_line
from onnx import TensorProto, helper
from timing import medians, readable

from onnx_relusv import Budgets, MeasureOptions, PlanOptions, compress
from onnx_relusv.core.errors import UsageError
from onnx_relusv.runtime.providers import choose_provider
from onnx_relusv.runtime.session import CUDA, Session
from onnx_relusv.work.executors import Advance

SIDE, _LARGE, _ROUNDS = 4096, 8192, 5
_TEST_SECONDS, _STAGE_SECONDS = 150, 75
# Of the stages of a compression, what is compared, in the words of its progress.
STAGES = {
    "moments": "Moments of the blocks' inputs",
    "damage of ranks": "Damage of the blocks' forms",
    "fit": "Fit",
}


@dataclass(frozen=True)
class Case:
    """A model that is compressed on either provider.

    Attributes:
        model: The file.
        samples: Its inputs.
        count: How many of them are drawn.
        every: One of so many layers may change.
        size: The budget, a share of the bytes.
    """

    model: Path
    samples: Path
    count: int
    every: int
    size: float


CASES = (
    Case(Path("models/fashion_vgg.onnx"), Path("models/fashion_calibration.npz"), 5000, 1, 0.25),
    Case(Path("zoo/resnet50.onnx"), Path("zoo/imagenet_pictures.npz"), 16, 9, 0.95),
)


def main() -> None:
    """Prints the table, or that there is no GPU."""
    print(machine_line())
    try:
        choose_provider("cuda")
    except UsageError as error:
        print(f"Nothing to measure: {error}")
        return
    print(_card())
    print("| what | CPU | GPU | CPU over GPU | share of the card's peak |")
    print("|---|---|---|---|---|")
    print(_tests(), flush=True)
    peak = _peak()
    print(f"| largest product, {_LARGE} cubed | | {peak / 1e12:.1f} TFLOP/s | | 1 |", flush=True)
    print(_ascent(peak), flush=True)
    for case in CASES:
        for line in _stages(case):
            print(line, flush=True)


def _card() -> str:
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "nvidia-smi does not say which card"


def _tests() -> str:
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "tests"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TEST_SECONDS)
    except subprocess.TimeoutExpired:
        return f"| tests marked gpu | | not done within {_TEST_SECONDS} s | | |"
    lines = (done.stdout + done.stderr).strip().splitlines()
    return f"| tests marked gpu | | {lines[-1] if lines else 'no output'} | | |"


def _peak() -> float:
    """Operations a second of a product whose operands are on the card already."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [_LARGE, _LARGE])
    total = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])
    # Several products of one operand, of which one number comes back.
    times = 8
    nodes = [
        helper.make_node("MatMul", ["x" if at == 0 else f"p{at - 1}", "x"], [f"p{at}"])
        for at in range(times)
    ]
    nodes.append(helper.make_node("ReduceMax", [f"p{times - 1}"], ["y"], keepdims=1))
    graph = helper.make_graph(nodes, "products", [value], [total])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = Session(proto, CUDA)
    feeds = {"x": np.full((_LARGE, _LARGE), 1 / _LARGE, np.float32)}
    with_transfer = medians({"all": lambda: session.run(feeds)}, _ROUNDS)["all"]
    return times * 2 * _LARGE**3 / with_transfer


def _ascent(peak: float) -> str:
    seconds, operations = providers_timed(SIDE)
    share = operations / seconds["cuda"] / peak
    return _line(
        f"ascent for s_0, {SIDE} x {SIDE}", seconds["cpu"], seconds["cuda"], f"{share:.2f}"
    )


def _stages(case: Case) -> Iterator[str]:
    name = case.model.stem
    if not (case.model.exists() and case.samples.exists()):
        yield f"| {name} | is not there: run scripts/zoo | | | |"
        return
    found = {}
    for provider in ("cuda", "cpu"):
        command = [sys.executable, __file__, provider, str(CASES.index(case))]
        try:
            done = subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=_STAGE_SECONDS
            )
        except subprocess.TimeoutExpired:
            yield f"| {name} on {provider} | not done within {_STAGE_SECONDS} s | | | |"
            return
        found[provider] = json.loads(done.stdout.splitlines()[-1])
    for what in found["cpu"]:
        yield _line(f"{name}, {what}", found["cpu"][what], found["cuda"][what], "")


def _line(what: str, cpu: float, cuda: float, share: str) -> str:
    return f"| {what} | {readable(cpu)} | {readable(cuda)} | {cpu / cuda:.1f} | {share} |"


class _Clock:
    """A progress that sums up the seconds of each stage by its name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        begun = perf_counter()
        try:
            yield lambda _: None
        finally:
            self.seconds[name] = self.seconds.get(name, 0) + perf_counter() - begun


def timed(case: Case, provider: str) -> dict[str, float]:
    """The seconds of stages of a compression.

    Args:
        case: What is compressed.
        provider: cuda or cpu.
    """
    nodes = onnx.load(case.model, load_external_data=False).graph.node
    layers = [node.name for node in nodes if node.op_type in ("Conv", "Gemm", "MatMul")]
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        compress(
            case.model,
            Path(folder) / "small.onnx",
            samples=case.samples,
            planning=PlanOptions(
                budgets=Budgets(size=case.size),
                include=tuple(map(escape, layers[:: case.every])) if case.every > 1 else (),
            ),
            measuring=MeasureOptions(provider=provider, max_samples=case.count),
            progress=clock,
        )
    found = {what: clock.seconds[name] for what, name in STAGES.items() if name in clock.seconds}
    return {**found, "all stages": sum(clock.seconds.values())}


if __name__ == "__main__":
    print(json.dumps(timed(CASES[int(sys.argv[2])], sys.argv[1])))
