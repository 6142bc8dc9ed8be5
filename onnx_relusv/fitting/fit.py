"""Fits double layers, block after block, to the inputs that the compressed network delivers.

By the time a block is fitted, the blocks before it are compressed, and its input is z, not the
original x; its target is still what the original answers. Where the answer is added to a shortcut,
the target is that of the sum, so that the block compensates what came over the shortcut.

The starts are the plain factors, which know of the original's input alone, and regressions on z
of several strengths, with and without the consumers' view (regression, importance). The one with
the least error behind the activation, on samples that no moments were taken of, is refined by steps
(refinement); never is the result worse on them than the plain factors.

A block is fitted to what the blocks before it deliver, and which sums it compensates depends on the
changes behind it: so in the cache its factors belong to all changes of a plan together.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, replace
from functools import partial
from itertools import islice
from math import ceil

import numpy as np

from onnx_relusv.core.blocks import Block, LinearMap, Moments
from onnx_relusv.core.errors import InputError, ValidationError
from onnx_relusv.core.kinds import kind_of
from onnx_relusv.core.linear_algebra import UnusableValuesError, check_usable
from onnx_relusv.core.plans import ChannelMask, Factors
from onnx_relusv.core.reduction import (
    Change,
    Fitted,
    Integers,
    compensated_map,
    masked_geometry,
    masked_moments,
)
from onnx_relusv.fitting.block_fit import STEPS, BlockFit
from onnx_relusv.graph.blocks import ResidualSum, residual_sum
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.segments import Cut, cuts
from onnx_relusv.measuring.case import BlockMoments, Case, Workspace, run_identity
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.measuring.origins import explained
from onnx_relusv.planning.probe import segment_session
from onnx_relusv.rewrites.int8.ranges import ENOUGH_SAMPLES, observed_scales, quantizers
from onnx_relusv.rewrites.low_rank.factors import as_stored
from onnx_relusv.rewrites.low_rank.forms import FORMS, double_layer
from onnx_relusv.rewrites.low_rank.rounding import feeds_errors_back, rounded
from onnx_relusv.runtime.streams import Stream
from onnx_relusv.samples.split import Split
from onnx_relusv.spectra.passes import batch_length
from onnx_relusv.spectra.product_sums import Seen
from onnx_relusv.work.executors import Advance, Progress, Task

# Told what was found for a change, as soon as it is: to check it, and to keep what is wanted of it.
Keep = Callable[[Change, Fitted], None]


def fit(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    changes: Sequence[Change],
    moments: BlockMoments,
    progress: Progress,
    keep: Keep,
    known: Mapping[str, Factors] | None = None,
    scores: str | None = None,
) -> dict[str, Factors]:
    """Fits all changes in topological order.

    Args:
        case: The model and its samples, split.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        changes: In topological order.
        moments: Of the original's inputs; blocks without are fitted plainly.
        progress: Shows the batches, and of the steps of every block.
        keep: Called with every fit that was made; the moments it rests on are let go afterwards.
        known: What an earlier run found for these very changes; the samples go through it, but it
            is not fitted again.
        scores: Key of the block whose answers are class scores; None where there is none.

    Returns:
        By block key.
    """
    known, parts = known or {}, inputs.split
    found: dict[str, Factors] = {}
    waiting = []
    for change in changes:
        key = change.block.key
        if parts is not None and parts.select is not None and moments[key] is not None:
            waiting.append(change)
        elif key in known:
            found[key] = known[key]
        else:
            # One sample tells no covariance; what is assumed without any does.
            plain = _plain(case, change, moments[key] if parts is None else None)
            plain = _in_numbers(change, plain, workspace.options.seed)
            keep(change, plain)
            found[key] = plain.factors
            # It holds a whole weight, and the next block of a large model needs the room.
            del plain
    if all(change.block.key in known for change in waiting):
        return found | {change.block.key: known[change.block.key] for change in waiting}
    fitting = _Fitting(case, inputs, workspace, inputs.parts, moments, found, scores)
    fitting.run(waiting, progress, keep, known)
    return found


def fitted_alike(model: Model, before: Sequence[Change], after: Sequence[Change]) -> set[str]:
    """The blocks that two fits find the same factors for, since nothing before them differs.

    Args:
        model: The model.
        before: The changes of one fit, in topological order.
        after: Those of the other.

    Returns:
        Their keys; none where the two change different blocks, for then sums may differ too.
    """
    earlier = {change.block.key: _what(change) for change in before}
    if set(earlier) != {change.block.key for change in after}:
        return set()
    found: set[str] = set()
    for here in _course(model, after)[2]:
        same = {change.block.key for change in here if earlier[change.block.key] == _what(change)}
        found |= same
        if len(same) < len(here):
            break
    return found


def _what(change: Change) -> tuple[str, int, bytes | None, Integers | None]:
    kept = change.kept
    places = None if kept is None else kept.inputs.tobytes() + b" " + kept.outputs.tobytes()
    return change.form, change.rank, places, change.integers


def _residual_sums(model: Model, changes: Sequence[Change]) -> dict[str, ResidualSum | None]:
    """The sums that changed blocks compensate, by key.

    Where two of them are added to each other, the first, whose input is there before the other's,
    is fitted to its own answer and the second compensates both. For each to wait for the other, one
    of them would have to run before it is fitted.
    """
    made = {name: at for at, node in enumerate(model.proto.graph.node) for name in node.output}
    found = {change.block.key: residual_sum(model, change.block) for change in changes}
    for change in sorted(changes, key=lambda change: made.get(change.block.source, -1)):
        own = found[change.block.key]
        if own is not None and found.get(own.shortcut) is not None:
            found[change.block.key] = None
    return found


def _needed(block: Block, residual: ResidualSum | None) -> set[str]:
    """What has to be alive where a block is fitted."""
    return {block.source} if residual is None else {block.source, residual.shortcut}


def _ready(
    places: Sequence[Cut], changes: Sequence[Change], needs: Mapping[str, set[str]]
) -> list[list[Change]]:
    """The changes that can be fitted at every cut, since all that they need has come by."""
    found: list[list[Change]] = []
    complete: set[str] = set()
    for place in places:
        before = set(complete)
        complete.update(place.sources)
        found.append(
            [
                change
                for change in changes
                if needs[change.block.key] <= complete and not needs[change.block.key] <= before
            ]
        )
    return found


def _course(
    model: Model, changes: Sequence[Change]
) -> tuple[dict[str, ResidualSum | None], list[Cut], list[list[Change]]]:
    """The sums that changes compensate, the cuts of a fit, and what is fitted at each of them."""
    sums = _residual_sums(model, changes)
    needs = {change.block.key: _needed(change.block, sums[change.block.key]) for change in changes}
    places = cuts(model, sorted({name for names in needs.values() for name in names}))
    return sums, places, _ready(places, changes, needs)


def _plain(case: Case, change: Change, moments: Moments | None) -> Fitted:
    geometry, kept = change.block.geometry, change.kept
    linear = compensated_map(geometry, case.folding(change.block), moments, kept)
    seen = masked_moments(geometry, moments, kept)
    factors = double_layer(change.form, change.reduced.geometry, linear, seen, change.rank)
    return Fitted(replace(factors, kept=kept), linear, seen)


def _in_numbers(change: Change, fitted: Fitted, seed: int) -> Fitted:
    """A fit in the numbers that its block is computed with.

    Raises:
        InputError: Errors are to be fed back, and nothing tells how they count.
    """
    if change.integers is None:
        return fitted
    rounding, moments = change.integers.rounding, fitted.moments
    if rounding == "error_feedback" and not feeds_errors_back(moments):
        raise InputError(
            f"the plan has {change.block.key} rounded by error_feedback, which takes the "
            "covariance of its input, of no more columns than --memory allows. Set its rounding "
            "to nearest."
        )
    factors = rounded(
        change.reduced.geometry, fitted.factors, moments, seed, fed_back=rounding != "nearest"
    )
    return replace(fitted, factors=factors, refined=True)


def _is_answer(values: np.ndarray, source: np.ndarray, block: Block) -> bool:
    """Whether a tensor has the shape of what a block answers, and is not broadcast to it."""
    return values.shape == kind_of(block.geometry).output_shape(block.geometry, source.shape)


class _Fitting:
    """The loop over the cuts, with a stream of the original and one of the compressed model."""

    def __init__(
        self,
        case: Case,
        inputs: Inputs,
        workspace: Workspace,
        parts: Split,
        moments: BlockMoments,
        found: dict[str, Factors],
        scores: str | None,
    ) -> None:
        self._scores = scores
        self._case = case
        self._inputs = inputs
        self._workspace = workspace
        self._parts = parts
        self._moments = moments
        self._found = found
        self._length = batch_length(case.blocks, workspace.options.working_bytes)
        # Of every batch, how many of its samples are real, how many it has with padding, and
        # whether it is for choosing.
        self._batches: list[tuple[int, int, bool]] = []

    def run(
        self,
        changes: Sequence[Change],
        progress: Progress,
        keep: Keep,
        known: Mapping[str, Factors],
    ) -> None:
        """Fits the changes and adds them to what was found; not all of them are known."""
        model = self._case.model
        sums, places, ready = _course(model, changes)
        exact = Stream(self._feeds(), stacked=self._parts.fit.stacks)
        delivered = exact
        # Behind the last of the blocks that are still to be fitted, nothing has to run.
        last = max(
            number
            for number, here in enumerate(ready)
            if any(change.block.key not in known for change in here)
        )
        streamed, of_block = 2 * len(self._batches), len(self._batches) + STEPS
        with progress.stage("Fit", streamed * len(places) + of_block * len(changes)) as advance:
            done = sum(change.block.key in known for change in changes)
            advance(streamed * (len(places) - 1 - last) + of_block * done)
            for place, here in zip(places[: last + 1], ready, strict=False):
                session = segment_session(self._case, self._workspace, exact, place.live, {})
                moved = exact.advanced(session, place.live, advance)
                if delivered is exact and not self._found:
                    advance(len(self._batches))
                    delivered_moved = moved
                else:
                    dense = {key: self._dense(key) for key in self._found}
                    session = segment_session(
                        self._case, self._workspace, delivered, place.live, dense
                    )
                    delivered_moved = delivered.advanced(session, place.live, advance)
                for stream in {id(s): s for s in (exact, delivered)}.values():
                    stream.drop()
                exact = moved
                delivered = self._quantized(delivered_moved, changes, place)
                for change in here:
                    key = change.block.key
                    if key not in known:
                        item = BlockFit(
                            self._case,
                            self._inputs,
                            self._workspace,
                            change,
                            sums[key],
                            advance,
                            scores=key == self._scores,
                        )
                        plain = _plain(self._case, change, self._moments[key])
                        seen = self._seen(item, exact, delivered, advance)
                        fitted = _in_numbers(
                            change,
                            item.fitted(plain, self._parts, seen),
                            self._workspace.options.seed,
                        )
                        keep(change, fitted)
                        self._found[key] = fitted.factors
                    else:
                        # Only now: no block before it has seen what it delivers.
                        self._found[key] = known[key]
        for change in changes:
            if change.block.key not in self._found:
                self._found[change.block.key] = known[change.block.key]

    def _quantized(self, stream: Stream, changes: Sequence[Change], place: Cut) -> Stream:
        """A stream in which what int8 blocks read is quantized."""
        integers = {
            change.block.source: change.integers
            for change in changes
            if change.integers is not None and change.integers.format != "weights"
        }
        read = [name for name in place.sources if name in integers]
        if not read:
            return stream
        few = islice(stream, ceil(ENOUGH_SAMPLES / self._length))
        # A plan has one format, and ranges of one kind, for all of its blocks.
        one = integers[read[0]]
        return stream.through(quantizers(observed_scales(few, read, one.format, one.ranges)))

    def _feeds(self) -> Iterator[dict[str, np.ndarray]]:
        for samples, choosing in ((self._parts.fit, False), (self._parts.select, True)):
            for batch in () if samples is None else samples.batches(self._length, stacked=True):
                self._batches.append((batch.count, batch.size, choosing))
                yield batch.feeds

    def _dense(self, key: str) -> LinearMap:
        block = next(block for block in self._case.blocks if block.key == key)
        return as_stored(block, self._found[key])

    def _seen(
        self, item: BlockFit, exact: Stream, delivered: Stream, advance: Advance
    ) -> Iterator[tuple[Seen, bool]]:
        source, shortcut = item.block.source, item.shortcut
        starts = {False: 0, True: 0}
        for (real, size, choosing), x, z in zip(self._batches, exact, delivered, strict=True):
            self._check(item.block, x, z, choosing, starts[choosing], real, size)
            starts[choosing] += real
            added = None
            if shortcut is not None and _is_answer(x[shortcut], x[source], item.block):
                added = (x[shortcut], z[shortcut])
            yield Seen(x[source], z[source], real, size, added), choosing
            advance(1)

    def _check(
        self,
        block: Block,
        exact: Mapping[str, np.ndarray],
        delivered: Mapping[str, np.ndarray],
        choosing: bool,
        start: int,
        real: int,
        size: int,
    ) -> None:
        """Looks whether a block's input can be worked with, in both networks.

        Raises:
            InputError: The original makes numbers that cannot.
            ValidationError: The smaller one does.
        """
        samples = self._inputs.selection if choosing else self._parts.fit
        try:
            check_usable(block.source, exact[block.source], start, real, size)
        except UnusableValuesError as error:
            raise explained(
                error,
                self._case.model,
                samples,
                self._workspace.provider,
                blind=self._inputs.data_free,
            ) from error
        try:
            check_usable(block.source, delivered[block.source], start, real, size)
        except UnusableValuesError as error:
            raise ValidationError(
                f"with smaller blocks in front of it, {block.source} holds {error.problem} for "
                f"sample {samples.positions[error.positions[0]]}, which it does not in the "
                "original. Exclude the blocks in front of it, or ask for less."
            ) from error


def fit_tasks(
    case: Case, inputs: Inputs, workspace: Workspace, changes: Sequence[Change]
) -> dict[str, Task[Factors]]:
    """What is to be found for some changes, by block key; all of them are fitted together."""
    listed = [
        (
            change.block.key,
            change.form,
            change.rank,
            _places(change.kept),
            *([] if change.integers is None else astuple(change.integers)),
        )
        for change in changes
    ]
    digest = hashlib.sha256(json.dumps(listed).encode()).hexdigest()
    return {
        change.block.key: Task(
            kind="factors",
            key={
                **run_identity(case, inputs, workspace),
                "changes": digest,
                "block": change.block.key,
            },
            result=Factors,
            fits=partial(_are_of, change),
        )
        for change in changes
    }


def _are_of(change: Change, factors: Factors) -> bool:
    """Whether factors are of a change's form, rank and shapes."""
    geometry = masked_geometry(change.block.geometry, change.kept)
    shapes = [
        (geometry.groups, *shape) for shape in FORMS[change.form].shapes(geometry, change.rank)
    ]
    return (
        (factors.form, factors.rank) == (change.form, change.rank)
        and [matrix.shape for matrix in factors.matrices] == shapes
        and factors.bias.shape == (geometry.out_channels,)
        and _places(factors.kept) == _places(change.kept)
        and factors.are_integers == change.is_int8
    )


def _places(kept: ChannelMask | None) -> list[list[int]] | None:
    if kept is None:
        return None
    return [kept.inputs.tolist(), kept.outputs.tolist()]
