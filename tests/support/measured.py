"""Blocks of tests, measured as the package measures them."""

from onnx_relusv.core.blocks import Block, LinearMap, Moments
from onnx_relusv.core.measures import Spectrum
from onnx_relusv.rewrites.low_rank.factors import decompose_block
from onnx_relusv.runtime.session import CPU
from onnx_relusv.spectra.measure import measure


def spectrum_of(
    item: Block,
    linear: LinearMap,
    seen: Moments | None = None,
    *,
    seed: int = 0,
    provider: str = CPU,
) -> Spectrum:
    return measure(item, linear, seen, decompose_block(linear, seen), seed=seed, provider=provider)
