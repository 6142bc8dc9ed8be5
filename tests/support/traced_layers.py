"""Models of one layer, traced, and what the figures of a trace are by numpy."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from graphs import model_proto, normal, run
from numpy.lib.stride_tricks import sliding_window_view

from onnx_relusv import MeasureOptions, trace
from onnx_relusv.core.blocks import Floats
from onnx_relusv.core.traces import BlockTrace, Trace


def traced(
    folder: Path,
    text: str,
    arrays: Mapping[str, np.ndarray],
    samples: Mapping[str, np.ndarray],
    *,
    exact: bool = False,
    seed: int = 0,
) -> Trace:
    """Writes a model and its samples, and traces them."""
    onnx.save(model_proto(text, arrays), folder / "model.onnx")
    np.savez(folder / "samples.npz", **samples)
    return trace(
        folder / "model.onnx",
        samples=folder / "samples.npz",
        exact=exact,
        measuring=MeasureOptions(provider="cpu", seed=seed),
    )


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer whose operators are written out here, and the model that holds it.

    Attributes:
        text: The graph, its input `x`, its pre-activation `h`.
        arrays: Its initializers, `w` and `b` among them.
        samples: (n, ...) float32 values of `x`.
        slopes: Of the activation.
        ceiling: Of the activation.
        groups: Of a Conv.
        stride: Of a Conv, on both axes.
        pads: Begins and ends of a Conv's axes.
    """

    text: str
    arrays: dict[str, np.ndarray]
    samples: np.ndarray
    slopes: Floats | float = 0.0
    ceiling: float = np.inf
    groups: int = 1
    stride: int = 1
    pads: tuple[tuple[int, int], ...] = ()

    def operators(self) -> tuple[Floats, Floats]:
        """A_x (samples, positions, units, columns), and pre-activations, in float64.

        A grouped Conv's operator acts on the patches of all groups together, block by block.
        """
        W, x = self.arrays["w"].astype(np.float64), self.samples.astype(np.float64)
        if W.ndim == 2:
            W, rows = W.T, x.reshape(len(x), -1, x.shape[-1])
        else:
            padded = np.pad(x, ((0, 0), (0, 0), *self.pads))
            windows = sliding_window_view(padded, W.shape[2:], axis=(2, 3))
            windows = windows[:, :, :: self.stride, :: self.stride]
            # (samples, positions, channels * taps)
            rows = windows.transpose(0, 2, 3, 1, 4, 5).reshape(
                len(x), -1, x.shape[1] * W[0, 0].size
            )
            W = block_diagonal(W.reshape(self.groups, len(W) // self.groups, -1))
        y = rows @ W.T + self.arrays.get("b", np.zeros(len(W))).astype(np.float64)
        d = np.where((y > 0) & (y < self.ceiling), 1, self.slopes)
        return d[..., None] * W, y

    def weights(self) -> Floats:
        """(units,) lengths of the units' weights."""
        w = self.arrays["w"].astype(np.float64)
        return (
            np.linalg.norm(w, axis=0)
            if w.ndim == 2
            else np.linalg.norm(w.reshape(len(w), -1), axis=1)
        )


def block_diagonal(blocks: Floats) -> Floats:
    groups, rows, columns = blocks.shape
    whole = np.zeros((groups, rows, groups, columns))
    for group, one in enumerate(blocks):
        whole[group, :, group] = one
    return whole.reshape(groups * rows, groups * columns)


def dense(activation: str, **arrays: np.ndarray) -> tuple[str, dict[str, np.ndarray]]:
    text = f"(float[N,5] x) => (float[N,6] y) {{ h = Gemm(x, w, b) y = {activation} }}"
    return text, {"w": normal(5, 6), "b": normal(6, scale=0.3), **arrays}


def conv(attributes: str, shape: tuple[int, ...]) -> tuple[str, dict[str, np.ndarray]]:
    text = f"(float[N,4,H,W] x) => (y) {{ h = Conv<{attributes}>(x, w, b) y = Relu(h) }}"
    return text, {"w": normal(*shape), "b": normal(shape[0], scale=0.3)}


ROWS, IMAGES = normal(7, 5), normal(7, 4, 5, 6)


def everywhere(layer: Layer) -> Floats:
    """(samples, positions) Frobenius norms."""
    return np.linalg.norm(layer.operators()[0], axis=(2, 3))


MANY = Layer(*conv("pads=[1,1,1,1]", (6, 4, 3, 3)), IMAGES, pads=((1, 1), (1, 1)))


def block_of(found: Trace) -> BlockTrace:
    (block,) = found.blocks
    return block


NETWORK = """(float[N,5] x) => (float[N,4] z, float[N,4] s) {
    h = Gemm(x, w, b) r = Relu(h) i = Identity(x) z = Gemm(r, v) s = Softmax(z)
}"""


ARRAYS = {**dense("")[1], "v": normal(6, 4)}


def labelled(tmp_path: Path, wrong: int) -> tuple[dict[str, np.ndarray], Floats]:
    """Forty samples of which so many have another label than the network's answer, and logits."""
    x = normal(40, 5)
    z = run(model_proto(NETWORK, ARRAYS), {"x": x})["z"].astype(np.float64)
    labels = z.argmax(axis=1)
    labels[:wrong] = (labels[:wrong] + 1) % 4
    return {"x": x, "labels": labels}, z
