"""The candidates of a block: every form at many ranks, with their level and cost.

Bytes and multiply-accumulates of blocks and of their candidates.

Forms that other forms of the same block beat at every size: they need no measurements.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil

import numpy as np
from onnx import NodeProto, TensorProto, helper

from onnx_relusv.core.blocks import Block, Geometry, LinearMap, Moments
from onnx_relusv.core.kinds import kind_of
from onnx_relusv.core.plans import Candidate, Cost
from onnx_relusv.graph import writing
from onnx_relusv.rewrites.low_rank.factors import block_values
from onnx_relusv.rewrites.low_rank.form import layers_macs
from onnx_relusv.rewrites.low_rank.forms import FORMS, available_forms
from onnx_relusv.rewrites.low_rank.surgery import Replacement, double_layer_nodes
from onnx_relusv.spectra.singular import Decomposition

# What a protobuf spends on a refit beside the numbers and names, at most: field tags, dims, element
# type, node attributes and the domain-free operator name.
_INITIALIZER_OVERHEAD = 48
_NODE_OVERHEAD = 160
_CAST_OVERHEAD = 40
_SUFFIX = 20
# Of weights that are read as floats, numbers may be stored in half precision.
_HALF_A_FLOAT = 2
_SCALE = 4
# What it takes to quantize the input of a layer: two nodes and a scale.
_ACTIVATIONS = 100


def block_macs(block: Block) -> int:
    """Multiply-accumulates of the block as it is, for one sample."""
    return kind_of(block.geometry).macs(block.geometry, block.source_shape)


def block_cost(block: Block) -> Cost:
    """What the block costs as it is."""
    return Cost(bytes=block.original_bytes, macs=block_macs(block))


def candidate_cost(
    block: Block,
    form: str,
    rank: int,
    item_size: int,
    *,
    biased: bool = True,
    integers: bool = False,
) -> Cost:
    """What a double layer costs.

    Args:
        block: The block it replaces.
        form: Its form.
        rank: Its inner width, per group.
        item_size: Bytes of one stored number, where these are no 8-bit integers.
        biased: Whether it adds a bias; it has none where all of it is zero.
        integers: Whether it is computed with 8-bit integers.

    Returns:
        The cost; its bytes are those that its nodes and initializers take in the file, unless their
        names are taken there and get a number behind them.
    """
    layers = FORMS[form].layers(block.geometry, rank)
    made = _skeleton(block, form, layers, biased=biased, integers=integers)
    constants = [
        (name, kind_of(layer).stored_shape(layer))
        for name, layer in zip(made.weights, layers, strict=True)
    ]
    size = 1 if integers else item_size
    stored = sum(writing.tensor(name, dims, size) for name, dims in constants)
    for name, layer in zip(made.scales, layers, strict=False):
        # The integers that stand for 0 may be those of another layer; their scale never is.
        stored += writing.tensor(name, (layer.out_channels,), _SCALE) + _ACTIVATIONS
    if made.bias is not None:
        dims = (block.geometry.out_channels,)
        constants.append((made.bias, dims))
        # A bias is stored as it is read.
        stored += writing.tensor(made.bias, dims, item_size + _HALF_A_FLOAT * _is_cast(block))
    if block.lists_initializers:
        stored += sum(writing.listed(name, dims) for name, dims in constants)
    macs = layers_macs(layers, block.source_shape)
    return Cost(bytes=stored + made.bytes, macs=macs)


@dataclass(frozen=True)
class _Skeleton:
    """What of a double layer's nodes is the same at every rank, whatever channels are left.

    Attributes:
        weights: Names of the stored weights.
        scales: Of their scales.
        bias: Of the bias, or None.
        bytes: That the nodes take.
    """

    weights: tuple[str, ...]
    scales: tuple[str, ...]
    bias: str | None
    bytes: int


# By what decides them; plans ask for the costs of thousands of ranks and channels.
_SKELETONS: dict[tuple[object, ...], _Skeleton] = {}
_MOST_SKELETONS = 4096


def _skeleton(
    block: Block, form: str, layers: Sequence[Geometry], *, biased: bool, integers: bool
) -> _Skeleton:
    """The nodes of a double layer, but for their numbers; arguments as of `candidate_cost`."""
    lengths = [
        (one.kind, one.kernel, one.strides, one.dilations, one.pads, one.auto_pad, one.groups)
        for one in layers
    ]
    names = block.key, block.source, block.pre_activation, block.weight_type, block.element_type
    key = (form, biased, integers, *names, *lengths)
    found = _SKELETONS.get(key)
    if found is not None:
        return found
    if FORMS[form].one_layer:
        made = Replacement(block, str, integers=integers)
        made.add(block.key, layers[0], (block.source, block.pre_activation), biased=biased)
    else:
        made = double_layer_nodes(block, layers, biased=biased, integers=integers)
    nodes = sum(
        writing.node(new.operator, [new.name, *new.inputs, new.output], new.attributes)
        for new in made.nodes
    )
    if len(_SKELETONS) >= _MOST_SKELETONS:
        _SKELETONS.clear()
    found = _Skeleton(tuple(made.weights), tuple(made.scales), made.bias, nodes)
    _SKELETONS[key] = found
    return found


def refit_bytes(block: Block, nodes: Sequence[NodeProto], item_size: int) -> int:
    """What a block adds to the file when it gets other values in its own form.

    Args:
        block: The block.
        nodes: Of the file.
        item_size: Bytes of one stored number.

    Returns:
        An upper bound: longer names, and where it has no bias of its own, a bias and what adds it.
    """
    new = len(block.key.encode()) + _SUFFIX
    # The weight's name goes; that of a bias may be in use elsewhere.
    names = 3 * max(2 * new - len(block.weight.encode()), 0)
    constants = block.original_bytes - sum(nodes[index].ByteSize() for index in block.nodes)
    missing = item_size * block_numbers(block) + _wider_bias_bytes(block) - constants
    # What computed the weight goes, a Cast among it, and is no room for numbers.
    missing += block.surplus_bytes
    names += max(_cast_bytes(block) - block.surplus_bytes, 0)
    if missing <= 0:
        return names
    overhead = _INITIALIZER_OVERHEAD
    if not kind_of(block.geometry).adds_bias:
        overhead += _NODE_OVERHEAD + 3 * new
    return missing + overhead + names


def _cast_bytes(block: Block) -> int:
    """What it takes to cast a weight that is stored in another type than it is read in."""
    if not _is_cast(block):
        return 0
    return _CAST_OVERHEAD + 3 * (len(block.key.encode()) + _SUFFIX)


def _wider_bias_bytes(block: Block) -> int:
    """What a bias, which is stored as it is read, takes more than in the type of the weight."""
    return _HALF_A_FLOAT * block.geometry.out_channels * _is_cast(block)


def _is_cast(block: Block) -> bool:
    """Whether weights are stored in another type than they are read in."""
    return block.weight_type != block.element_type


def masked_cost(block: Block, left: Block) -> Cost:
    """What a block costs once channels are gone, in proportion to the numbers that are left.

    Args:
        block: The whole block.
        left: What is left of it.
    """
    share = block_numbers(left) / block_numbers(block)
    return Cost(bytes=round(share * block.original_bytes), macs=block_macs(left))


def block_numbers(block: Block) -> int:
    """Numbers in a block's weight and in one vector of its output channels."""
    return block.geometry.numbers + block.geometry.out_channels


