"""What is known of every block: as many are measured at a time as cores and memory allow.

What it takes to measure a block, estimated: work, and memory at its peak.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnx_relusv.core.blocks import Block, Floats, FunctionBounds, LinearMap, Moments
from onnx_relusv.core.kinds import kind_of
from onnx_relusv.core.measures import Spectrum
from onnx_relusv.core.plans import Candidate, Cost
from onnx_relusv.core.results import BlockReport, RankSaving
from onnx_relusv.graph.scalar_functions import ScalarFunctions
from onnx_relusv.measuring.case import BlockMoments, Case, Workspace, run_identity
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.rewrites.low_rank.candidates import block_candidates, block_cost
from onnx_relusv.rewrites.low_rank.factors import decompose_block
from onnx_relusv.rewrites.low_rank.forms import FORMS, available_forms
from onnx_relusv.runtime.kernels.parts import kernel_threads
from onnx_relusv.runtime.providers import kernels_on
from onnx_relusv.runtime.session import CPU
from onnx_relusv.spectra.activation_functions import (
    ACTIVATIONS,
    ActivationFunction,
    lower_of_values,
)
from onnx_relusv.spectra.measure import measure
from onnx_relusv.work.effort import Spending
from onnx_relusv.work.executors import Load, Progress, Task, local, run

_FLOAT32, _FLOAT64 = 4, 8
# Of patches for a fit: enough to tell factors apart, and the share of the memory they may take.
MOST_ROWS, _ROWS_SHARE = 12_000, 4
# At the peak, for a singular value decomposition: the weight, its copies and its factors.
_WEIGHTS = 8
# Of the shorter side: a Gram matrix and what its eigendecomposition works in.
_SQUARES = 3
# Whatever the shape: the ascents and, for a Conv, many frequencies' matrices at a time.
_CONSTANT = 48 << 20
_CONSTANT_OF_CONV = 160 << 20
# In multiplications of matrices: an eigendecomposition, and all that an unfolded kernel needs.
_EIGEN = 10
_UNFOLDED = 3


def measuring_load(block: Block, *, in_data_metric: bool) -> Load:
    """What measuring a block takes, the reading of its linear map and its candidates included.

    Args:
        block: The block.
        in_data_metric: Whether it is measured with moments, whose covariance counts then.
    """
    geometry = block.geometry
    rows, columns, shorter = geometry.rows, geometry.columns, geometry.largest_rank
    # The kernel is decomposed as it is, and unfolded where that gives candidates.
    loads = [FORMS[form].load(geometry) for form in available_forms(geometry)]
    sides = [load.side for load in loads]
    numbers = _WEIGHTS * geometry.out_channels * columns + _SQUARES * max(shorter, *sides) ** 2
    work = shorter * rows * columns + _EIGEN * shorter**3
    work += sum(_UNFOLDED * side**3 for side in sides)
    if in_data_metric:
        # The covariance, and what forms hold beside it, one after the other.
        numbers += (geometry.groups + max(load.copies for load in loads)) * columns**2
        work += rows * columns**2 + sum(load.products for load in loads)
    constant = _CONSTANT_OF_CONV if kind_of(geometry).spatial else _CONSTANT
    return Load(work=float(geometry.groups * work), memory=_FLOAT64 * numbers + constant)


def rows_within(block: Block, memory: int) -> int:
    """How many patches of a block's input, with their targets, are kept for a fit.

    Args:
        block: The block.
        memory: Bytes; a part of it is taken.
    """
    geometry = block.geometry
    numbers = geometry.groups * (geometry.columns + 2 * geometry.rows)
    return max(1, min(MOST_ROWS, memory // (_ROWS_SHARE * _FLOAT32 * numbers)))


# The share of inputs that the ball holds at least on which activations that are not homogeneous are
# bounded; and what their bounds give away for singular values.
_HALF, _ROUNDING = 0.5, 1e-6
TOLERANCES = (0.05, 0.1, 0.2)


@dataclass(frozen=True, eq=False)
class Measured:
    """The rows of all blocks and the candidates of each, by key."""

    rows: tuple[BlockReport, ...]
    candidates: dict[str, tuple[Candidate, ...]]


@dataclass(frozen=True, eq=False)
class BlockMeasures:
    """What is measured of a block.

    Attributes:
        spectrum: Its ReLU singular values and widths.
        candidates: What it may be rewritten to.
    """

    spectrum: Spectrum
    candidates: tuple[Candidate, ...]

    def problem(self) -> str | None:
        """What is wrong with it as a whole."""
        unknown = {candidate.form for candidate in self.candidates} - set(FORMS)
        return f"no form is called {min(unknown)}" if unknown else None


@dataclass(frozen=True, eq=False)
class Ground:
    """A model that was measured: what plans and fits rest on.

    Attributes:
        case: The model, with its groups of units where these may go.
        inputs: Its samples, split; synthetic ones where that takes some.
        workspace: Where it runs, and what is kept.
        moments: Of the blocks' inputs.
        measured: The blocks' spectra and candidates.
    """

    case: Case
    inputs: Inputs
    workspace: Workspace
    moments: BlockMoments
    measured: Measured

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The model's, in topological order."""
        return self.case.blocks

    @property
    def candidates(self) -> Mapping[str, Sequence[Candidate]]:
        """The double layers that were found of every block, by key."""
        return self.measured.candidates

    @property
    def spending(self) -> Spending:
        """What is done for a better file."""
        return self.workspace.spending

    @property
    def folding(self) -> Callable[[Block], LinearMap]:
        """Reads the linear map of a block."""
        return self.case.folding

    @property
    def model_bytes(self) -> int:
        """Of the original's file, external data included."""
        return self.case.model.bytes

    @property
    def opset(self) -> int:
        """The original's operator set."""
        return self.case.model.opset


