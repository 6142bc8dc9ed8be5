"""Traces made by hand: inputs of known difficulty, and what blocks might do with them."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from onnx_relusv.core.blocks import Floats, Refusal
from onnx_relusv.core.results import ModelFacts, Provenance
from onnx_relusv.core.traces import BlockTrace, Trace, Truths
from onnx_relusv.measuring.separation import separate

MODEL = ModelFacts(
    path=Path("models/net.onnx"),
    bytes=121_234,
    parameters=30_000,
    macs=3_700_000,
    sha256="ab" * 32,
    opset=17,
)
PROVENANCE = Provenance(
    versions={"onnx-relusv": "0.1.0", "numpy": "2.0.0"},
    provider="CPUExecutionProvider",
    seed=7,
    command="onnx-relusv trace models/net.onnx --samples '<test>.npz'",
    samples="test.npz",
    samples_sha256="cd" * 32,
    sample_count=0,
)


def block_trace(key: str, values: Floats, *, exact: bool = False, units: int = 64) -> BlockTrace:
    """A block whose every quantity rises with `values`, at different paces."""
    width = 4 * np.exp(values / 10)
    return BlockTrace(
        key=key,
        units=units,
        positions=1,
        active=np.clip(np.rint(units / 3 + units / 20 * values), 0, units),
        width_lower=0.97 * width,
        width_upper=1.01 * width,
        width=width if exact else np.full(len(width), np.nan),
        largest=width / 3,
        margin=0.02 * np.exp(values / 2),
    )


def difficult(samples: int, share: float, rng: np.random.Generator) -> tuple[Floats, Truths]:
    """Difficulties of inputs, and which of the answers are right: rather those of easy ones."""
    difficulty = rng.standard_normal(samples)
    noisy = difficulty + rng.standard_normal(samples)
    return difficulty, noisy <= np.quantile(noisy, 1 - share)


@cache
def trace_of(
    keys: tuple[str, ...], *, samples: int = 400, share: float = 0.15, seed: int = 0
) -> Trace:
    """A trace of a classifier, whose blocks see the difficulty the better the later they come."""
    rng = np.random.default_rng(seed)
    difficulty, correct = difficult(samples, share, rng)
    blocks = tuple(
        block_trace(
            key,
            rng.standard_normal(samples) - difficulty * (number + 1) / len(keys),
            exact=number == 0,
            units=16 * (number + 1),
        )
        for number, key in enumerate(keys)
    )
    odds = 3 - 1.5 * difficulty + 0.5 * rng.standard_normal(samples)
    max_softmax = np.clip(1 / (1 + np.exp(-odds)), 0.1, 1)
    entropy = -max_softmax * np.log(max_softmax) + 2 * (1 - max_softmax)
    return Trace(
        model=MODEL,
        blocks=blocks,
        refusals=(Refusal("<i>branch</i>", "its weight is [b]computed[/b]"),),
        max_softmax=max_softmax,
        entropy=entropy,
        correct=correct,
        separation=separate(blocks, max_softmax, entropy, correct, seed=7),
        warnings=("block <conv9> has no activation.",),
        provenance=replace(PROVENANCE, sample_count=samples),
    )