# Of the first operator set in which a tensor of integers may have a scale for every channel.
LEAST_OPSET = 13
# Ratio of neighbouring ranks where a level is costly to compute; it wastes 4 % on average.
RANK_STEP = 1.09


def block_candidates(
    block: Block,
    linear: LinearMap,
    moments: Moments | None,
    parts: Sequence[Decomposition],
    step: float = RANK_STEP,
) -> tuple[Candidate, ...]:
    """All candidates that make the block smaller without more multiply-accumulates.

    Args:
        block: The block.
        linear: Its linear map.
        moments: Of its input, or None.
        parts: The linear map's decomposition in that metric, one a group.
        step: Ratio of neighbouring ranks where a level is costly to compute.

    Returns:
        By form, ranks increasing, so levels decreasing.
    """
    if block.geometry.is_depthwise:
        return ()
    found: list[Candidate] = []
    # Without moments the bias is the original's.
    biased = moments is not None or bool(np.any(linear.bias))
    for form in available_forms(block.geometry):
        costs = dict(_useful_costs(block, form, step, biased=biased))
        ranks = list(costs)
        if not ranks:
            continue
        reached = FORMS[form].levels(block.geometry, linear, moments, parts, ranks)
        # A larger rank is never worse in the mean; rounding may say otherwise of equal levels, and
        # of a tucker, whose bases are not best in the spectral norm, so may the level itself.
        reached = np.minimum.accumulate(reached)
        found.extend(
            _at_cost(form, rank, float(level), costs[rank])
            for rank, level in zip(ranks, reached, strict=True)
        )
    return tuple(found)


def candidate_at(
    block: Block, linear: LinearMap, moments: Moments | None, form: str, rank: int
) -> Candidate:
    """One candidate, whether or not it makes the block smaller."""
    parts = block_values(linear, moments)
    level = FORMS[form].levels(block.geometry, linear, moments, parts, [rank])[0]
    biased = moments is not None or bool(np.any(linear.bias))
    return _candidate(block, form, rank, float(level), biased=biased)


def _candidate(block: Block, form: str, rank: int, level: float, *, biased: bool) -> Candidate:
    cost = candidate_cost(block, form, rank, item_size(block), biased=biased)
    return _at_cost(form, rank, level, cost)


def _at_cost(form: str, rank: int, level: float, cost: Cost) -> Candidate:
    return Candidate(form=form, rank=rank, level=level, bytes=cost.bytes, macs=cost.macs)


