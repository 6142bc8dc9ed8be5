"""Plans for the tests of their file: two made by hand, any that hypothesis draws, and a writer."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import strategies as st

from onnx_relusv.core.errors import InputError
from onnx_relusv.core.measures import DamageCurve, GroupCurve
from onnx_relusv.core.plans import Budgets, Choice, GroupChoice, Plan
from onnx_relusv.planning.plan_file import read_plan

PLAN = Plan(
    model_sha256="ab" * 32,
    samples_sha256=None,
    budgets=Budgets(size=0.5, macs=None, tolerance=0.25),
    method="double-layer",
    seed=7,
    allocation="damage",
    level=0.125,
    size=0.4921875,
    macs=0.3,
    choices=(
        Choice(
            key="conv",
            action="double_layer",
            form="spatial",
            rank=5,
            level=0.1,
            damage=0.002,
            why="so",
        ),
        Choice(key="fc", why="no form makes it smaller"),
    ),
    damage=0.002,
    curves=(
        DamageCurve(key="conv", form="spatial", ranks=(2, 5), damages=(0.03, 0.002)),
        DamageCurve(key="conv", form="channel", ranks=(3,), damages=(0.01,)),
    ),
)
GROUPED = replace(
    PLAN,
    method="auto",
    choices=(
        replace(PLAN.choices[0], outputs=3),
        Choice(key="fc", action="prune", form="dense", rank=4, inputs=3),
    ),
    groups=(
        GroupChoice(
            key="conv_sum",
            units=6,
            kept=(0, 2, 5),
            level=0.25,
            producers=("conv_sum",),
            consumers=("fc_sum",),
            why="so",
            damage=0.001,
        ),
    ),
    group_curves=(GroupCurve(key="conv_sum", counts=(1, 3), damages=(0.4, 0.001)),),
)


def written(folder: Path, data: object) -> Path:
    path = folder / "plan.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


def refused(folder: Path, data: object, *parts: str) -> None:
    path = written(folder, data)
    with pytest.raises(InputError) as caught:
        read_plan(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    for part in parts:
        assert part in message


shares = st.one_of(st.none(), st.floats(0, 1, exclude_min=True, exclude_max=True))
damages = st.one_of(st.none(), st.floats(0, 1e30))
choices = st.one_of(
    st.builds(Choice, key=st.text(), level=st.floats(0, 1), why=st.text()),
    st.builds(
        Choice,
        key=st.text(),
        action=st.just("double_layer"),
        form=st.sampled_from(["pair", "channel", "spatial", "tucker"]),
        rank=st.integers(1, 10**6),
        level=st.floats(0, 1),
        damage=damages,
        why=st.text(),
    ),
    st.builds(
        Choice,
        key=st.text(),
        action=st.sampled_from(["refit", "prune"]),
        form=st.just("dense"),
        rank=st.integers(1, 10**6),
        inputs=st.one_of(st.none(), st.integers(1, 10**6)),
        outputs=st.one_of(st.none(), st.integers(1, 10**6)),
    ),
)
groups = st.integers(1, 9).flatmap(
    lambda units: st.builds(
        GroupChoice,
        key=st.text(),
        units=st.just(units),
        kept=st.sets(st.integers(0, units - 1), min_size=1).map(lambda one: tuple(sorted(one))),
        level=st.floats(0, 1),
        producers=st.lists(st.text(), max_size=2).map(tuple),
        consumers=st.lists(st.text(), max_size=2).map(tuple),
        why=st.text(),
        damage=damages,
    )
)
group_curves = st.integers(0, 3).flatmap(
    lambda count: st.builds(
        GroupCurve,
        key=st.text(),
        counts=st.tuples(*[st.integers(1, 10**6)] * count),
        damages=st.tuples(*[st.floats(0, 1e30)] * count),
    )
)
curves = st.integers(0, 5).flatmap(
    lambda count: st.builds(
        DamageCurve,
        key=st.text(),
        form=st.sampled_from(["pair", "channel", "spatial", "tucker"]),
        ranks=st.tuples(*[st.integers(1, 10**6)] * count),
        damages=st.tuples(*[st.floats(0, 1e30)] * count),
    )
)
plans = st.builds(
    Plan,
    model_sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    samples_sha256=st.one_of(st.none(), st.text("0123456789abcdef", min_size=64, max_size=64)),
    budgets=st.builds(
        Budgets,
        size=shares,
        macs=shares,
        latency=shares,
        tolerance=shares,
        max_drop=st.one_of(st.none(), st.floats(0, 100, exclude_min=True, exclude_max=True)),
        confidence=st.one_of(st.none(), st.floats(0.5, 1, exclude_min=True, exclude_max=True)),
    ),
    method=st.sampled_from(["double-layer", "harmonic", "auto"]),
    seed=st.integers(0, 2**63),
    allocation=st.sampled_from(["level", "damage"]),
    level=st.floats(0, 1),
    size=st.floats(0, 2),
    macs=st.floats(0, 2),
    choices=st.lists(choices, unique_by=lambda choice: choice.key, max_size=4).map(tuple),
    damage=damages,
    curves=st.lists(curves, max_size=3).map(tuple),
    batch=st.integers(1, 10**6),
    latency=damages,
    groups=st.lists(groups, unique_by=lambda group: group.key, max_size=3).map(tuple),
    group_curves=st.lists(group_curves, max_size=2).map(tuple),
)
