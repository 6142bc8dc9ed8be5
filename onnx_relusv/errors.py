"""The exceptions of the package; each carries the exit code that the command line returns."""

from onnx_relusv.coverage_records import Coverage


class ReluSvError(Exception):
    """Base of all errors that the package raises on purpose."""

    exit_code = 1


class UsageError(ReluSvError):
    """A setting is out of range, or an output exists already or cannot be written."""

    exit_code = 2


class InputError(ReluSvError):
    """A model, a plan or samples cannot be read, or do not fit together."""

    exit_code = 3


class BudgetError(ReluSvError):
    """The budget cannot be reached; the message says how far it got.

    Attributes:
        coverage: Where the model's bytes lie; None where that does not explain it.
    """

    exit_code = 4

    def __init__(self, message: str, coverage: Coverage | None = None) -> None:
        super().__init__(message)
        self.coverage = coverage


class ValidationError(ReluSvError):
    """The smaller model failed a check, so it was not written."""

    exit_code = 5


class MissingRuntimeError(ReluSvError):
    """Neither onnxruntime nor onnxruntime-gpu is installed."""


class LimitExceededError(ReluSvError):
    """Two models differ by more than a limit that was set for them; the report is written."""

    exit_code = 6