def in_int8(block: Block, candidate: Candidate) -> Candidate:
    """The same computed with 8-bit integers; its level is that of its rank."""
    cost = candidate_cost(block, candidate.form, candidate.rank, 1, integers=True)
    return replace(candidate, bytes=cost.bytes, precision="int8")


def can_be_int8(block: Block, opset: int) -> bool:
    """Whether onnxruntime computes a block with 8-bit integers.

    Scales of output channels came with operator set 13.
    """
    return block.element_type == TensorProto.FLOAT and opset >= LEAST_OPSET


def between_ranks(
    block: Block,
    offered: Sequence[Candidate],
    finest: float,
    multiple: Callable[[int], int] | None = None,
) -> tuple[Candidate, ...]:
    """What lies between a block's candidates, where these are a ladder of ranks.

    Levels are interpolated between those of the two rungs, along a straight line in logarithms; no
    rank is better than the rung above it, or worse than the one below.

    Args:
        block: The block.
        offered: Its candidates; by form, ranks increasing.
        finest: Bytes; rungs that are no further apart have nothing between them.
        multiple: Of the largest rank of a form, tells what ranks between are multiples of, where
            rungs are far enough apart; None where any rank will do.
    """
    found: list[Candidate] = []
    for low, high in pairwise(offered):
        steps = ceil((high.bytes - low.bytes) / finest)
        if low.form != high.form or steps < 2 or high.rank - low.rank < 2:
            continue
        whole = candidate_cost(block, low.form, low.rank, item_size(block))
        last = low
        even = 1 if multiple is None else multiple(high.rank)
        ranks = even * np.linspace(low.rank / even, high.rank / even, steps + 1).round()
        for rank in np.unique(ranks[(ranks > low.rank) & (ranks < high.rank)]):
            share = float((rank - low.rank) / (high.rank - low.rank))
            level = _between(low.level, high.level, share)
            one = _candidate(block, low.form, int(rank), level, biased=whole.bytes == low.bytes)
            if low.is_int8:
                one = in_int8(block, one)
            if (last.bytes, last.macs) != (one.bytes, one.macs) != (high.bytes, high.macs):
                found.append(one)
                last = one
    return tuple(found)


def _between(low: float, high: float, share: float) -> float:
    if low <= 0 or high <= 0:
        return low + share * (high - low)
    return min(max(float(low ** (1 - share) * high**share), high), low)


def item_size(block: Block) -> int:
    """Bytes of one number in the type in which the block's weight is stored."""
    return int(np.dtype(helper.tensor_dtype_to_np_dtype(block.weight_type)).itemsize)


def useful_ranks(block: Block, form: str, *, biased: bool = True) -> Iterator[int]:
    """The ranks that make a block smaller without more multiply-accumulates, increasing.

    They are found one by one: the first says that there are any.

    Args:
        block: The block.
        form: One of its forms.
        biased: Whether the double layer adds a bias.
    """
    return (rank for rank, _ in _useful_costs(block, form, RANK_STEP, biased=biased))


def _useful_costs(
    block: Block, form: str, step: float, *, biased: bool
) -> Iterator[tuple[int, Cost]]:
    """The same ranks with what the double layers cost."""
    now, size = block_cost(block), item_size(block)
    largest = FORMS[form].largest_rank(block.geometry)
    ranks: Iterable[int] = range(1, largest)
    if FORMS[form].costly:
        steps = np.log(max(largest, 2)) / np.log(step)
        ladder = np.geomspace(1, largest, int(steps) + 2).round().astype(int)
        ranks = [int(rank) for rank in np.unique(ladder)]
    last = None
    for rank in ranks:
        cost = candidate_cost(block, form, rank, size, biased=biased)
        # A tucker whose r has reached the rows gets wider in front of the core only now and then.
        if cost.bytes < now.bytes and cost.macs <= now.macs and cost != last:
            yield rank, cost
        last = cost


def undominated(offered: Sequence[Candidate], least: float, most: float) -> list[Candidate]:
    """A block's candidates without those of beaten forms.

    A candidate is beaten by one of another form that has no more bytes, no more MACs and no higher
    level; within a block levels of all forms are of one kind. A form is beaten where all of its
    candidates of the sizes in question are, by forms that stay. A form without a candidate of
    these sizes stays.

    Args:
        offered: The candidates of one block.
        least: Bytes from which on a size is worth having.
        most: Bytes up to which it is.

    Returns:
        In the same order; whole forms are left out, and never all of them.
    """
    kept = list(offered)
    for form in dict.fromkeys(candidate.form for candidate in offered):
        others = [candidate for candidate in kept if candidate.form != form]
        own = [
            candidate
            for candidate in kept
            if candidate.form == form and least <= candidate.bytes <= most
        ]
        if own and all(_is_beaten(candidate, others) for candidate in own):
            kept = others
    return kept


def _is_beaten(candidate: Candidate, others: Sequence[Candidate]) -> bool:
    return any(
        other.bytes <= candidate.bytes
        and other.macs <= candidate.macs
        and other.level <= candidate.level
        for other in others
    )
