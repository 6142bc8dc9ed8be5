"""How far a changed network's outputs are from the original's, as one number that adds up.

Class scores: the mean Kullback-Leibler divergence of the changed answers from the original's, in
nats. Where every class has a probability of its own, out of a Sigmoid, it is that of a yes or no,
summed over the classes: labels that do not exclude one another have no common distribution. Other
outputs: the squared relative L2 error, the mean over the outputs. All grow with the square of small
errors, so the damages of several small changes nearly add up.

Which it is follows from the outputs' shapes, the operator behind the scores, and their values: a
Softmax over another axis than that of the classes gives rows that do not sum to 1, and no class
scores; rows that do are probabilities, whatever made them.

What a changed model is told from the original by: its outputs, or what decides them.

The block whose answers are the network's class scores, and what these are like.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.special

from onnx_relusv.core.blocks import Block, Floats, ReadOnlyArrays
from onnx_relusv.core.errors import InputError
from onnx_relusv.core.plans import Plan
from onnx_relusv.graph.blocks import block_of_scores
from onnx_relusv.graph.channels.operators import maker
from onnx_relusv.graph.deciding import (
    FLOAT_TENSORS,
    counts,
    deciding_candidates,
    deciding_tensors,
)
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.reference import runnable
from onnx_relusv.measuring.case import Case, Workspace
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.runtime.differences import in_one_shape
from onnx_relusv.runtime.outputs import class_scores, real_rows
from onnx_relusv.runtime.session import Session
from onnx_relusv.runtime.stacks import run_batch
from onnx_relusv.samples.samples import Batch

# A float16 sum of thousands of classes is off by less, a Softmax over another axis by far more.
_SUM_TOLERANCE = 1e-2
_SMALLEST = 1e-30
# Of outputs that are of no use at all; JSON has no infinity.
WORST = 1e30


@dataclass(frozen=True)
class Answers:
    """What of the outputs is compared.

    Attributes:
        outputs: Names of the model's outputs, or in place of some of the float tensors that decide
            them.
        scores: The one that holds class scores; None where all are compared by L2.
        probabilities: Whether these are probabilities, and not what goes into a Softmax.
        independent: Whether every class has a probability of its own, and the others' say nothing
            of it.
    """

    outputs: tuple[str, ...]
    scores: str | None
    probabilities: bool
    independent: bool = False

    @property
    def words(self) -> str:
        """What the divergence is, for reports."""
        if self.scores is None:
            return "squared relative L2 error of the outputs"
        if self.independent:
            return f"KL divergence of every class of {self.scores} by itself, summed"
        return f"KL divergence of the class scores {self.scores}"


def answers_of(
    model: Model,
    values: Mapping[str, np.ndarray],
    count: int,
    size: int,
    wanted: Literal["auto", "kl", "l2"] = "auto",
) -> Answers:
    """Decides how outputs are compared, from a batch of them and the graph.

    Args:
        model: The model.
        values: Its outputs, or what decides them.
        count: How many samples of the batch are real.
        size: How many it has.
        wanted: Whether class scores are to be compared as such, or all outputs by L2, or whether
            the outputs decide.

    Raises:
        InputError: Class scores are to be compared, and there are none.
    """
    outputs = tuple(values)
    real = real_rows(values, count, size)
    scores = None if wanted == "l2" else class_scores(real, count)
    if scores is not None and np.isnan(np.asarray(real[scores], np.float64)).any():
        scores = None  # such scores tell no answer; entries that are numbers can be compared
    if scores is not None:
        node = maker(model.proto, scores)
        made_by = "" if node is None else node.op_type
        rows = np.asarray(real[scores], np.float64)
        if made_by == "Sigmoid":
            return Answers(outputs, scores, probabilities=True, independent=True)
        sums_to_one = _sums_to_one(np.exp(np.minimum(rows, 0)) if made_by == "LogSoftmax" else rows)
        if sums_to_one or made_by not in ("Softmax", "LogSoftmax"):
            return Answers(outputs, scores, sums_to_one and made_by != "LogSoftmax")
    if wanted == "kl":
        raise InputError(
            f"{model.name}: no output has class scores, (samples, classes), so there are none for "
            "--divergence kl to compare. Leave it away, or use l2."
        )
    return Answers(outputs, None, probabilities=False)


def _sums_to_one(rows: Floats) -> bool:
    """Whether all rows, (samples, classes), are probabilities that exclude one another."""
    found = bool((rows >= 0).all())
    return found and bool((np.abs(rows.sum(axis=1) - 1) <= _SUM_TOLERANCE).all())


class Divergence:
    """Adds up, batch by batch, how far outputs are from the original's."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._samples = 0
        self._total = 0.0
        self._errors: dict[str, list[float]] = {name: [0.0, 0.0] for name in answers.outputs}

    # What is infinite becomes NaN, and the value says so.
    @np.errstate(invalid="ignore", over="ignore")
    def add(
        self,
        before: Mapping[str, np.ndarray],
        after: Mapping[str, np.ndarray],
        count: int,
        size: int,
    ) -> None:
        """Adds a batch of `size` samples, of which `count` are real."""
        first, second = real_rows(before, count, size), real_rows(after, count, size)
        scores = self._answers.scores
        if scores is not None:
            pair = (np.asarray(values[scores], np.float64) for values in (first, second))
            self._total += float(self._of_scores(*pair).sum())
            self._samples += count
            return
        for name, sums in self._errors.items():
            exact, changed, _ = in_one_shape(
                np.asarray(first[name], np.float64), np.asarray(second[name], np.float64)
            )
            # What is masked with the same infinity in both is neither an error nor a norm; nor is
            # what is no number in the original.
            told = ~(np.isnan(exact) | (np.isinf(exact) & (exact == changed)))
            sums[0] += float(np.sum((changed[told] - exact[told]) ** 2))
            sums[1] += float(np.sum(exact[told] ** 2))

    def _of_scores(self, first: Floats, second: Floats) -> Floats:
        """(samples,), of scores (samples, classes)."""
        if self._answers.independent:
            yes, no = (
                [_logarithms(share, True) for share in shares]
                for shares in ((first, second), (1 - first, 1 - second))
            )
            return _divergences(*yes) + _divergences(*no)
        probabilities = self._answers.probabilities
        return _divergences(_logarithms(first, probabilities), _logarithms(second, probabilities))

    @property
    def value(self) -> float:
        """The divergence so far; `WORST` where outputs are not finite."""
        if self._answers.scores is not None:
            found = self._total / max(self._samples, 1)
        else:
            shares = [error / max(whole, _SMALLEST) for error, whole in self._errors.values()]
            found = float(np.mean(shares)) if shares else 0.0
        # Of equal outputs rounding may leave less than nothing.
        return min(max(found, 0.0), WORST) if np.isfinite(found) else WORST


