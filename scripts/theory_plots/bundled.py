"""Measures the blocks of the bundled models, each beside an untrained layer of its shape."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from onnx_relusv.core.blocks import Block, LinearMap
from onnx_relusv.core.measures import ReluSingularValues, Spectrum
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.measuring.case import open_model
from onnx_relusv.rewrites.low_rank.factors import decompose_block
from onnx_relusv.spectra.measure import measure
from onnx_relusv.spectra.relu_values import relu_singular_values

MODELS = ("lenet_300_100", "fashion_mlp", "fashion_vgg", "fashion_resnet")
FOLDER = Path("models")
# On the CPU, so that figures do not depend on who has a GPU.
MEASURING = MeasureOptions(provider="cpu", seed=0)
_CERTIFIED_RANKS = (0, 1, 2)
_CERTIFICATE_STEPS = 20


@dataclass(frozen=True, eq=False, kw_only=True)
class MeasuredBlock:
    """A block of a bundled model, measured without samples; none of them has groups.

    Attributes:
        model: The model's name.
        block: The block.
        spectrum: Of the trained weights, bias left out.
        untrained: Of Gaussian weights of the same shape and Frobenius norm.
        certified: Bounds of s_0, s_1 and s_2 of the trained weights with all that is proved;
            None for a block without activation, where they are singular values.
    """

    model: str
    block: Block
    spectrum: Spectrum
    untrained: Spectrum
    certified: ReluSingularValues | None

    @property
    def has_activation(self) -> bool:
        """Whether ReLU singular values differ from singular values."""
        return self.block.activation.kind != "none"

    @property
    def key(self) -> str:
        """The block's key, without what only says where it ends."""
        return self.block.key.removesuffix("_relu").removesuffix("_bn")

    @property
    def name(self) -> str:
        """Model and block, short enough for a plot."""
        return f"{self.model.removeprefix('fashion_')} {self.key}"

    @property
    def shape(self) -> str:
        """Rows and columns of the weight matrix."""
        return f"{self.block.geometry.rows}x{self.block.geometry.columns}"


def measured_blocks(name: str) -> list[MeasuredBlock]:
    """Measures all blocks of a model."""
    opened = open_model(FOLDER / f"{name}.onnx", None, MEASURING)
    found = []
    for number, block in enumerate(opened.blocks):
        linear = opened.folding(block)
        drawn = np.random.default_rng([MEASURING.seed, number]).standard_normal(linear.weight.shape)
        drawn *= np.linalg.norm(linear.weight) / np.linalg.norm(drawn)
        certified = None
        if block.activation.kind != "none":
            certified = relu_singular_values(
                linear.weight[0],
                activation=block.activation,
                ranks=_CERTIFIED_RANKS,
                certificate_steps=_CERTIFICATE_STEPS,
                seed=MEASURING.seed,
                provider="cpu",
            )
        found.append(
            MeasuredBlock(
                model=name,
                block=block,
                spectrum=_spectrum(block, linear),
                untrained=_spectrum(block, replace(linear, weight=drawn)),
                certified=certified,
            )
        )
    return found


def _spectrum(block: Block, linear: LinearMap) -> Spectrum:
    parts = decompose_block(linear, None)
    return measure(block, linear, None, parts, seed=MEASURING.seed, provider="CPUExecutionProvider")