def measure_blocks(
    case: Case, inputs: Inputs, workspace: Workspace, moments: BlockMoments, progress: Progress
) -> Measured:
    """Measures every block and lists its candidates, several blocks at a time.

    A GPU is fed by one thread. The blocks under way stay within the memory that there is for
    measuring; one that takes more is measured while no other is. What the cache knows is not
    measured again.
    """
    seed, provider = workspace.options.seed, kernels_on(workspace.provider)
    tasks = {
        block.key: Task(
            kind="measures",
            key={**run_identity(case, inputs, workspace), "block": block.key},
            result=BlockMeasures,
            lengths={"rank": block.geometry.largest_rank},
            function=measure_block,
            arguments=(block, case.folding, moments, seed, provider, workspace.spending),
            load=measuring_load(block, in_data_metric=moments[block.key] is not None),
        )
        for block in case.blocks
    }
    by_key = {block.key: block for block in case.blocks}
    with progress.stage("Spectra of the blocks", len(tasks)) as advance:
        executor = local(workspace.options.working_bytes, advance, device=provider != CPU)
        found = run(tasks, executor, workspace.cache, advance)
    behind: dict[str, FunctionBounds | None] = {
        key: function_bounds(
            function,
            output,
            found[key].spectrum.sigma,
            case.folding(by_key[key]),
            moments[key],
        )
        for key, (function, output) in recognised(case).items()
    }
    return Measured(
        tuple(
            _row(block, found[block.key], moments, behind.get(block.key)) for block in case.blocks
        ),
        {key: measures.candidates for key, measures in found.items()},
    )


def measure_block(
    block: Block,
    folding: Callable[[Block], LinearMap],
    moments: BlockMoments,
    seed: int,
    provider: str,
    spending: Spending,
    threads: int,
) -> BlockMeasures:
    """Measures a block.

    Args:
        block: The block.
        folding: Reads its linear map.
        moments: Of the blocks' inputs.
        seed: Draws starts.
        provider: Runs the ascents.
        spending: What is done for a better file.
        threads: How many may be used.
    """
    linear, seen = folding(block), moments[block.key]
    with kernel_threads(threads):
        parts = decompose_block(linear, seen)
        spectrum = measure(
            block, linear, seen, parts, seed=seed, provider=provider, estimates=spending.estimates
        )
    return BlockMeasures(
        spectrum, tuple(block_candidates(block, linear, seen, parts, spending.rank_step))
    )


