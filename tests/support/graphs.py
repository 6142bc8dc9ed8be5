"""Small ONNX models for the tests, written as text, and plain ways to run and read them.

A graph's text is what `onnx.parser` reads; the arrays that it names are added as initializers.
Models run in onnxruntime directly, without its graph optimisation, so that a test compares with
what the operators themselves compute.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, NodeProto, ValueInfoProto, helper, numpy_helper, parser

from onnx_relusv.core.blocks import Block, Floats, LinearMap, Refusal
from onnx_relusv.core.kinds import explicit_pads, output_lengths, patch_index
from onnx_relusv.core.plans import Factors
from onnx_relusv.graph.blocks import find_blocks, measured_tensors
from onnx_relusv.graph.model import Model, read_model
from onnx_relusv.graph.nodes import Folding, view
from onnx_relusv.rewrites.low_rank.forms import FORMS, available_forms, double_layer
from onnx_relusv.rewrites.low_rank.surgery import rewrite

Feeds = Mapping[str, np.ndarray]
Shapes = dict[str, tuple[int, ...]]
# The IR version that came with an operator set; older runtimes refuse newer ones.
IR_VERSIONS = {7: 3, 8: 3, 9: 4, 11: 6, 12: 7, 13: 7, 15: 8, 17: 8, 21: 10, 22: 10}


def normal(*shape: int, seed: int = 0, scale: float = 1.0, dtype: type = np.float32) -> np.ndarray:
    """Standard normal numbers times a scale; they differ between shapes for one seed."""
    values = np.random.default_rng([seed, *shape]).standard_normal(shape)
    return (scale * values).astype(dtype)


def positive(*shape: int, seed: int = 0) -> np.ndarray:
    """Numbers from 0.5 to 1.5, as a variance or a scale has them; float32."""
    return np.random.default_rng([seed, *shape]).uniform(0.5, 1.5, shape).astype(np.float32)


def normalization(channels: int, seed: int = 0) -> dict[str, np.ndarray]:
    """The four vectors of a BatchNormalization: gamma, beta, mean, variance."""
    return {
        "gamma": positive(channels, seed=seed),
        "beta": normal(channels, seed=seed + 1),
        "mean": normal(channels, seed=seed + 2),
        "variance": positive(channels, seed=seed + 3),
    }


def model_proto(
    text: str,
    arrays: Mapping[str, np.ndarray] | None = None,
    *,
    opset: int = 17,
    ir_version: int | None = None,
    domains: Mapping[str, int] | None = None,
) -> ModelProto:
    """A model from a graph's text and its initializers; IR version 3 lists them as inputs too."""
    graph = parser.parse_graph(f"tested {text}")
    version = ir_version or IR_VERSIONS.get(opset) or max(IR_VERSIONS.values())
    for name, values in (arrays or {}).items():
        tensor = numpy_helper.from_array(values, name)
        graph.initializer.append(tensor)
        if version < 4:
            graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
    imports = [helper.make_opsetid("", opset)]
    imports += [helper.make_opsetid(*domain) for domain in (domains or {}).items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=version)


def node(text: str) -> NodeProto:
    """One node from its text."""
    return parser.parse_node(text)


def saved(proto: ModelProto, folder: Path, name: str = "model.onnx") -> Model:
    """Writes a model and reads it again, as the package does."""
    onnx.save(proto, folder / name)
    return read_model(folder / name)


