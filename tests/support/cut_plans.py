"""Plans that remove units of small graphs, by hand and with no regard to damage."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from cut_graphs import CutGraph, shapes_of
from graphs import model_proto, normal
from opened import Opened, divided, open_model
from probed import opened

from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.core.plans import Budgets, Choice, GroupChoice, Plan
from onnx_relusv.core.reduction import FittedPlan, masked_block
from onnx_relusv.fitting.plan import fit_plan
from onnx_relusv.graph.channels.groups import find_channels
from onnx_relusv.measuring.case import block_moments
from onnx_relusv.rewrites.prune.units import removed_units, units_of_blocks
from onnx_relusv.work.executors import Silent

COUNT = 60


def opened_graph(graph: CutGraph, folder: Path, *, samples: bool = True) -> Opened:
    """A graph with its units, and with random images or without any."""
    proto = model_proto(graph.text, graph.arrays, opset=13)
    model = opened(proto, folder, {"x": normal(COUNT, *graph.shape[1:], seed=1)})
    if not samples:
        model = divided(
            open_model(model.case.model.path, None, MeasureOptions(provider="cpu", seed=3))
        )
    shapes = shapes_of(model.case.model, {"x": normal(*graph.shape)})
    channels = find_channels(model.case.model, shapes)
    return model._replace(case=replace(model.case, channels=channels))


def plan(
    model: Opened,
    gone: Mapping[str, list[int]],
    layers: Mapping[str, tuple[str, int]] | None = None,
) -> Plan:
    """What is left without some units of groups, some of it as double layers."""
    assert model.case.channels is not None
    groups = tuple(
        GroupChoice(
            key=group.key,
            units=len(group.units),
            kept=tuple(u for u in range(len(group.units)) if u not in gone.get(group.key, [])),
            level=0.0,
            producers=group.producers,
            consumers=group.consumers,
            why="",
        )
        for group in model.case.channels.groups
    )
    removed = removed_units(model.case.channels, groups)
    units = units_of_blocks(model.case.channels, model.case.blocks)
    choices = []
    for block in model.case.blocks:
        own = units.get(block.key)
        kept = None if own is None else own.kept(removed)
        if block.key in (layers or {}):
            form, rank = (layers or {})[block.key]
            choices.append(Choice(key=block.key, action="double_layer", form=form, rank=rank))
        elif kept is None:
            choices.append(Choice(key=block.key))
        else:
            rank = masked_block(block, kept).geometry.largest_rank
            choices.append(Choice(key=block.key, action="prune", form="dense", rank=rank))
    return Plan(
        model_sha256=model.case.model.sha256,
        samples_sha256=None,
        budgets=Budgets(),
        method="auto",
        seed=3,
        allocation="level",
        level=0.5,
        size=0.5,
        macs=0.5,
        choices=tuple(choices),
        damage=None,
        curves=(),
        groups=groups,
    )


def fitted(model: Opened, wanted: Plan) -> FittedPlan:
    with block_moments(*model, Silent()) as moments:
        return fit_plan(*model, wanted, moments, Silent())


def random_units(model: Opened, share: float, seed: int = 0) -> dict[str, list[int]]:
    """About as many units of every group, drawn at random; one at least stays."""
    assert model.case.channels is not None
    rng = np.random.default_rng(seed)
    return {
        group.key: sorted(
            rng.permutation(len(group.units))[: int(share * len(group.units))].tolist()
        )
        for group in model.case.channels.groups
    }
