"""What a model is measured, fitted and judged on: its samples, their parts, and the metric."""

from dataclasses import dataclass

from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.metric import Metric
from onnx_relusv.samples.samples import Samples
from onnx_relusv.samples.split import Split


@dataclass(frozen=True, eq=False)
class Inputs:
    """The samples of a model, and what its outputs are judged by.

    Attributes:
        samples: What to measure on, or None; synthetic where data-free.
        metric: What outputs are judged by in place of top-1, or None.
        split: The samples' parts where a plan is made or carried out; None where all are measured.
        data_free: Whether the user gave no samples, and blocks are measured on what can be assumed.
        scale_known: Whether anything tells how large the model's inputs are, where samples are
            synthetic.
        unusable: Why nothing can be planned on the samples, whatever blocks there are: what the
            model makes of them is no use. None where it is.
    """

    samples: Samples | None
    metric: Metric | None = None
    split: Split | None = None
    data_free: bool = False
    scale_known: bool = True
    unusable: str | None = None

    @property
    def user_samples(self) -> Samples | None:
        """The user's samples, None where there are none."""
        return None if self.data_free else self.samples

    @property
    def whole(self) -> Samples:
        """The samples, before they are split.

        Raises:
            UsageError: There are none.
        """
        if self.samples is None:
            raise UsageError("this takes --samples.")
        return self.samples

    @property
    def parts(self) -> Split:
        """The samples, split into their parts.

        Raises:
            UsageError: There are none.
        """
        if self.split is None:
            raise UsageError("this takes --samples.")
        return self.split

    @property
    def drawn(self) -> int | None:
        """How many of the user's samples were drawn; None where all are taken, or none given."""
        samples = self.user_samples
        return None if samples is None or samples.count == samples.total else samples.count

    @property
    def calibration(self) -> Samples | None:
        """The calibration set: the samples that moments are taken of and blocks are fitted to."""
        return self.samples if self.split is None else self.split.fit

    @property
    def has_selection(self) -> bool:
        """Whether there is a selection set."""
        return self.split is not None and self.split.select is not None

    @property
    def selection(self) -> Samples:
        """The selection set: samples that nothing is fitted to, and choices are made by.

        Raises:
            UsageError: There is none: too few samples were given, or none.
        """
        if self.split is None or self.split.select is None:
            raise UsageError("what changes do to the outputs takes --samples, two at least.")
        return self.split.select

    @property
    def certification(self) -> Samples:
        """The certification set: samples that bound the loss of a finished file, and nothing else.

        Raises:
            UsageError: The samples are not split for certifying.
        """
        if self.split is None or self.split.certify is None:
            raise UsageError("what a file loses at most takes --samples, split for --max-drop.")
        return self.split.certify