def run(
    source: ModelProto | Path, feeds: Feeds, names: Iterable[str] = (), *, optimized: bool = False
) -> dict[str, np.ndarray]:
    """Runs a model, by default without optimisation; `names` become outputs besides its own."""
    exposed = ModelProto()
    exposed.CopyFrom(source if isinstance(source, ModelProto) else onnx.load(source))
    present = {output.name for output in exposed.graph.output}
    for name in dict.fromkeys(names):
        if name not in present:
            exposed.graph.output.append(ValueInfoProto(name=name))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = (
        levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
    )
    session = onnxruntime.InferenceSession(
        exposed.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    outputs = [output.name for output in session.get_outputs()]
    return dict(zip(outputs, session.run(outputs, dict(feeds)), strict=True))


@cache
def newest_opset() -> int:
    """The newest operator set that onnx knows and the installed onnxruntime opens."""
    for opset in range(onnx.defs.onnx_opset_version(), 21, -1):
        proto = model_proto("(float[N] x) => (float[N] y) { y = Relu(x) }", opset=opset)
        try:
            run(proto, {"x": np.ones(1, np.float32)})
        except Exception:  # onnxruntime has no common base class for its errors
            continue
        return opset
    raise AssertionError("onnxruntime opens no operator set above 21")


@dataclass(frozen=True, eq=False)
class Searched:
    """A model with what was found in it.

    Attributes:
        model: The model.
        blocks: Its blocks.
        refusals: What was refused.
        values: Every measured tensor's values for the feeds that it was searched with.
    """

    model: Model
    blocks: list[Block]
    refusals: list[Refusal]
    values: dict[str, np.ndarray]

    @property
    def block(self) -> Block:
        """The only block."""
        assert len(self.blocks) == 1, self.refusals
        return self.blocks[0]

    @property
    def reasons(self) -> dict[str, str]:
        """Why not, by key."""
        return {refusal.key: refusal.reason for refusal in self.refusals}

    def linear(self, block: Block | None = None) -> LinearMap:
        """A block's folded linear map."""
        return Folding(self.model)(self.block if block is None else block)


def search(proto: ModelProto, folder: Path, feeds: Feeds) -> Searched:
    """Writes a model, runs it on one sample, and looks for blocks."""
    model = saved(proto, folder)
    values = run(model.path, feeds, measured_tensors(model.proto)) | dict(feeds)
    shapes = {name: np.shape(value) for name, value in values.items()}
    return Searched(model, *find_blocks(model, view(model), shapes), values)


def search_shapes(proto: ModelProto, folder: Path, shapes: Shapes) -> Searched:
    """The same for a model that cannot run, with shapes given by hand."""
    model = saved(proto, folder)
    return Searched(model, *find_blocks(model, view(model), shapes), {})


def factors_of(searched: Searched, block: Block, form: str, rank: int) -> Factors:
    """A block's double layer in the plain metric."""
    return double_layer(form, block.geometry, searched.linear(block), None, rank)


def full_rank(searched: Searched, keys: Iterable[str] | None = None) -> ModelProto:
    """Every block, or some of them, as a double layer that computes the same."""
    factors = {
        block.key: factors_of(searched, block, form, FORMS[form].largest_rank(block.geometry))
        for block in searched.blocks
        for form in available_forms(block.geometry)[-1:]
        if keys is None or block.key in keys
    }
    return rewrite(searched.model, searched.blocks, factors, "{}")


def composed(block: Block, factors: Factors) -> LinearMap:
    """The dense map that factors stand for, in float64."""
    kernel = FORMS[factors.form].compose(block.geometry, *factors.matrices)
    return LinearMap(kernel, factors.bias)


def evaluated(block: Block, linear: LinearMap, source: np.ndarray) -> Floats:
    """A linear map on the block's input, dense and in float64: what its pre-activation must be."""
    geometry, x = block.geometry, source.astype(np.float64)
    if geometry.kind != "conv":
        return x @ linear.weight[0].T + linear.bias
    lengths = x.shape[2:]
    pads, out = explicit_pads(geometry, lengths), output_lengths(geometry, lengths)
    axes = zip(pads[: len(lengths)], pads[len(lengths) :], strict=True)
    padded = np.pad(x, [(0, 0), (0, 0), *axes])
    flat = padded.reshape(len(x), geometry.groups, -1, prod(padded.shape[2:]))
    patches = flat[..., patch_index(geometry, lengths, np.arange(prod(out)))]
    columns = patches.reshape(len(x), geometry.groups, geometry.columns, -1)
    result = np.einsum("grc,ngcp->ngrp", linear.weight, columns)
    bias = linear.bias.reshape(1, -1, *(1,) * len(lengths))
    return result.reshape(len(x), geometry.out_channels, *out) + bias


def gap(value: np.ndarray, exact: np.ndarray) -> float:
    """L2 of the difference over L2 of the exact value; the shapes have to be equal."""
    assert value.shape == exact.shape
    a, b = value.astype(np.float64), exact.astype(np.float64)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def change_initializer(
    proto: ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Changes the values of an initializer in place."""
    tensor = next(tensor for tensor in proto.graph.initializer if tensor.name == name)
    values = change(numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def bytes_of(messages: Iterable[onnx.NodeProto | onnx.TensorProto | ValueInfoProto]) -> list[bytes]:
    """Messages in the bytes in which a file holds them."""
    return [message.SerializeToString(deterministic=True) for message in messages]
