"""The methods of a sweep: how each plans a size and fits it, on what was measured once.

Judges smaller files on samples that nothing was fitted to and nothing was chosen on.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from onnx_relusv.checking.corrective import fitted_by_damage
from onnx_relusv.checking.evaluate import evaluate
from onnx_relusv.core.errors import BudgetError, InputError, UsageError
from onnx_relusv.core.options import Method as MethodName
from onnx_relusv.core.options import PlanOptions
from onnx_relusv.core.plans import Allocation, Budgets
from onnx_relusv.core.reduction import FittedPlan
from onnx_relusv.core.results import Evaluation
from onnx_relusv.core.sweeps import JudgedBy, Judges, PairedDrop
from onnx_relusv.fitting.plan import fit_plan
from onnx_relusv.graph.deciding import value_lengths
from onnx_relusv.measuring.blocks import Measured, measure_blocks
from onnx_relusv.measuring.case import BlockMoments, Opened, open_model
from onnx_relusv.measuring.held_out import HeldOut, answers_output
from onnx_relusv.measuring.without_samples import planning_moments
from onnx_relusv.planning.offer import decide, divided, offered
from onnx_relusv.planning.units import possible, pruning_offer, searched, with_channels
from onnx_relusv.runtime.session import Session
from onnx_relusv.samples.samples import Samples, open_samples
from onnx_relusv.work.executors import Progress

# Of the interval of every single drop.
_ERROR = 0.05


@dataclass(frozen=True, eq=False)
class Judging:
    """A model whose files are judged.

    Attributes:
        opened: The model, its samples split.
        samples: What files are judged on.
        judges: The same for the report.
        judged_by: What a file's loss is.
        held: Counts the answers that change; None without class scores.
    """

    opened: Opened
    samples: Samples
    judges: Judges
    judged_by: JudgedBy
    held: HeldOut | None

    def judge(self, file: Path, progress: Progress) -> tuple[Evaluation, PairedDrop | None]:
        """Puts a file and the original side by side; progress is told of the samples."""
        opened, samples = self.opened, self.samples
        before, after = (Session(path, opened.provider) for path in (opened.model.path, file))
        with progress.stage("Evaluation", samples.count) as advance:
            evaluation = evaluate(
                before,
                after,
                samples,
                opened.model.output_names,
                advance=advance,
                lists=value_lengths(opened.model),
            )
        return evaluation, None if self.held is None else _paired_drop(self.held, file)


def judging(opened: Opened, test: Path | None) -> Judging:
    """Settles what files are judged on, and looks whether that can be done.

    Args:
        opened: The model with its samples, not split yet.
        test: Samples to judge on; None to set a part of the model's samples aside.

    Raises:
        InputError: The test samples cannot be read or do not fit, labels are no classes, or there
            are too few samples to set some aside.
        UsageError: The test samples are those that are fitted to.
    """
    whole = opened.samples
    assert whole is not None  # a sweep has samples
    opened = divided(opened, certifying=test is None)
    parts = opened.split
    assert parts is not None  # samples were split
    if test is None:
        samples = parts.certify
        if samples is None or parts.select is None:
            raise InputError(
                f"{whole.path}: {whole.count} samples are too few to set some aside for judging. "
                "Give more, or others with --test."
            )
    else:
        samples = open_samples(test, opened.model.inputs)
        if samples.sha256 == whole.sha256:
            raise UsageError(
                f"{test}: these are the samples that are fitted to, and nothing is judged on "
                "them. Give others, or leave --test away to set a part of them aside."
            )
    found = answers_output(opened, samples)
    # Labels that no answer could equal do not count.
    if found is not None and samples.labels is not None and not found.check_labels(samples):
        samples = samples.without_labels()
    judges = Judges(
        path=str(samples.path),
        sha256=samples.sha256,
        count=samples.count,
        labelled=samples.labels is not None,
        set_aside=test is None,
        fit_samples=parts.fit.count,
        select_samples=0 if parts.select is None else parts.select.count,
    )
    if found is None:
        return Judging(opened, samples, judges, "error", None)
    judged_by: JudgedBy = "agreement" if samples.labels is None else "accuracy"
    return Judging(opened, samples, judges, judged_by, HeldOut(opened, samples, found.name))


def _paired_drop(held: HeldOut, file: Path) -> PairedDrop:
    found = held.discordance(file)
    lower, upper = found.interval(_ERROR)
    return PairedDrop(
        lost=int(found.lost),
        gained=None if found.gained is None else int(found.gained),
        points=100 * found.drop,
        lower=100 * lower,
        upper=100 * upper,
    )


# Plans what keeps budgets and fits it, or says that nothing does.
Fitter = Callable[[Budgets, Progress], FittedPlan]

_ANY = Budgets(size=0.5)


@dataclass(frozen=True, eq=False)
class Ground:
    """What plans and fits rest on.

    Attributes:
        opened: The model, its samples split; without samples for methods that take none.
        moments: Of the blocks' inputs.
        measured: The blocks' candidates.
        planning: Which blocks may change.
    """

    opened: Opened
    moments: BlockMoments
    measured: Measured
    planning: PlanOptions


@dataclass(frozen=True)
class Method:
    """A way to make a model smaller.

    Attributes:
        meaning: What it does, in words.
        way: The same for `compress`: its `--method`.
        allocation: Likewise.
        on_samples: Whether it is given the samples.
        fitter: Makes its fitter, measuring once what that needs.
    """

    meaning: str
    way: MethodName
    allocation: Allocation
    on_samples: bool
    fitter: Callable[[Ground, Progress], Fitter]


@dataclass(frozen=True, eq=False)
class Way:
    """A method that is ready to make files of any size.

    Attributes:
        ground: What it rests on.
        fit: Its fitter.
    """

    ground: Ground
    fit: Fitter

    def fitted(self, size: float, progress: Progress) -> FittedPlan:
        """A file of a size, in numbers.

        Raises:
            BudgetError: The size cannot be reached.
            ValidationError: Factors as stored are not what they were fitted to be.
        """
        return self.fit(Budgets(size=size), progress)


def _by_damage(ground: Ground, progress: Progress) -> Fitter:
    parts = ground.opened.split
    if parts is None or parts.select is None:
        raise UsageError("--methods damage needs two samples at least, to fit to and to choose on.")
    offer = offered(ground.opened, ground.measured, ground.moments, ground.planning, progress)

    def fit(budgets: Budgets, progress: Progress) -> FittedPlan:
        return fitted_by_damage(ground.opened, offer, budgets, ground.moments, progress)[0]

    return fit


def _by_level(ground: Ground, progress: Progress) -> Fitter:
    def fit(budgets: Budgets, progress: Progress) -> FittedPlan:
        planning = replace(ground.planning, budgets=budgets, allocation="level")
        plan = decide(ground.opened, ground.measured, ground.moments, planning, progress)
        return fit_plan(ground.opened, plan, ground.moments, progress)

    return fit


def _by_units(way: MethodName) -> Callable[[Ground, Progress], Fitter]:
    def fitter(ground: Ground, progress: Progress) -> Fitter:
        # What plans are made of is measured for any budget; every fit has its own.
        planning = replace(ground.planning, method=way, budgets=_ANY, allocation="damage")
        try:
            planning = possible(ground.opened, planning)
        except BudgetError as error:
            return _refusing(error)
        if planning.method == "double-layer":
            return _by_damage(ground, progress)
        opened, moments = ground.opened, ground.moments
        offer = pruning_offer(opened, ground.measured, moments, planning, progress)

        def fit(budgets: Budgets, progress: Progress) -> FittedPlan:
            return fit_plan(opened, offer.plan(budgets), moments, progress)

        return fit

    return fitter


def _refusing(error: BudgetError) -> Fitter:
    """What can make no file of any size."""

    def fit(budgets: Budgets, progress: Progress) -> FittedPlan:
        raise error

    return fit


METHODS: Mapping[str, Method] = {
    "auto": Method(
        "double layers and removed units, by the least damage to the outputs, measured and fitted "
        "on samples",
        "auto",
        "damage",
        True,
        _by_units("auto"),
    ),
    "harmonic": Method(
        "removed units alone, likewise", "harmonic", "damage", True, _by_units("harmonic")
    ),
    "damage": Method(
        "double layers alone, likewise, with a corrective round",
        "double-layer",
        "damage",
        True,
        _by_damage,
    ),
    "level": Method(
        "double layers of one common level, measured and fitted on samples",
        "double-layer",
        "level",
        True,
        _by_level,
    ),
    "blind": Method(
        "double layers of one common level without any samples, on what can be assumed",
        "double-layer",
        "level",
        False,
        _by_level,
    ),
}


def out_of_reach(
    names: Sequence[str], sizes: Sequence[float], opened: Opened, planning: PlanOptions
) -> dict[tuple[str, float], BudgetError]:
    """Methods and sizes for which there is no plan, as shapes tell, with the reason.

    Args:
        names: Of the methods.
        sizes: Shares of the model's bytes.
        opened: The model.
        planning: Which blocks may change.
    """
    found: dict[tuple[str, float], BudgetError] = {}
    for name in names:
        way = METHODS[name]
        for size in sizes:
            asked = replace(
                planning,
                method=way.way,
                allocation=way.allocation,
                budgets=Budgets(size=size),
            )
            try:
                opened, _ = searched(opened, asked)
            except BudgetError as error:
                found[name, size] = error
    return found


@contextmanager
def ways(
    names: Sequence[str], opened: Opened, model: Path, planning: PlanOptions, progress: Progress
) -> Iterator[dict[str, Way]]:
    """Measures what methods need, once for all of them and for all sizes.

    Args:
        names: Of the methods.
        opened: The model, its samples split.
        model: Its path; methods without samples open it as `compress` does without any.
        planning: Which blocks may change.
        progress: Shows the stages.
    """
    with ExitStack() as stack:
        grounds: dict[bool, Ground] = {}
        for on_samples in dict.fromkeys(METHODS[name].on_samples for name in names):
            own = opened if on_samples else divided(open_model(model, None, opened.options))
            moments = stack.enter_context(planning_moments(own, progress))
            measured = measure_blocks(own, moments, progress)
            grounds[on_samples] = Ground(own, moments, measured, planning)
        ready: dict[str, Way] = {}
        for name in names:
            ground = grounds[METHODS[name].on_samples]
            if METHODS[name].way != "double-layer":
                ground = replace(ground, opened=with_channels(ground.opened))
            ready[name] = Way(ground, METHODS[name].fitter(ground, progress))
        yield ready
