"""The benchmark over real files: its independent checks pass sound files and no other."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from graphs import model_proto, normal
from onnx import ModelProto, helper, numpy_helper

SCRIPTS = Path(__file__).parents[2] / "scripts"
NETWORK = """
    (float[N, 3, S, S] x) => (float[N, 6] y, int64[N] label) {
        c = Conv<pads = [1, 1, 1, 1]>(x, W, b)
        r = Relu(c)
        g = GlobalAveragePool(r)
        f = Flatten(g)
        y = Gemm(f, V, d)
        label = ArgMax<axis = 1, keepdims = 0>(y)
    }
"""


@pytest.fixture(scope="module", autouse=True)
def _scripts_on_the_path() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS / "benchmarks"))
        patch.syspath_prepend(str(SCRIPTS / "make_zoo"))
        yield


def _part(name: str) -> ModuleType:
    return importlib.import_module(name)


def _network(channels: int = 8) -> ModelProto:
    arrays = {
        "W": normal(channels, 3, 3, 3, scale=0.3),
        "b": normal(channels, scale=0.1),
        "V": normal(channels, 6, scale=0.3),
        "d": normal(6, scale=0.1),
    }
    return model_proto(NETWORK, arrays)


def _short_bias(model: ModelProto) -> None:
    _replace(model, "b", normal(3))


def _infinite(model: ModelProto) -> None:
    _replace(model, "d", np.full(6, np.inf, np.float32))


def _other_metadata(model: ModelProto) -> None:
    model.metadata_props.add(key="classes", value="six")


def _other_operators(model: ModelProto) -> None:
    model.opset_import[0].version += 1


def _fixed_batch(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def _random(model: ModelProto) -> None:
    model.graph.node[4].output[0] = "z"
    model.graph.node.insert(5, helper.make_node("RandomNormalLike", ["z"], ["noise"]))
    model.graph.node.insert(6, helper.make_node("Add", ["z", "noise"], ["y"]))


def _replace(model: ModelProto, name: str, values: np.ndarray) -> None:
    (tensor,) = (one for one in model.graph.initializer if one.name == name)
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def _problems(folder: Path, original: ModelProto, result: ModelProto, share: float) -> list[str]:
    paths = folder / "original.onnx", folder / "result.onnx"
    for model, path in zip((original, result), paths, strict=True):
        onnx.save(model, path)
    found = _part("file_checks").check(*paths, share)
    assert found.ran  # also on an image whose size the file does not tell
    return list(found.problems)


def test_a_smaller_network_is_sound(tmp_path: Path) -> None:
    small = _network(4)
    small.metadata_props.add(key="onnx_relusv", value="{}")
    assert _problems(tmp_path, _network(), small, 0.9) == []
    assert any("bytes" in problem for problem in _problems(tmp_path, _network(), small, 0.3))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_short_bias, "bias of c"),
        (_infinite, "not finite"),
        (_other_metadata, "metadata"),
        (_other_operators, "operator sets"),
        (_fixed_batch, "inputs are not"),
        (_random, "three runs"),
    ],
)
def test_each_kind_of_wrong_file_is_named(
    tmp_path: Path, spoil: Callable[[ModelProto], None], words: str
) -> None:
    result = _network()
    spoil(result)
    found = _problems(tmp_path, _network(), result, 2.0)
    assert any(words in problem for problem in found), found


def test_packages_have_folders_of_their_own() -> None:
    rows = _part("carried_files").packages()
    assert len({row.folder for row in rows}) == len(rows) >= 40
    assert {row.registry for row in rows} == {"npm", "pypi"}
