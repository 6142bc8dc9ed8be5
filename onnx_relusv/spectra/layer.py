"""A layer in the coordinates in which it is ascended, and how hard an ascent tries."""

from dataclasses import dataclass

import numpy as np

from onnx_relusv.records import Activation, Floats, ReadOnlyArrays


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How hard an ascent tries, and where it runs.

    Attributes:
        iterations: Steps of each start.
        starts: Starts for each rank, or for each draw.
        seed: Draws them.
        provider: Execution provider.
    """

    iterations: int
    starts: int
    seed: int
    provider: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Layer(ReadOnlyArrays):
    """A layer phi(Wx + b) in the coordinates of W's right singular vectors.

    Attributes:
        reduced: (out, r) float64, U diag(sigma), sigma descending.
        activation: phi.
        bias: (out,) float64; zeros for none.
        rotation: (r, in) float64, the right singular vectors, where inputs x are non-negative;
            None where they are not restricted.
    """

    reduced: Floats
    activation: Activation
    bias: Floats
    rotation: Floats | None = None

    @property
    def homogeneous(self) -> bool:
        """Whether the layer's answer grows in proportion to its input."""
        return self.activation.ceiling is None and not self.bias.any()

    @property
    def is_plain(self) -> bool:
        """Whether phi is a plain Relu and there is no bias."""
        return self.homogeneous and not self.activation.slopes.any()

    def answers(self, x: Floats) -> Floats:
        """phi(Wx + b) for columns x in the coordinates of the ascent, (out, columns) float64."""
        y = self.reduced @ (x if self.rotation is None else self.rotation @ x)
        return activated(y + self.bias[:, None], self.activation)


def activated(y: Floats, activation: Activation) -> Floats:
    """phi(y), y of shape (out, columns)."""
    slopes = activation.slopes[:, None]
    rising = np.where(y > 0, y, slopes * y)
    return rising if activation.ceiling is None else np.minimum(rising, activation.ceiling)