def _logarithms(values: Floats, probabilities: bool) -> Floats:
    if probabilities:
        return np.asarray(np.log(np.maximum(values, _SMALLEST)))
    return np.asarray(scipy.special.log_softmax(values, axis=1))


def _divergences(first: Floats, second: Floats) -> Floats:
    shares = np.exp(first)
    # A class that is ruled out, with a score of minus infinity, adds nothing.
    return np.asarray(np.sum(np.where(shares > 0, shares * (first - second), 0), axis=1))


def deciding_outputs(model: Model, session: Session) -> tuple[str, ...]:
    """The outputs of a model, or the float tensors before those that are none.

    Args:
        model: The model.
        session: It, opened.

    Returns:
        Names of outputs and of inner tensors, each once; none where nothing that is computed of
        floats leads to an output.
    """
    kinds = session.output_types
    plain = all(kinds.get(name) in FLOAT_TENSORS for name in model.output_names)
    if plain and not counts(model):
        return model.output_names
    try:
        inner = Session(
            runnable(model, exposed=deciding_candidates(model)),
            session.provider,
            lean=True,
            alone=False,
        )
    except InputError:
        # Some tensor cannot be an output; what the model itself gives in floats has to do.
        return tuple(name for name in model.output_names if kinds.get(name) in FLOAT_TENSORS)
    return deciding_tensors(model, {**kinds, **inner.output_types})


