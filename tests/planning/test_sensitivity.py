"""Sensitivity of blocks, from curves of known shape."""

from dataclasses import replace

import numpy as np
import pytest

from onnx_relusv.core.blocks import Activation, Block, Geometry
from onnx_relusv.core.measures import DamageCurve, GroupCurve
from onnx_relusv.core.plans import Budgets, GroupChoice, Plan
from onnx_relusv.planning.sensitivity import sensitivities

BLOCK = Block(
    key="fc",
    source="x",
    pre_activation="fc_sum",
    nodes=(0,),
    weight="w",
    geometry=Geometry(kind="gemm", in_channels=60, out_channels=40),
    activation=Activation(kind="relu", slopes=np.zeros(1)),
    consumers=("Gemm",),
    source_shape=(1, 60),
    output_shape=(1, 40),
    element_type=1,
    original_bytes=9600,
)
# A pair of rank r has 100 r of the 2400 weights: half of them at rank 12.
CURVE = DamageCurve(key="fc", form="pair", ranks=(4, 20), damages=(0.1, 0.001))
PLAN = Plan(
    model_sha256="",
    samples_sha256=None,
    budgets=Budgets(size=0.5),
    method="auto",
    seed=0,
    allocation="damage",
    level=0.1,
    size=0.5,
    macs=0.5,
    choices=(),
    damage=0.01,
    curves=(CURVE,),
)


def found(plan: Plan) -> dict[str, float]:
    return sensitivities(plan, [BLOCK], {"fc": "fc_out"})


def test_damage_is_interpolated_at_half_of_the_weights() -> None:
    # Half way between the ranks, the geometric mean.
    assert found(PLAN) == {"fc": pytest.approx(0.01)}
    beyond = replace(CURVE, ranks=(14, 20))
    assert found(replace(PLAN, curves=(beyond,))) == {"fc": pytest.approx(0.1)}


def test_the_way_that_does_least_counts_and_units_are_one() -> None:
    group = GroupChoice(
        key="fc_out",
        units=40,
        kept=(0,),
        level=0.0,
        producers=("fc_out",),
        consumers=("next",),
        why="",
    )
    curve = GroupCurve(key="fc_out", counts=(10, 20, 30), damages=(0.5, 0.002, 0.001))
    with_units = replace(PLAN, groups=(group,), group_curves=(curve,))
    assert found(with_units) == {"fc": pytest.approx(0.002)}
    others = replace(with_units, groups=(replace(group, producers=("other",)),))
    assert found(others) == {"fc": pytest.approx(0.01)}


def test_what_was_not_measured_has_none() -> None:
    assert found(replace(PLAN, curves=())) == {}
