"""Where the bytes of an opened model lie, and budget errors that say so."""

from collections.abc import Iterator
from contextlib import contextmanager

from onnx_relusv import forms
from onnx_relusv.candidates import useful_ranks
from onnx_relusv.coverage_records import Coverage
from onnx_relusv.errors import BudgetError
from onnx_relusv.graph.coverage import coverage
from onnx_relusv.opened import Opened
from onnx_relusv.options import PlanOptions
from onnx_relusv.pruning.units import units_of_blocks
from onnx_relusv.records import Block


def model_coverage(opened: Opened, planning: PlanOptions | None = None) -> Coverage:
    """Says of all constants whether blocks hold them.

    Args:
        opened: The model.
        planning: What plans may do; anything if None.
    """
    staying: dict[str, str] = {}
    with_units = set[str]()
    if opened.channels is not None:
        with_units = set(units_of_blocks(opened.channels, opened.blocks))
    for block in opened.blocks:
        if planning is not None and not planning.allows(block.key):
            staying[block.key] = "left out by --include or --exclude"
        elif not _has_smaller_form(block) and block.key not in with_units:
            staying[block.key] = "no double layer makes them smaller"
    return coverage(opened.model, opened.blocks, opened.refusals, staying)


@contextmanager
def saying_where_bytes_are(opened: Opened, planning: PlanOptions) -> Iterator[None]:
    """Lets budget errors that come out of it say where the model's bytes lie.

    Not those on what may be lost, which bytes do not explain.
    """
    try:
        yield
    except BudgetError as error:
        budgets = planning.budgets
        explains = budgets.max_drop is None or budgets.size is not None or budgets.macs is not None
        if error.coverage is None and explains:
            error.coverage = model_coverage(opened, planning)
        raise


def _has_smaller_form(block: Block) -> bool:
    return any(
        useful_ranks(block, form, biased=False) for form in forms.available_forms(block.geometry)
    )
