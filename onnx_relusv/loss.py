"""What every way to count a loss on held-out samples has to say."""

from typing import Protocol


class Loss(Protocol):
    """What a smaller model was seen to lose on samples.

    Answers are counted (`certify`), which gives exact bounds of a share; a metric is resampled
    (`jackknife`), which gives estimates in the metric's own units.
    """

    @property
    def samples(self) -> int:
        """How many were looked at."""
        ...

    @property
    def drop(self) -> float:
        """The loss on these samples."""
        ...

    def bound(self, error: float) -> float:
        """An upper bound of the loss on samples like these, that may fail with some probability."""
        ...

    def expected(self, samples: int) -> "Loss":
        """What to expect of so many other samples; a guess."""
        ...
