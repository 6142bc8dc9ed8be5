"""What blocks and their double layers take by themselves, timed at a few ranks of every form.

A tiny model of the block's own nodes, or of those that would take their place, runs on an input of
the real shape; dense and double layers in turn. Between timed ranks time follows the
multiply-accumulates along straight lines, those of a Conv's rank rounded up to a whole pack of
channels, since that is what onnxruntime's kernels compute on a CPU. That is an estimate, and what a
block takes inside of its model may be less or more than by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from onnx import helper

from onnx_relusv.decisions import Candidate, Form
from onnx_relusv.graph.isolated import isolated
from onnx_relusv.latency.stand_ins import stand_in
from onnx_relusv.latency.timings import TimingKey, Timings
from onnx_relusv.opened import Opened
from onnx_relusv.records import Block
from onnx_relusv.runtime.latency import undisturbed_latencies
from onnx_relusv.runtime.session import Session

MOST_TIMED = 4
# Channels that a Conv's kernels take at once, with AVX-512; 8 with AVX2, where it is a little much.
_PACK = 16
Layer = tuple[Form, int]


def block_seconds(
    opened: Opened, block: Block, batch: int, layers: Sequence[Layer], timings: Timings
) -> tuple[float, tuple[float, ...]]:
    """Seconds of one run of a block as it is, and with each of several double layers.

    Args:
        opened: The model.
        block: One of its blocks.
        batch: Samples in a run.
        layers: Forms and ranks.
        timings: Times that are known. Unless all that is wanted is there, all of it is timed
            together, and put there.
    """
    shape = (block.source_shape[0] * batch, *block.source_shape[1:])
    dense = TimingKey(
        geometry=block.geometry,
        operators=tuple(opened.model.proto.graph.node[index].op_type for index in block.nodes),
        activation=block.activation.kind,
        element_type=block.element_type,
        source_shape=shape,
        provider=opened.provider,
    )
    keys = [dense, *(replace(dense, form=form, rank=rank) for form, rank in layers)]
    known = [timings.get(key) for key in keys]
    if None in known:
        timings.update(zip(keys, _timed(opened, block, shape, layers), strict=True))
    first, *others = (timings[key] for key in keys)
    return first, tuple(others)


def _timed(
    opened: Opened, block: Block, shape: tuple[int, ...], layers: Sequence[Layer]
) -> tuple[float, ...]:
    rng = np.random.default_rng(opened.options.seed)
    dtype = helper.tensor_dtype_to_np_dtype(block.element_type)
    source = rng.standard_normal(shape, np.float32).astype(dtype)
    alone, linear = isolated(opened.model, block, source), opened.folding(block)
    models = [alone.dense()]
    for form, rank in layers:
        models.append(alone.double_layer(stand_in(form, block.geometry, linear, rank, rng)))
    sessions = [Session(model, opened.provider) for model in models]
    return undisturbed_latencies(sessions, {block.source: source})


def layers_to_time(block: Block, offered: Sequence[Candidate]) -> tuple[Layer, ...]:
    """A few ranks of every form, whole packs if there are any, on a geometric ladder of MACs."""
    found: list[Layer] = []
    for form in dict.fromkeys(candidate.form for candidate in offered):
        own = [candidate for candidate in offered if candidate.form == form]
        largest = max(own, key=lambda candidate: candidate.rank)
        even = [c for c in own if c.rank % _pack(block) == 0 and c is not largest]
        macs = np.array([candidate.macs for candidate in [*(even or own), largest]], np.float64)
        wanted = np.geomspace(macs.min(), macs.max(), MOST_TIMED)
        places = {int(np.argmin(np.abs(macs - one))) for one in wanted}
        ranks = [candidate.rank for candidate in [*(even or own), largest]]
        found.extend((form, rank) for rank in sorted({ranks[place] for place in places}))
    return tuple(found)


def with_latency(
    block: Block, offered: Sequence[Candidate], seconds: Mapping[Layer, float], scale: float
) -> tuple[Candidate, ...]:
    """A block's candidates with their estimated times.

    Args:
        block: The block.
        offered: Its candidates.
        seconds: Of those that were timed, by `layers_to_time`.
        scale: What times by themselves are multiplied with.
    """
    pack = _pack(block)
    found: list[Candidate] = []
    for form in dict.fromkeys(candidate.form for candidate in offered):
        own = [candidate for candidate in offered if candidate.form == form]
        # MACs are proportional to the rank.
        packs = np.array([-(-candidate.rank // pack) for candidate in own], np.float64)
        timed = {
            count: seconds[form, candidate.rank]
            for count, candidate in zip(packs.tolist(), own, strict=True)
            if (form, candidate.rank) in seconds
        }
        known = sorted(timed)
        estimates = scale * np.interp(packs, known, [timed[count] for count in known])
        found.extend(
            replace(candidate, latency=float(estimate))
            for candidate, estimate in zip(own, estimates, strict=True)
        )
    return tuple(found)


def _pack(block: Block) -> int:
    return _PACK if block.geometry.kind == "conv" else 1
