"""Models whose channels were followed: groups that are to be found, and what a cut has to be."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from graphs import Feeds, model_proto, normal, run, saved
from onnx import ModelProto

from onnx_relusv.graph.channels.groups import channel_tensors, find_channels
from onnx_relusv.graph.channels.walk import ChannelGroup, Channels
from onnx_relusv.graph.checks import checker_problem, operand_problems, signature_differences
from onnx_relusv.graph.model import Model, read_model
from onnx_relusv.graph.reference import runnable
from onnx_relusv.rewrites.prune.cutting import Mask, cut, staying, zeroed
from onnx_relusv.runtime.session import CPU, Session

# A sum of a few hundred float32 products in another order, some layers deep; a channel that is
# taken for another changes the whole tensor.
ROUNDING = 1e-5


@dataclass(frozen=True, eq=False)
class Followed:
    """A model with its channels.

    Attributes:
        model: The model.
        channels: Its channels.
        feeds: What it was run on.
    """

    model: Model
    channels: Channels
    feeds: Feeds

    @property
    def reasons(self) -> dict[str, str]:
        """Why not, by what a weighted node writes."""
        return {refusal.key: refusal.reason for refusal in self.channels.refusals}

    @property
    def groups(self) -> dict[str, ChannelGroup]:
        """All groups, by key."""
        return {group.key: group for group in self.channels.groups}

    def removal(self, places: slice | list[int]) -> Mask:
        """The units of every group at some places."""
        removed = np.zeros(self.channels.count, np.bool_)
        for group in self.channels.groups:
            removed[np.array(group.units)[places]] = True
        return removed

    @property
    def half(self) -> Mask:
        """Every second unit of every group."""
        return self.removal(slice(1, None, 2))

    def random(self, rng: np.random.Generator) -> Mask:
        """Any units, but never all of a group."""
        removed = rng.random(self.channels.count) < 0.5
        for group in self.channels.groups:
            removed[rng.choice(np.array(group.units))] = False
        return removed


def follow(proto: ModelProto, folder: Path, feeds: Feeds) -> Followed:
    """Writes a model, runs it on the first sample, and follows its channels."""
    model = saved(proto, folder)
    feed = {name: values[:1] for name, values in feeds.items()}
    tensors = run(model.path, feed, channel_tensors(model.proto)) | feed
    shapes = {name: np.shape(values) for name, values in tensors.items()}
    return Followed(model, find_channels(model, shapes), feeds)


def images(
    body: str,
    folder: Path,
    *,
    size: str = "N,3,6,6",
    feeds: Feeds | None = None,
    opset: int = 17,
    ir_version: int | None = None,
    domains: Mapping[str, int] | None = None,
    **arrays: np.ndarray,
) -> Followed:
    """A model of images from `x` to `y`, with value infos of all inner tensors."""
    text = f"(float[{size}] x) => (y) {{ {body} }}"
    proto = model_proto(text, arrays, opset=opset, ir_version=ir_version, domains=domains)
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    return follow(inferred, folder, feeds or {"x": normal(3, 3, 6, 6, seed=7)})


def distance(
    followed: Followed, removed: Mask, result: ModelProto, feeds: Feeds | None = None
) -> float:
    """How far a cut model is from the original whose consumers' entries are zeroed.

    Returns:
        The largest L2 distance of a tensor, over its own norm or that of ones; infinite where a
        shape is not what is left of the original's.
    """
    proto, arrays = zeroed(followed.model, followed.channels, removed)
    read = {name for node in result.graph.node for name in node.input}
    read.update(output.name for output in result.graph.output)
    names = [name for name in channel_tensors(proto) if name in read]
    reference = runnable(followed.model, proto, names, arrays)
    given = dict(followed.feeds if feeds is None else feeds)
    exact = Session(reference, CPU, optimized=False, threads=1).run(given)
    own = runnable(followed.model, result, names)
    values = Session(own, CPU, optimized=False, threads=1).run(given)
    return max(
        _distance(values[name], left(followed, removed, name, exact[name])) for name in exact
    )


def left(followed: Followed, removed: Mask, name: str, values: np.ndarray) -> np.ndarray:
    """What is left of a tensor of the original."""
    axis = followed.channels.tensors.get(name)
    if axis is None:
        return values
    assert np.ndim(values) == axis.rank
    assert np.shape(values)[axis.axis] == len(axis.units)
    return np.compress(staying(axis.units, removed), values, axis=axis.axis)


def _distance(value: np.ndarray, exact: np.ndarray) -> float:
    if value.shape != exact.shape or value.dtype != exact.dtype:
        return np.inf
    a, b = value.astype(np.float64), exact.astype(np.float64)
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), np.sqrt(b.size), 1.0))


def check_cut(followed: Followed, removed: Mask, folder: Path) -> ModelProto:
    """Cuts, and holds the result against the reference and against our own checks of a file."""
    before = followed.model.proto.SerializeToString(deterministic=True)
    result = cut(followed.model, followed.channels, removed)
    assert followed.model.proto.SerializeToString(deterministic=True) == before
    path = folder / "cut.onnx"
    onnx.save(result, path)
    assert checker_problem(path) is None
    assert operand_problems(result) == []
    assert signature_differences(followed.model.proto, result) == []
    # Its value infos say what a reader without them infers, and onnxruntime opens it as it does.
    assert stale(result, run(path, followed.feeds, channel_tensors(result))) == {}
    assert distance(followed, removed, read_model(path).proto) < ROUNDING
    return result


def stale(proto: ModelProto, values: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Tensors whose value infos say another length than they have, with their shapes."""
    return {
        info.name: np.shape(values[info.name])
        for info in proto.graph.value_info
        if info.name in values
        for place, axis in enumerate(info.type.tensor_type.shape.dim)
        if axis.HasField("dim_value") and axis.dim_value != np.shape(values[info.name])[place]
    }


