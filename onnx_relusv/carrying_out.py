"""From a plan to the written file and what is reported of it."""

from dataclasses import dataclass, replace
from pathlib import Path

from onnx_relusv.candidates import item_size
from onnx_relusv.cost import candidate_cost
from onnx_relusv.decisions import Choice, Plan
from onnx_relusv.graph.model import Model
from onnx_relusv.opened import BlockMoments, Opened, facts_of, provenance
from onnx_relusv.progress import Progress
from onnx_relusv.report.folder import write_compression
from onnx_relusv.results import BlockRow, Compression, Verdict
from onnx_relusv.rewriting import write_planned
from onnx_relusv.rows import Measured


@dataclass(frozen=True, eq=False)
class Job:
    """A plan to be carried out, and what the report says besides."""

    opened: Opened
    plan: Plan
    measured: Measured
    moments: BlockMoments
    command: str
    warnings: tuple[str, ...]


def carry_out(job: Job, output: Path, report: Path | None, progress: Progress) -> Compression:
    """Carries a plan out; the report is written before the model gets its name.

    Raises:
        BudgetError: The plan changes nothing, or the file is over its size budget.
        ValidationError: The result failed a check and was not written.
    """
    done: list[Compression] = []

    def before_publishing(written: Model, verdict: Verdict, levels: dict[str, float]) -> None:
        done.append(_compression(job, written, output, verdict, levels))
        if report is not None:
            write_compression(done[0], report)

    write_planned(job.opened, job.plan, job.moments, output, progress, before_publishing)
    return done[0]


def _compression(
    job: Job, written: Model, output: Path, verdict: Verdict, levels: dict[str, float]
) -> Compression:
    opened = job.opened
    choices = {choice.key: choice for choice in job.plan.choices}
    return Compression(
        before=opened.facts,
        after=replace(
            facts_of(written, opened.provider, opened.example, opened.options.seed), path=output
        ),
        budgets=job.plan.budgets,
        allocation=job.plan.allocation,
        level=job.plan.level,
        damage=job.plan.damage,
        rows=tuple(_decided(row, choices.get(row.block.key), levels) for row in job.measured.rows),
        refusals=opened.refusals,
        verdict=verdict,
        warnings=job.warnings,
        provenance=provenance(opened.provider, opened.options.seed, opened.samples, job.command),
    )


def _decided(row: BlockRow, choice: Choice | None, levels: dict[str, float]) -> BlockRow:
    """A block's row with what became of it."""
    choice = choice or Choice(key=row.block.key, why="not in the plan")
    if choice.form is None or choice.rank is None or choice.action == "keep":
        return replace(row, choice=choice, cost_after=row.cost)
    cost = candidate_cost(row.block, choice.form, choice.rank, item_size(row.block))
    return replace(row, choice=choice, level=levels[row.block.key], cost_after=cost)
