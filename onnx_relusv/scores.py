"""The block whose answers are the network's class scores, and what these are like."""

from dataclasses import dataclass

import numpy as np
import scipy.special

from onnx_relusv.class_scores import real_rows
from onnx_relusv.deciding import judged_answers
from onnx_relusv.decisions import Plan
from onnx_relusv.divergence import Answers
from onnx_relusv.graph.scores import block_of_scores
from onnx_relusv.opened import Opened
from onnx_relusv.records import Block, Floats, ReadOnlyArrays

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


def scores_block(opened: Opened) -> ScoresBlock | None:
    """Finds the block that gives the class scores, by a run on the samples that are fitted on.

    Returns:
        None where there is no such block, or are no samples.
    """
    samples = opened.fitted
    if samples is None:
        return None
    answers = judged_answers(opened, next(samples.batches(_BATCH, limit=_MOST)))
    if answers.scores is None or answers.independent:
        return None
    session, total, count = opened.session([answers.scores]), np.zeros(()), 0
    for batch in samples.batches(_BATCH, limit=_MOST):
        values = session.run(batch.feeds, [answers.scores])
        scores = np.asarray(real_rows(values, batch.count, batch.size)[answers.scores], np.float64)
        with np.errstate(invalid="ignore"):  # of infinite scores, which are left out
            shares = scores if answers.probabilities else scipy.special.softmax(scores, axis=1)
        shares = shares[np.isfinite(shares).all(axis=1)]
        total = total + np.diag(shares.sum(axis=0)) - shares.T @ shares
        count += len(shares)
    if not count:
        return None
    block = block_of_scores(opened.model, opened.blocks, answers.scores)
    if block is None or len(total) != block.geometry.out_channels:
        return None
    return ScoresBlock(block, answers, total / count)


def fitted_to_scores(opened: Opened, plan: Plan) -> str | None:
    """The key of the block that is fitted to the divergence of its class scores.

    Args:
        opened: The model and its samples, split.
        plan: What is fitted. Where it was made by damage, and that is no divergence of class
            scores, nothing is fitted to one.

    Returns:
        None where there is no such block, or are no samples to judge it on.
    """
    if opened.split is None or opened.split.select is None:
        return None
    found = scores_block(opened)
    if found is None or plan.damage_measure not in (None, found.answers.words):
        return None
    return found.block.key
