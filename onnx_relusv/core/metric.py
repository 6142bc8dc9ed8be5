"""A measure of answers that the user brings, in place of top-1; and what may be lost at most."""

import math
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from onnx_relusv.core.arguments import Option, Options, as_optional_path, check_type, put
from onnx_relusv.core.codec import Limits
from onnx_relusv.core.errors import InputError

# Told all outputs of a model, in the graph's order, each (samples, ...), and the labels.
MetricFunction = Callable[[list[np.ndarray], np.ndarray | None], float]


@dataclass(frozen=True, eq=False)
class Metric:
    """What a model's answers to samples are worth.

    Attributes:
        name: What reports call it.
        function: Told a model's outputs and the labels, or None without; arrays are read-only.
        path: The file that it comes from, which no output may overwrite; None where there is none.
    """

    name: str
    function: MetricFunction
    path: Path | None = None

    def __post_init__(self) -> None:
        check_type("name", self.name, str, "a text")
        if not callable(self.function):
            raise TypeError(f"function is {type(self.function).__name__}: give a function.")
        put(self, "path", as_optional_path("path", self.path))

    @property
    def option(self) -> str:
        """The metric as the command line takes it; its name where it comes from no file."""
        function = self.name.rpartition(":")[2]
        return self.name if self.path is None else f"{self.path.absolute()}:{function}"

    def value(self, outputs: list[np.ndarray], labels: np.ndarray | None) -> float:
        """The metric of some samples.

        Args:
            outputs: All outputs of a model in the graph's order, (samples, ...) each.
            labels: (samples, ...), or None.

        Raises:
            InputError: The function raises something, or returns no finite number.
        """
        given = None
        if labels is not None:
            given = labels.view()
            given.flags.writeable = False
        try:
            with apart():
                found = self.function(list(outputs), given)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the user's code may raise anything, or exit
            raise InputError(
                f"--metric {self.name}: {what_went_wrong(error, self.path)}"
            ) from error
        value = _number(found)
        if value is None:
            raise InputError(
                f"--metric {self.name}: it returned {_kind(found)}; let it return a float."
            )
        if not math.isfinite(value):
            raise InputError(
                f"--metric {self.name}: it returned {value} for {len(outputs[0])} samples; "
                "let it return a finite number for any outputs."
            )
        return value


def _number(found: object) -> float | None:
    """What a metric returned as a float; None where it is no single real number."""
    if isinstance(found, np.ndarray) and found.ndim == 0:
        found = found[()]
    # True and False are numbers to Python, and numpy's are not.
    if not isinstance(found, Real | np.bool_):
        return None
    try:
        return float(found)
    except OverflowError:  # whole numbers of Python have no end
        return math.inf


def _kind(found: object) -> str:
    if isinstance(found, np.ndarray):
        return f"an array of shape {found.shape}"
    return "None" if found is None else type(found).__name__


@contextmanager
def apart() -> Iterator[None]:
    """Runs the user's code so that what it sets for the whole process is set back.

    That are the working folder, from which relative paths of outputs start, numpy's handling of
    errors, and filters of warnings. What it prints goes to standard error: standard output may be
    a report.
    """
    folder = None
    with suppress(OSError):  # it may be gone
        folder = os.getcwd()
    try:
        with redirect_stdout(sys.stderr), np.errstate(), warnings.catch_warnings():
            yield
    finally:
        if folder is not None:
            with suppress(OSError):
                os.chdir(folder)


def what_went_wrong(error: BaseException, path: Path | None) -> str:
    """An error of the user's code in one line: where it was raised, its type and its text.

    Args:
        error: As it was caught.
        path: The file whose line is of interest; if it is not on the way, the last line is.
    """
    try:
        text = " ".join(str(error).split())
    except Exception:  # their own errors may have no text
        text = ""
    if isinstance(error, SyntaxError) and error.filename is not None:
        place = f"line {error.lineno} of {error.filename}" if error.lineno else error.filename
        return f"{place}: {type(error).__name__}: {error.msg}"
    # The first one is ours, which called.
    frames = list(traceback.extract_tb(error.__traceback__))[1:]
    own = [frame for frame in frames if path is not None and frame.filename == str(path)]
    where = "".join(f"line {frame.lineno} of {frame.filename}: " for frame in (own or frames)[-1:])
    return f"{where}{type(error).__name__}: {text}" if text else f"{where}{type(error).__name__}"


