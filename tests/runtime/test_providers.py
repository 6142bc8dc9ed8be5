"""Execution providers by the names that users give, and what of a model runs elsewhere.

AzureExecutionProvider, which onnxruntime's packages for the CPU have, runs no node here: it is a
provider that is offered and leaves all to the CPU. OpenVINO runs where its package is installed.
"""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from command_line import run, words
from onnx_graphs import node, runnable

from onnx_relusv.core.blocks import Runnable
from onnx_relusv.core.errors import UsageError
from onnx_relusv.runtime.providers import choose_provider, kernels_on, warn_of_cpu_nodes
from onnx_relusv.runtime.session import CPU, CUDA, ProviderWarning, Session

OFFERED = onnxruntime.get_available_providers()
AZURE, OPENVINO = "AzureExecutionProvider", "OpenVINOExecutionProvider"
WEIGHT = np.arange(12, dtype=np.float32).reshape(4, 3)
X = {"x": np.ones((2, 4), np.float32)}
azure = pytest.mark.skipif(AZURE not in OFFERED, reason="this onnxruntime does not offer it")
openvino = pytest.mark.skipif(OPENVINO not in OFFERED, reason="onnxruntime-openvino is missing")


def model() -> Runnable:
    nodes = [
        node("MatMul", ["x", "w"], "p"),
        node("Relu", ["p"], "q"),
        node("MatMul", ["q", "v"], "y"),
    ]
    return runnable(nodes, {"x": ("n", 4)}, ["y"], {"w": WEIGHT, "v": WEIGHT.T})


@pytest.mark.parametrize("name", ["cpu", "CPU", "Cpu", "CPUExecutionProvider"])
def test_the_cpu_by_any_of_its_names(name: str) -> None:
    assert choose_provider(name) == CPU


@pytest.mark.skipif(CUDA in OFFERED, reason="this onnxruntime has a CUDA provider")
def test_cuda_by_its_full_name() -> None:
    with pytest.raises(UsageError, match=r"--provider CUDAExecutionProvider: .*no CUDA provider"):
        choose_provider("CUDAExecutionProvider")


@pytest.mark.parametrize("name", ["", "gpu", "nosuch", "Execution", "openvin"])
def test_what_is_not_offered(name: str) -> None:
    with pytest.raises(UsageError, match=f"^--provider {name}: this onnxruntime offers") as caught:
        choose_provider(name)
    for one in OFFERED:
        assert one.removesuffix("ExecutionProvider") in str(caught.value)


@pytest.mark.parametrize("name", ["directml", "DmlExecutionProvider", "CoreML", "TensorRT"])
def test_providers_of_other_builds(name: str) -> None:
    if any(name.casefold()[:4] in one.casefold() for one in OFFERED):
        pytest.skip("this onnxruntime offers it")
    with pytest.raises(UsageError, match="others come with other builds of onnxruntime"):
        choose_provider(name)


@azure
@pytest.mark.parametrize("name", ["azure", "AzureExecutionProvider", "AZURE"])
def test_a_provider_that_is_offered_and_runs_nothing(name: str) -> None:
    with pytest.raises(
        UsageError, match="AzureExecutionProvider does not run a small graph; the C"
    ):
        choose_provider(name)


@azure
def test_what_a_provider_leaves_to_the_cpu_is_said() -> None:
    text = "AzureExecutionProvider leaves a part of the model to the CPU: all nodes, "
    with pytest.warns(ProviderWarning, match=text) as caught:
        warn_of_cpu_nodes(model(), AZURE, X)
    (warning,) = caught
    assert "2 MatMul" in str(warning.message)
    assert "1 Relu" in str(warning.message)
    # And what it computes is right all the same.
    np.testing.assert_array_equal(Session(model(), AZURE).run(X)["y"], X["x"] @ WEIGHT @ WEIGHT.T)


def test_nothing_is_said_of_the_cpu_itself() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_cpu_nodes(model(), CPU, X)


def test_graphs_that_measure_run_on_the_cpu_or_cuda() -> None:
    assert [kernels_on(name) for name in (CPU, CUDA, AZURE, OPENVINO)] == [CPU, CUDA, CPU, CPU]


def test_the_command_line_names_what_there_is(tmp_path: Path) -> None:
    found = run("inspect", tmp_path / "model.onnx", "--provider", "npu")
    assert found.exit_code == 2
    assert "--provider npu: this onnxruntime offers" in words(found)


@openvino
def test_openvino() -> None:
    for name in ("openvino", "OpenVINO", "openvinoexecutionprovider"):
        assert choose_provider(name) == OPENVINO
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_cpu_nodes(model(), OPENVINO, X)
    session = Session(model(), OPENVINO)
    assert session.provider == OPENVINO
    np.testing.assert_allclose(session.run(X)["y"], X["x"] @ WEIGHT @ WEIGHT.T, rtol=1e-6)
    value = session.run_on_device(X, ["y"])["y"]
    assert value.device_name() == "cpu"


@openvino
def test_what_openvino_cannot_run_is_said() -> None:
    nodes = [node("MatMul", ["x", "w"], "p"), node("Det", ["p"], "y")]
    determinant = runnable(nodes, {"x": (3, 4)}, ["y"], {"w": WEIGHT})
    feeds = {"x": np.eye(3, 4, dtype=np.float32)}
    text = f"{OPENVINO} leaves a part of the model to the CPU: 1 Det."
    with pytest.warns(ProviderWarning, match=text):
        warn_of_cpu_nodes(determinant, OPENVINO, feeds)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(Session(determinant, OPENVINO).run(feeds)["y"], 0, atol=1e-4)


@openvino
def test_a_model_is_compressed_on_openvino(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [
            sys.executable, "-m", "onnx_relusv", "compress", root / "models/lenet_300_100.onnx",
            "--output", tmp_path / "small.onnx", "--size", "0.3", "--provider", "openvino",
            "--samples", root / "models/fashion_calibration.npz", "--max-samples", "200",
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "small.onnx").exists()
