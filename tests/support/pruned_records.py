"""A compression that removed units, built by hand: groups of every kind, and blocks around them."""

from dataclasses import replace

from onnx_relusv.core.plans import Choice, Cost, GroupChoice
from onnx_relusv.core.results import ChannelRefusal, Compression, GroupReport

REMOVED = (0, 1, 2, 3, 7, 12, 13, 14, 15)
KEPT = tuple(unit for unit in range(64) if unit not in REMOVED)
GROUPS = (
    GroupReport(
        choice=GroupChoice(
            key="conv1_sum",
            units=64,
            kept=KEPT,
            level=0.0512,
            damage=0.00123,
            producers=("conv1_sum", "<i>skip</i>"),
            consumers=("fc1_sum",),
            why="least damage for the budget",
        ),
        operators=("Relu", "Add", "Flatten"),
    ),
    GroupReport(
        choice=GroupChoice(
            key="fc1_sum",
            units=40,
            kept=tuple(range(40)),
            level=0.0,
            producers=("fc1_sum",),
            consumers=("logits",),
            why="not in the plan",
        )
    ),
)
REFUSALS = (ChannelRefusal(key="logits", operator="Gemm", reason="logits is a graph <output>"),)


def pruned(compression: Compression) -> Compression:
    """The compression of the report's tests with units removed: a pruned block, a double layer.

    The third block is refitted.
    """
    conv, gemm, grouped = compression.rows
    assert gemm.choice is not None
    rows = (
        replace(
            conv,
            unfolding="",
            choice=Choice(
                key="conv1_relu",
                action="prune",
                form="dense",
                rank=55,
                outputs=55,
                why="its channels go with their groups",
            ),
            level=0.0,
            cost_after=Cost(bytes=63_580, macs=3_104_640),
        ),
        replace(gemm, choice=replace(gemm.choice, inputs=150, outputs=31)),
        replace(
            grouped,
            choice=Choice(
                key="depth_clip", action="refit", form="dense", rank=4, why="fitted to what comes"
            ),
            level=0.07,
        ),
    )
    plan = replace(compression.plan, method="auto")
    return replace(compression, plan=plan, rows=rows, groups=GROUPS, channel_refusals=REFUSALS)
