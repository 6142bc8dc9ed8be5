"""Judges smaller files on samples that nothing was fitted to and nothing was chosen on."""

from dataclasses import dataclass
from pathlib import Path

from onnx_relusv.errors import InputError, UsageError
from onnx_relusv.evaluate import evaluate
from onnx_relusv.graph.value_lengths import value_lengths
from onnx_relusv.held_out import HeldOut, answers_output
from onnx_relusv.opened import Opened
from onnx_relusv.planning import divided
from onnx_relusv.progress import Progress
from onnx_relusv.results import Evaluation
from onnx_relusv.runtime.session import Session
from onnx_relusv.samples import Samples, open_samples
from onnx_relusv.sweeps import JudgedBy, Judges, PairedDrop

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
