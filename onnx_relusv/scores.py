"""The block whose answers are the network's class scores, and is fitted to their divergence."""

from onnx_relusv.decisions import Plan
from onnx_relusv.divergence import Answers, answers_of
from onnx_relusv.graph.scores import block_of_scores
from onnx_relusv.opened import Opened

_BATCH = 64


def block_fitted_to_scores(opened: Opened, plan: Plan) -> str | None:
    """The key of the block that gives the class scores that the plan compares.

    Args:
        opened: The model and its samples, split.
        plan: What is fitted. Where it was made by damage, and that is no divergence of class
            scores, nothing is fitted to one.

    Returns:
        None where there is no such block, or are no samples to fit it on.
    """
    if opened.split is None or opened.split.select is None:
        return None
    batch = next(iter(opened.split.fit.batches(_BATCH, limit=_BATCH)))
    values = opened.session().run(batch.feeds)
    answers = answers_of(opened.model, values, batch.count, batch.size)
    if answers.scores is None or not _exclusive(answers, plan):
        return None
    block = block_of_scores(opened.model, opened.blocks, answers.scores)
    if block is None or values[answers.scores].shape[1] != block.geometry.out_channels:
        return None
    return block.key


def _exclusive(answers: Answers, plan: Plan) -> bool:
    """Whether classes exclude one another, and the plan compares them so, if it compares."""
    return not answers.independent and plan.damage_measure in (None, answers.words)
