"""The frozen records of a fit: what is to be replaced, and what was found for it."""

from collections.abc import Mapping
from dataclasses import dataclass

from onnx_relusv.decisions import Factors, Form, Kept, Plan
from onnx_relusv.records import Block, Floats, LinearMap, Moments
from onnx_relusv.reduction import reduced_block


@dataclass(frozen=True)
class Change:
    """A block that is to be replaced, and by what.

    Attributes:
        block: The whole block.
        form: Of what takes its place.
        rank: Its inner width, per group.
        kept: What is left of its channels; None where all are.
    """

    block: Block
    form: Form
    rank: int
    kept: Kept | None = None

    @property
    def reduced(self) -> Block:
        """The block with the channels that are left."""
        return reduced_block(self.block, self.kept)


@dataclass(frozen=True, eq=False)
class Fitted:
    """Factors, and the linear map and moments that they were made from.

    Attributes:
        factors: The double layer.
        target: The map it stands for: the block's own, or the regression M.
        moments: Of the input in whose metric it does; None without samples.
        root: (out, out), what outputs were weighted with; None where all count alike.
        refined: Whether steps behind the activation moved the factors away from the best
            approximation of the target.
    """

    factors: Factors
    target: LinearMap
    moments: Moments | None
    root: Floats | None = None
    refined: bool = False

    def weighted(self, dense: LinearMap) -> LinearMap:
        """A dense map as the fit saw it: its outputs weighted by what the consumers feel."""
        return dense if self.root is None else weighted(self.root, dense)


@dataclass(frozen=True, eq=False)
class FittedPlan:
    """A plan in numbers, ready to be written.

    Attributes:
        plan: The plan.
        factors: By key, of every block that changes.
        levels: The level that each of them reaches as stored.
    """

    plan: Plan
    factors: Mapping[str, Factors]
    levels: Mapping[str, float]


def weighted(root: Floats, dense: LinearMap) -> LinearMap:
    """A linear map of one group with its outputs multiplied by a matrix."""
    return LinearMap((root @ dense.weight[0])[None], root @ dense.bias)
