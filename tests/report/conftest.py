"""Records as the stages make them, built by hand: every kind of block, choice and gap."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from traced import MODEL as BEFORE

from onnx_relusv.core.blocks import Activation, Block, Geometry, Refusal
from onnx_relusv.core.errors import Coverage, CoverageRow
from onnx_relusv.core.measures import (
    ConfidenceInterval,
    Correction,
    FeedChange,
    IntegerDamage,
    Latency,
    LatencyOutcome,
    ModelledTime,
    OutputChange,
    SampleCounts,
    Spectrum,
)
from onnx_relusv.core.metric import LossBound, MetricChange, Trial
from onnx_relusv.core.plans import Budgets, Choice, Cost, Plan, TimedOn
from onnx_relusv.core.results import (
    Assessment,
    BlockReport,
    Check,
    Comparison,
    Compression,
    Evaluation,
    Inspection,
    Provenance,
    RankSaving,
    StoredNumbers,
    Verdict,
)
from onnx_relusv.rewrites.low_rank.forms import FORMS

HOSTILE_KEY = "<script>alert('a')</script>[bold]$x^$&\"\x1b[31m\u202e\u5377"
NAN = float("nan")


def spectrum(rank: int, *, estimates: int, proved: bool = True) -> Spectrum:
    sigma = np.asarray(3.0 * 0.8 ** np.arange(rank), np.float64)
    estimate = np.full(rank, NAN)
    estimate[:estimates] = 0.85 * sigma[:estimates]
    return Spectrum(
        sigma=sigma,
        lower=sigma * math.sqrt(0.5),
        upper=sigma,
        estimate=estimate,
        ranks=tuple(range(estimates)),
        converged=np.arange(estimates) > 0,
        untrained=2.0 * 0.95 ** np.arange(rank),
        operator_norm=6.5 if proved else NAN,
        mean_width=4.5678901,
        relu_mean_width_lower=3.2 if proved else NAN,
        relu_mean_width_upper=4.6 if proved else NAN,
        relu_mean_width=3.3 if proved else NAN,
        relu_mean_width_error=0.04 if proved else NAN,
        in_data_metric=True,
        iterations=30,
        starts=8,
        seed=7,
        provider="CPUExecutionProvider",
    )


def conv_row() -> BlockReport:
    geometry = Geometry(
        kind="conv",
        in_channels=32,
        out_channels=64,
        kernel=(3, 3),
        strides=(1, 1),
        dilations=(1, 1),
        pads=(1, 1, 1, 1),
    )
    block = Block(
        key="conv1_relu",
        source="pool1",
        pre_activation="conv1_sum",
        nodes=(2, 3),
        weight="conv1.weight",
        geometry=geometry,
        activation=Activation(kind="relu", slopes=np.zeros(1)),
        consumers=("MaxPool",),
        source_shape=(1, 32, 14, 14),
        output_shape=(1, 64, 14, 14),
        element_type=1,
        original_bytes=73984,
    )
    return BlockReport(
        block=block,
        parameters=18496,
        cost=Cost(bytes=73984, macs=3612672),
        spectrum=spectrum(64, estimates=3),
        savings=(
            RankSaving(tolerance=0.05, form=None, rank=None, saved_bytes=0, saved_macs=0),
            RankSaving(
                tolerance=0.1, form="spatial", rank=21, saved_bytes=48000, saved_macs=2300000
            ),
        ),
    )


def gemm_row() -> BlockReport:
    block = Block(
        key=HOSTILE_KEY,
        source="flat",
        pre_activation="fc1_sum",
        nodes=(5,),
        weight="fc1.weight",
        geometry=Geometry(kind="gemm", in_channels=200, out_channels=40),
        activation=Activation(kind="prelu", slopes=np.linspace(0.1, 0.25, 40)),
        consumers=("Gemm",),
        source_shape=(1, 200),
        output_shape=(1, 40),
        element_type=1,
        original_bytes=32160,
    )
    return BlockReport(
        block=block,
        parameters=8040,
        cost=Cost(bytes=32160, macs=8000),
        spectrum=spectrum(40, estimates=0, proved=False),
        savings=(
            RankSaving(tolerance=0.05, form="pair", rank=14, saved_bytes=18000, saved_macs=4640),
            RankSaving(tolerance=0.1, form="pair", rank=11, saved_bytes=21000, saved_macs=5360),
        ),
    )


def grouped_row() -> BlockReport:
    geometry = Geometry(
        kind="conv",
        in_channels=16,
        out_channels=16,
        groups=4,
        kernel=(3,),
        strides=(2,),
        dilations=(1,),
        pads=(0, 0),
        auto_pad="SAME_UPPER",
    )
    block = Block(
        key="depth_clip",
        source="conv1_relu",
        pre_activation="depth_sum",
        nodes=(8,),
        weight="depth.weight",
        geometry=geometry,
        activation=Activation(kind="clip", slopes=np.zeros(1), ceiling=6.0),
        consumers=("Conv", "Add"),
        source_shape=(1, 16, 30),
        output_shape=(1, 16, 15),
        element_type=1,
        original_bytes=832,
    )
    return BlockReport(
        block=block,
        parameters=208,
        cost=Cost(bytes=832, macs=2880),
        spectrum=spectrum(4, estimates=1),
        savings=(
            RankSaving(tolerance=0.05, form=None, rank=None, saved_bytes=0, saved_macs=0),
            RankSaving(tolerance=0.1, form=None, rank=None, saved_bytes=0, saved_macs=0),
        ),
    )


def planned(
    row: BlockReport, choice: Choice, after: Cost, sensitivity: float | None = None
) -> BlockReport:
    times = (None, None) if choice.action == "keep" else (0.0025, 0.00125)
    return replace(
        row,
        choice=choice,
        unfolding=FORMS[choice.form].unfolding if choice.form else "",
        level=choice.level,
        cost_after=after,
        latency_before=times[0],
        latency_after=times[1],
        sensitivity=sensitivity,
    )


REFUSALS = (
    Refusal("shared_relu", "its weight also serves [b]other_relu[/b]"),
    Refusal("<i>branch</i>", "its pre-activation is a graph output"),
)
AFTER = replace(
    BEFORE, path=Path("small/net.onnx"), bytes=60_617, parameters=15_000, macs=1_850_000
)
PROVENANCE = Provenance(
    versions={"onnx-relusv": "0.1.0", "numpy": "2.0.0"},
    provider="CPUExecutionProvider",
    seed=7,
    command="onnx-relusv compress models/net.onnx --size 0.5 -o 'small/<net>.onnx'",
    samples="calibration.npz",
    samples_sha256="cd" * 32,
    sample_count=512,
    sample_groups=64,
    settings={"samples": "/data/calibration.npz", "size": 0.5, "include": ["<b>*"], "seed": 7},
)


@pytest.fixture
def inspection() -> Inspection:
    return Inspection(
        model=BEFORE,
        rows=(conv_row(), gemm_row(), grouped_row()),
        refusals=REFUSALS,
        warnings=("All 90 samples are of <b>one</b> group.",),
        provenance=PROVENANCE,
        coverage=Coverage(
            rows=(
                CoverageRow(
                    operator="Conv",
                    covered=True,
                    reason="in blocks",
                    advice="",
                    count=2,
                    bytes=74816,
                    examples=("conv1_relu", "conv2_relu"),
                ),
                CoverageRow(
                    operator="<i>lookup</i>.Gather",
                    covered=False,
                    reason="a table whose rows are looked up",
                    advice="store it in float16",
                    count=1,
                    bytes=20000,
                    examples=("<b>words</b>",),
                ),
            ),
            total_bytes=BEFORE.bytes,
        ),
    )


@pytest.fixture
def compression() -> Compression:
    rows = (
        planned(
            conv_row(),
            Choice(
                key="conv1_relu",
                action="double_layer",
                form="spatial",
                rank=21,
                level=0.093,
                damage=0.0123,
                why="smallest rank with a relative error at most 0.1",
            ),
            Cost(bytes=25_984, macs=1_312_672),
            sensitivity=0.0017,
        ),
        planned(
            gemm_row(),
            Choice(
                key=HOSTILE_KEY,
                action="double_layer",
                form="pair",
                rank=11,
                level=0.086,
                why="smallest rank with a relative error at most 0.1",
            ),
            Cost(bytes=11_160, macs=2_640),
            sensitivity=0.25,
        ),
        planned(
            grouped_row(),
            Choice(key="depth_clip", why="no form makes it smaller"),
            Cost(bytes=832, macs=2880),
        ),
    )
    return Compression(
        before=BEFORE,
        after=AFTER,
        plan=Plan(
            model_sha256="",
            samples_sha256=None,
            budgets=Budgets(size=0.5),
            method="double-layer",
            seed=0,
            allocation="damage",
            level=0.1,
            size=0.5,
            macs=0.5,
            choices=(),
            damage=0.0321,
            curves=(),
            many=ModelledTime(batch=32, share=0.8),
        ),
        rows=rows,
        refusals=REFUSALS,
        verdict=Verdict(
            checks=(
                Check("onnx.checker", "the full check with strict shape inference passes"),
                Check("smaller", "60617 of 121234 bytes"),
            ),
            output_error={"logits": 0.0123, "<b>embedding</b>": float("inf")},
        ),
        assessment=Assessment(
            part="choosing",
            evaluation=side_by_side(),
            withheld={"[b]embedding": "the original's output is <i>constant</i>"},
            latency=Latency(batch=1, before=0.0012, after=0.0008),
            alarms=("Outputs change <b>much</b>.",),
            conclusion="It costs <b>little</b>. Try less.",
        ),
        samples=SampleCounts(given=5000, taken=500, fit=400, select=100),
        warnings=(
            "Outputs change <b>much</b>.",
            "the samples are few: 512 for 288 columns of <conv1_relu>.",
        ),
        provenance=PROVENANCE,
    )


@pytest.fixture
def without_samples(compression: Compression) -> Compression:
    """Without samples: judged on synthetic inputs."""
    outputs = tuple(replace(one, agreement=None) for one in side_by_side().outputs[:1])
    evaluation = replace(
        side_by_side(),
        samples=8,
        agreement=None,
        accuracy_before=None,
        accuracy_after=None,
        outputs=outputs,
    )
    return replace(
        compression,
        assessment=Assessment(
            part="synthetic",
            evaluation=evaluation,
            feeds=(
                FeedChange(inputs="normal, deviation 1", samples=4, change=0.0123),
                FeedChange(inputs="from 0 to 255", samples=4, change=None),
            ),
            latency=Latency(batch=1, before=0.0012, after=0.0008),
            conclusion="On synthetic inputs.",
        ),
        samples=None,
        warnings=(),
        provenance=replace(
            PROVENANCE, samples=None, samples_sha256=None, sample_count=0, settings={}
        ),
    )


def side_by_side() -> Evaluation:
    """What two models say to the same samples."""
    return Evaluation(
        samples=1000,
        agreement=0.991,
        accuracy_before=0.9,
        accuracy_after=0.895,
        outputs=(
            OutputChange(
                name="logits",
                kind="scores",
                agreement=0.991,
                relative=0.0123,
                mean=0.02,
                largest=0.3,
                entries=10_000,
            ),
            OutputChange(
                name="[b]embedding",
                kind="values",
                relative=float("inf"),
                mean=0.1,
                largest=0.7,
                entries=64_000,
            ),
        ),
        latencies=(
            Latency(batch=1, before=0.0012, after=0.0008),
            Latency(batch=32, before=0.02, after=0.011),
        ),
        provider="CPUExecutionProvider",
        agreement_interval=ConfidenceInterval(0.983, 0.9959),
        drop_interval=ConfidenceInterval(-0.001, 1.25),
    )


@pytest.fixture
def comparison() -> Comparison:
    return Comparison(
        before=BEFORE,
        after=AFTER,
        evaluation=side_by_side(),
        provenance=PROVENANCE,
        warnings=("1 of 25 pictures cannot be read.",),
    )


@pytest.fixture
def certified(compression: Compression) -> Compression:
    """With a drop that was asked for, and what was found on the way."""
    return replace(
        compression,
        plan=replace(
            compression.plan,
            budgets=Budgets(size=0.5, max_drop=1.0, confidence=0.99),
            int8_damages=(IntegerDamage(key=HOSTILE_KEY, damage=0.0021),),
        ),
        stored=(
            StoredNumbers(key=HOSTILE_KEY, integers=1000, scales=44, floats=40),
            StoredNumbers(key=None, others=916),
        ),
        bound=LossBound(
            exact=True,
            max_drop=1.0,
            confidence=0.99,
            fit_samples=2400,
            select_samples=600,
            certify_samples=2000,
            lost=12,
            gained=9,
            drop=0.15,
            bound=0.9375,
            select_drop=1 / 6,
            trials=(
                Trial(size=0.7, select_drop=-0.25, bound=0.5),
                Trial(size=0.49, select_drop=1 / 6, bound=0.9375),
                Trial(size=0.4, select_drop=0.75, bound=1.5),
                Trial(size=0.3, select_drop=2.5),
            ),
        ),
    )


@pytest.fixture
def estimated(compression: Compression) -> Compression:
    """With a drop of a metric that was asked for, and what was found on the way."""
    change = MetricChange(
        name="own<b>.py:f1", samples=2000, part="certifying", before=0.912, after=0.905
    )
    return replace(
        compression,
        plan=replace(
            compression.plan,
            budgets=Budgets(size=0.5, max_drop=0.02),
            damage_measure="KL divergence of the class scores y",
        ),
        metric=change,
        bound=LossBound(
            exact=False,
            max_drop=0.02,
            confidence=0.95,
            metric=change,
            fit_samples=2400,
            select_samples=600,
            certify_samples=2000,
            groups=30,
            standard_error=0.004,
            drop=change.loss,
            bound=0.0138,
            select_drop=0.006,
            trials=(
                Trial(size=0.7, select_drop=-0.001, bound=0.003),
                Trial(size=0.49, select_drop=0.006, bound=0.0138),
                Trial(size=0.4, select_drop=0.015, bound=0.031),
                Trial(size=0.3, select_drop=0.1),
            ),
        ),
    )


@pytest.fixture
def judged(comparison: Comparison) -> Comparison:
    """With a metric in place of the accuracy."""
    evaluation = replace(
        comparison.evaluation,
        accuracy_before=None,
        accuracy_after=None,
        metric=MetricChange(name="own.py:f1", samples=1000, part="all", before=0.5, after=0.625),
    )
    return replace(comparison, evaluation=evaluation)


@pytest.fixture
def faster(compression: Compression) -> Compression:
    """With a budget on latency, and what came of it."""
    return replace(
        compression,
        plan=replace(
            compression.plan,
            budgets=Budgets(size=0.5, latency=0.6),
            pack=16,
            timed_on=TimedOn(
                machine="here",
                processor="x86_64",
                onnxruntime="1.27.0",
                provider="CPUExecutionProvider",
                threads=2,
            ),
        ),
        correction=Correction(damage=0.038, corrected=0.029),
        batch=32,
        latency=LatencyOutcome(
            asked=0.6,
            planned=0.5625,
            measured=Latency(batch=32, before=0.02, after=0.0115),
            provider="CPUExecutionProvider",
            threads=2,
        ),
    )
