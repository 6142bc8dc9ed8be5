"""The exceptions of the package; each carries the exit code that the command line returns.

Where the bytes of a model lie: which of them blocks hold, and why the others stay.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class CoverageRow:
    """Constants of one kind of operator that share a fate.

    Attributes:
        operator: What reads them, with its domain where that is not the default one.
        covered: Whether they lie in blocks that may be made smaller.
        reason: Why they stay; what they are where they do not.
        advice: What the user can do about it; empty where there is nothing.
        count: How many operators read them.
        bytes: That their numbers take in the file.
        examples: Some of what these operators write.
    """

    operator: str
    covered: bool
    reason: str
    advice: str
    count: int
    bytes: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """All bytes of a model.

    Attributes:
        rows: Of constants: those in blocks first, then the others, the most bytes first.
        total_bytes: Of the file and its external data.
    """

    rows: tuple[CoverageRow, ...]
    total_bytes: int

    @property
    def covered_bytes(self) -> int:
        """Of constants in blocks that may be made smaller."""
        return sum(row.bytes for row in self.rows if row.covered)

    @property
    def other_bytes(self) -> int:
        """Nodes, names, descriptions: what no constant's numbers take."""
        return max(0, self.total_bytes - sum(row.bytes for row in self.rows))


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


class WorkersLostError(ReluSvError):
    """Processes that ran tasks are gone; what they had done lies in the cache."""


class LimitExceededError(ReluSvError):
    """Two models differ by more than a limit that was set for them; the report is written."""

    exit_code = 6