@dataclass(frozen=True, kw_only=True)
class MetricChange:
    """A metric of two models on the same samples.

    Attributes:
        name: The metric's.
        samples: How many.
        part: Which: all, those for choosing, on which factors, forms and ranks were chosen too,
            or those for certifying and those of a test file, which nothing was fitted to or
            chosen on.
        before: The first model's; higher is better.
        after: The second's.
    """

    name: str
    samples: int
    part: Literal["all", "choosing", "certifying", "test"]
    before: float
    after: float

    @property
    def loss(self) -> float:
        """What is lost, in the metric's units; negative where something is gained."""
        return self.before - self.after


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A size that the search for the smallest file tried; losses are as in `LossBound`.

    Attributes:
        size: Planned share of the original's bytes, an upper bound.
        select_drop: What it loses on the selection set.
        bound: Upper bound of the loss from the certification set; None where it was not evaluated.
    """

    size: float
    select_drop: float
    bound: float | None = None


@dataclass(frozen=True, kw_only=True)
class LossBound:
    """How much the written file loses at most, on samples like these: certified, or estimated.

    Without a metric answers are counted, and losses are in points of accuracy or, without labels,
    of answers that change, unless these count by the original's probabilities. Certified, over all
    the trials that were evaluated, is that the file loses `max_drop` points at most, with a
    probability of `confidence` at least; not that it loses `bound` at most, which is that only
    where no more than one trial was evaluated.

    With a metric losses are in its units, and nothing is certified: the bound is a quantile of a
    jackknife's Student distribution, near enough for many samples and smooth metrics, and proved
    for none.

    Attributes:
        exact: Whether it is certified, and not an estimate.
        max_drop: What may be lost.
        confidence: The probability with which the bound holds: at least where it is exact, near
            enough otherwise.
        fit_samples: How many samples factors were fitted to.
        select_samples: How many are in the selection set, which sizes were chosen on.
        certify_samples: How many are in the certification set, which the bound rests on; nothing
            was fitted to them or chosen on them.
        presumed: Whether losses are points of accuracy by the original's probabilities of the
            classes. The bound is certified for these; that they are right on average where answers
            change, or too far apart, is presumed.
        lost: Where exact, how many of these the original alone has right; without labels, how many
            answers differ.
        gained: Where exact, how many of these the smaller model alone has right; None without
            labels.
        metric: Where not exact, the metric before and after on these.
        groups: Where not exact, how many groups these were put into.
        standard_error: Where not exact, that of the loss on these; estimated.
        drop: The loss on these.
        bound: Upper bound of the loss, at most `max_drop`.
        select_drop: The loss on the selection set.
        trials: What was tried, the largest first.
    """

    exact: bool
    max_drop: float
    confidence: float
    fit_samples: int
    select_samples: int
    certify_samples: int
    presumed: bool = False
    lost: int | None = None
    gained: int | None = None
    metric: MetricChange | None = None
    groups: int | None = None
    standard_error: float | None = None
    drop: float
    bound: float
    select_drop: float
    trials: tuple[Trial, ...]

    @property
    def labelled(self) -> bool:
        """Whether accuracy was counted, by labels."""
        return self.gained is not None

    @property
    def of_accuracy(self) -> bool:
        """Whether points are of accuracy, and not of answers that change."""
        return self.labelled or self.presumed


@dataclass(frozen=True, kw_only=True)
class ComparisonLimits(Options):
    """What a comparison has to keep; None where there is no limit."""

    agreement: Annotated[
        Annotated[float, Limits(least=0, most=1)] | None,
        Option(
            "End with exit code 6 if less than this share of the answers is equal, from 0 to 1.",
            name="fail-below-agreement",
            metavar="SHARE",
        ),
    ] = None
    change: Annotated[
        Annotated[float, Limits(least=0, most=sys.float_info.max)] | None,
        Option(
            "End with exit code 6 if an output changes by more: of numbers the relative L2 error, "
            "of labels and text the share that differs. A NaN or a new infinity is more than any "
            "X.",
            name="fail-above-change",
            metavar="X",
        ),
    ] = None
    drop: Annotated[
        Annotated[float, Limits(least=0, most=sys.float_info.max)] | None,
        Option(
            "End with exit code 6 if more points of accuracy are lost; needs `labels`. With "
            "--metric in the metric's own units.",
            name="fail-above-drop",
            metavar="POINTS",
        ),
    ] = None
