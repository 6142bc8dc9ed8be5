"""How much time a command has left: an estimate from its first stage on.

Every command goes through known stages, whose shares of its time were measured on two bundled
models. What is done of these shares, and how long that took, says how long the rest will take. The
shares of other models are others, so the estimate is rough, is said roughly, and gets better as
stages end.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onnx_relusv.core.options import PlanOptions
from onnx_relusv.core.sweeps import SweepOptions

# Shares of the time of `compress` with samples, in hundredths: means of what was measured on
# fashion_vgg and lenet_300_100 at a quarter of their bytes.
_MEASURING = {"Moments of the blocks' inputs": 4.5, "Spectra of the blocks": 9.5}
_PROBING = {
    "Order of the units": 10.0,
    "Damage of the groups' cuts": 4.0,
    "Damage of the blocks' forms": 7.0,
}
_FITTING = {"Fit": 58.0, "Damage of all changes together": 3.0}
_WRITING = {"Validation": 2.0, "Assessment": 1.5}
# The rest was not measured, and is guessed. In the place of the fit, several sizes are fitted, and
# some of them certified.
_SEARCHING = {"Search for the smallest file": 150.0, "Certification": 30.0}
_TIMING = {"Latency of variants": 30.0}
_WITHOUT_SAMPLES = {
    **_MEASURING,
    "Fit": 3.0,
    "Validation": 2.0,
    "Assessment on synthetic inputs": 2.0,
}
# What one point of a sweep takes, of the same unit; guessed too.
_POINT = 65.0


def expected(command: str, arguments: Mapping[str, Any]) -> dict[str, float]:
    """The stages that a command is expected to go through, in their order, with their shares.

    Args:
        command: Its name; of a dry run ``dry-run``.
        arguments: Of its function, by name.
    """
    if command == "inspect":
        return dict(_MEASURING)
    if command == "compare":
        return {"Comparison": 1.0}
    if command == "trace":
        return {"Activated operators of the inputs": 1.0}
    if command == "measure-latency":
        return dict(_TIMING)
    if command == "sweep":
        sweeping: SweepOptions = arguments["sweeping"]
        points = len(sweeping.sizes) * len(sweeping.methods)
        return {**_MEASURING, **_PROBING, "Sweep": _POINT * points}
    if arguments.get("samples") is None:
        return dict(_WITHOUT_SAMPLES)
    if command == "apply":
        return {**_MEASURING, "Fit": _FITTING["Fit"], **_WRITING}
    planning: PlanOptions = arguments["planning"]
    timing = {} if planning.budgets.latency is None else _TIMING
    fitting = _FITTING if planning.budgets.max_drop is None else _SEARCHING
    writing = _WRITING if command == "compress" else {}
    return {**_MEASURING, **timing, **_PROBING, **fitting, **writing}


# Steps that are done so soon after a stage began were known before: they took no time.
_KNOWN = 0.2
# Below this share of all work the pace says nothing yet.
_LEAST = 0.02
# Seconds that a pace is taken from at least.
_BRIEF = 2.0


@dataclass
class _Part:
    """A stage with its share of the work.

    Attributes:
        share: Of the work.
        total: Its steps.
        begun: When it began; None where it has not.
        known: Steps that took no time.
        done: Steps that are done, with these.
        ended: Whether it is over.
    """

    share: float
    total: int = 0
    begun: float | None = None
    known: int = 0
    done: int = 0
    ended: bool = False

    @property
    def work(self) -> float:
        """What there is to do in it."""
        return self.share * (1 - self.known / self.total if self.total else 1.0)

    @property
    def finished(self) -> float:
        """What of it is done."""
        if self.ended:
            return self.work
        return self.share * (self.done - self.known) / self.total if self.total else 0.0


@dataclass
class TimeLeft:
    """The time left of a command.

    Attributes:
        shares: Of its stages, in their order.
    """

    shares: Mapping[str, float]
    _parts: dict[str, _Part] = field(init=False)
    _spent: float = field(init=False, default=0.0)
    _since: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._parts = {name: _Part(share) for name, share in self.shares.items()}

    def begin(self, name: str, total: int, now: float) -> None:
        """A stage begins: those before it that did not come will not come any more."""
        if self._since is None:
            self._since = now
        if name not in self._parts or self._parts[name].begun is not None:
            return
        for other, part in self._parts.items():
            if other == name:
                break
            if part.begun is None:
                part.share = 0.0
        part = self._parts[name]
        part.begun, part.total = now, total

    def advance(self, name: str, steps: int, now: float) -> None:
        """Steps of a stage are done."""
        part = self._parts.get(name)
        if part is None or part.begun is None or part.ended:
            return
        if now - part.begun < _KNOWN and not part.done:
            part.known = min(steps, part.total)
        part.done = min(part.done + steps, part.total)

    def end(self, name: str) -> None:
        """A stage is over."""
        if name in self._parts:
            self._parts[name].ended = True

    def left(self, now: float) -> float | None:
        """Seconds, estimated; None where nothing can be said yet."""
        if self._since is None or now - self._since < _BRIEF:
            return None
        done = sum(part.finished for part in self._parts.values())
        work = sum(part.work for part in self._parts.values())
        if not work or done < _LEAST * work:
            return None
        return (now - self._since) * (work - done) / done


def words(seconds: float | None) -> str:
    """A time left, as roughly as it is known."""
    if seconds is None:
        return ""
    if seconds < 20:
        return "less than half a minute left"
    if seconds < 45:
        return "about half a minute left"
    minutes = round(seconds / 60)
    if minutes < 1.5:
        return "about a minute left"
    if minutes < 20:
        return f"about {minutes} min left"
    if minutes < 90:
        return f"about {5 * round(minutes / 5)} min left"
    return f"about {round(minutes / 60)} h left"