def judged_answers(
    case: Case, workspace: Workspace, batch: Batch, wanted: Literal["auto", "kl", "l2"] = "auto"
) -> Answers:
    """What of a model's outputs is compared, from a batch of samples.

    Args:
        case: The model.
        workspace: Where it runs, and what is kept.
        batch: The samples.
        wanted: As of `answers_of`.

    Raises:
        InputError: Class scores are to be compared, and there are none.
    """
    session = workspace.session(case.model)
    names = deciding_outputs(case.model, session)
    if names != case.model.output_names:
        session = workspace.session(case.model, names)
    # No names would mean all outputs to onnxruntime.
    values = session.run(batch.feeds, names) if names else {}
    return answers_of(case.model, values, batch.count, batch.size, wanted)


_BATCH = 64
# More samples tell no more of how classes are confused.
_MOST = 1024


@dataclass(frozen=True, eq=False)
class ScoresBlock(ReadOnlyArrays):
    """A linear block whose answers are class scores, classes that exclude one another.

    Attributes:
        block: The block.
        answers: How scores are compared.
        confusion: (classes, classes) float64: the mean of diag(p) - pp' over samples, p their
            shares of the classes. A small error e of the scores has a Kullback-Leibler divergence
            of e'(diag(p) - pp')e / 2.
    """

    block: Block
    answers: Answers
    confusion: Floats

    @property
    def root(self) -> Floats:
        """(classes, classes) symmetric R with RR the confusion."""
        values, vectors = np.linalg.eigh(self.confusion)
        return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)


def scores_block(case: Case, inputs: Inputs, workspace: Workspace) -> ScoresBlock | None:
    """Finds the block that gives the class scores, by a run on the samples that are fitted on.

    Returns:
        None where there is no such block, or are no samples.
    """
    samples = inputs.calibration
    if samples is None:
        return None
    answers = judged_answers(case, workspace, next(samples.batches(_BATCH, limit=_MOST)))
    if answers.scores is None or answers.independent:
        return None
    session, count = workspace.session(case.model, [answers.scores]), 0
    means, together = np.zeros(()), np.zeros(())
    for batch in samples.batches(_BATCH, limit=_MOST, stacked=True):
        values = run_batch(session, batch, [answers.scores])
        scores = np.asarray(real_rows(values, batch.count, batch.size)[answers.scores], np.float64)
        with np.errstate(invalid="ignore"):  # of infinite scores, which are left out
            shares = scores if answers.probabilities else scipy.special.softmax(scores, axis=1)
        shares = shares[np.isfinite(shares).all(axis=1)]
        means = means + shares.sum(axis=0)
        together = together + shares.T @ shares
        count += len(shares)
    if not count:
        return None
    block = block_of_scores(case.model, case.blocks, answers.scores)
    if block is None or len(means) != block.geometry.out_channels:
        return None
    return ScoresBlock(block, answers, (np.diag(means) - together) / count)


def fitted_to_scores(case: Case, inputs: Inputs, workspace: Workspace, plan: Plan) -> str | None:
    """The key of the block that is fitted to the divergence of its class scores.

    Args:
        case: The model and its samples, split.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        plan: What is fitted. Where it was made by damage, and that is no divergence of class
            scores, nothing is fitted to one.

    Returns:
        None where there is no such block, or are no samples to judge it on.
    """
    if inputs.split is None or inputs.split.select is None:
        return None
    found = scores_block(case, inputs, workspace)
    if found is None or plan.damage_measure not in (None, found.answers.words):
        return None
    return found.block.key
