"""Forms that other forms of the same block beat at every size: they need no measurements."""

from collections.abc import Sequence

from onnx_relusv.decisions import Candidate


def undominated(offered: Sequence[Candidate], least: float, most: float) -> list[Candidate]:
    """A block's candidates without those of beaten forms.

    A candidate is beaten by one of another form that has no more bytes, no more MACs and no higher
    level; within a block levels of all forms are of one kind. A form is beaten where all of its
    candidates of the sizes in question are, by forms that stay. A form without a candidate of
    these sizes stays.

    Args:
        offered: The candidates of one block.
        least: Bytes from which on a size is worth having.
        most: Bytes up to which it is.

    Returns:
        In the same order; whole forms are left out, and never all of them.
    """
    kept = list(offered)
    for form in dict.fromkeys(candidate.form for candidate in offered):
        others = [candidate for candidate in kept if candidate.form != form]
        own = [
            candidate
            for candidate in kept
            if candidate.form == form and least <= candidate.bytes <= most
        ]
        if own and all(_is_beaten(candidate, others) for candidate in own):
            kept = others
    return kept


def _is_beaten(candidate: Candidate, others: Sequence[Candidate]) -> bool:
    return any(
        other.bytes <= candidate.bytes
        and other.macs <= candidate.macs
        and other.level <= candidate.level
        for other in others
    )