# Where functions are compared, by what is lost to constants of float32 and to such as 1.4142.
_COMPARED_AT, _APART = np.linspace(-12, 12, 193), 2e-5


def recognised(case: Case) -> dict[str, tuple[ActivationFunction, str]]:
    """The activations behind linear blocks, with their tensors, by the blocks' keys.

    What follows one is what the graph computes, however it is written; it is one of
    `spectra.ACTIVATIONS` if it gives the same. A residual sum, a gate of another tensor and
    whatever else is not understood has no entry.
    """
    graph, found = ScalarFunctions(case.model), {}
    functions = [one for one in ACTIVATIONS.values() if isinstance(one, ActivationFunction)]
    expected = [(one, one(_COMPARED_AT)) for one in functions]
    linear = [block for block in case.blocks if block.activation.kind == "none"]
    for block in linear:
        for behind in graph.behind(block.key, _COMPARED_AT):
            same = [
                one for one, values in expected if np.abs(behind.values - values).max() < _APART
            ]
            if same:
                found[block.key] = (same[0], behind.output)
                break
    return found


def function_bounds(
    function: ActivationFunction,
    output: str,
    sigma: Floats,
    linear: LinearMap,
    moments: Moments | None,
) -> FunctionBounds | None:
    """Bounds of a linear block with an activation, on a ball that holds half of its inputs.

    Args:
        function: The activation.
        output: Its tensor.
        sigma: (r,) singular values of the linear map in the metric of its input; of several groups
            the largest.
        linear: The map.
        moments: Of its input; None for none, and the unit ball.

    Returns:
        None of a wide block, whose covariance is a sketch, or where all of it is shrunk away.
    """
    bias, radius, holds = linear.bias, 1.0, 0.0
    if moments is not None:
        # C is at least (1 - shrinkage) times the covariance of what was seen, so the mean square
        # in its metric is at most columns / (1 - shrinkage). Assumed statistics prove nothing.
        seen = moments.source == "samples"
        rest = float(1 - moments.shrinkage.max()) if seen else 1.0
        if moments.factored or rest <= 0:
            return None
        radius, holds = math.sqrt(linear.weight.shape[2] / rest / _HALF), _HALF if seen else 0.0
        bias = bias + np.einsum("grc,gc->gr", linear.weight, moments.mean).reshape(-1)
    count = linear.weight.shape[1]
    lower = lower_of_values(radius * sigma, function, bias, count)
    return FunctionBounds(
        name=function.name,
        output=output,
        radius=radius,
        holds=holds,
        lower=lower * (1 - _ROUNDING),
        upper=function.lipschitz * radius * sigma * (1 + _ROUNDING),
    )


def _row(
    block: Block,
    found: BlockMeasures,
    moments: BlockMoments,
    behind: FunctionBounds | None,
) -> BlockReport:
    geometry, cost, seen = block.geometry, block_cost(block), moments[block.key]
    return BlockReport(
        block=block,
        parameters=geometry.numbers + geometry.out_channels,
        cost=cost,
        spectrum=found.spectrum,
        savings=tuple(_saving(found.candidates, tolerance, cost) for tolerance in TOLERANCES),
        statistics="none" if seen is None else seen.source,
        behind=behind,
    )


def _saving(candidates: Sequence[Candidate], tolerance: float, now: Cost) -> RankSaving:
    enough = [candidate for candidate in candidates if candidate.level <= tolerance]
    if not enough:
        return RankSaving(tolerance=tolerance, form=None, rank=None, saved_bytes=0, saved_macs=0)
    best = min(enough, key=lambda candidate: candidate.bytes)
    return RankSaving(
        tolerance=tolerance,
        form=best.form,
        rank=best.rank,
        saved_bytes=now.bytes - best.bytes,
        saved_macs=now.macs - best.macs,
    )
