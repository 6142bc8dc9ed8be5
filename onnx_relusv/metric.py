"""A measure of a model's answers that the user brings, in place of top-1; higher is better."""

import math
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

import numpy as np

from onnx_relusv.errors import InputError

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
            found = self.function(outputs, given)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # somebody else's code may raise anything, or exit
            raise InputError(
                f"--metric {self.name}: {what_went_wrong(error, self.path)}"
            ) from error
        if not isinstance(found, Real):
            raise InputError(
                f"--metric {self.name}: it returned {type(found).__name__}; let it return a float."
            )
        if not math.isfinite(found):
            raise InputError(
                f"--metric {self.name}: it returned {float(found)} for {len(outputs[0])} samples; "
                "let it return a finite number for any outputs."
            )
        return float(found)


def what_went_wrong(error: BaseException, path: Path | None) -> str:
    """An error of somebody else's code in one line: where it was raised, its type and its text.

    Args:
        error: As it was caught.
        path: The file whose line is of interest; if it is not on the way, the last line is.
    """
    # The first one is ours, which called.
    frames = list(traceback.extract_tb(error.__traceback__))[1:]
    own = [frame for frame in frames if path is not None and frame.filename == str(path)]
    place = (own or frames)[-1:]
    where = "".join(f"line {frame.lineno} of {frame.filename}: " for frame in place)
    return f"{where}{type(error).__name__}: {error}"