HEAD = "a = Conv<pads=[1,1,1,1]>(x, k1, b1)"
TAIL = "y = Conv<pads=[1,1,1,1]>(h, k2, b2)"
ENDS = {
    "k1": normal(6, 3, 3, 3),
    "b1": normal(6),
    "k2": normal(5, 6, 3, 3),
    "b2": normal(5),
}


def whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


@dataclass(frozen=True)
class Case:
    """A graph from `x` to `y` with its groups.

    Attributes:
        body: Its nodes.
        arrays: Its constants.
        groups: Of every group: its producers, consumers, operators, and how many units it has.
        opsets: At which it is tried.
    """

    body: str
    arrays: dict[str, np.ndarray]
    groups: tuple[tuple[str, str, str, int], ...]
    opsets: tuple[int, ...] = (17,)


def case(
    body: str, *groups: tuple[str, str, str, int], opsets: tuple[int, ...] = (17,), **arrays: object
) -> Case:
    """A case; constants of the ends are there if they are read."""
    read = {name: values for name, values in ENDS.items() if name in body}
    return Case(body, read | arrays, groups, opsets)


def chain(inner: str, operators: str, *, opsets: tuple[int, ...] = (17,), **arrays: object) -> Case:
    """Something between two Convs that keeps all of six channels apart."""
    return case(f"{HEAD} {inner} {TAIL}", ("a", "y", operators, 6), opsets=opsets, **arrays)


def described(group: ChannelGroup) -> tuple[str, str, str, int]:
    """A group as a case says it."""
    parts = (group.producers, group.consumers, group.operators)
    producers, consumers, operators = (" ".join(each) for each in parts)
    return producers, consumers, operators, len(group.units)


def check_case(found: Case, opset: int, folder: Path) -> None:
    """Finds the groups of a case, and cuts them at random and down to a unit each."""
    followed = images(found.body, folder, opset=opset, **found.arrays)
    assert tuple(map(described, followed.channels.groups)) == found.groups
    for seed in range(2):
        check_cut(followed, followed.random(np.random.default_rng(seed)), folder)
    check_cut(followed, followed.removal(slice(1, None)), folder)
