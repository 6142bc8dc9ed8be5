"""What a smaller model changes on synthetic inputs: all there is to see without samples.

It is no data, and what it says of real inputs is little. So it is looked at on several kinds and
scales of inputs, and where the original's own outputs are the same for all of them, or nothing at
all changes though blocks did, no figure is given.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np

from onnx_relusv.errors import InputError
from onnx_relusv.feeds import Feeds
from onnx_relusv.graph.normalisation import normalisation
from onnx_relusv.graph.value_lengths import value_lengths
from onnx_relusv.graph.view import view
from onnx_relusv.opened import Opened
from onnx_relusv.outcomes import FeedChange, Latency
from onnx_relusv.output_change import OutputChange
from onnx_relusv.output_differences import OutputDifference
from onnx_relusv.output_values import output_value
from onnx_relusv.progress import Progress
from onnx_relusv.results import Assessment, Evaluation
from onnx_relusv.runtime.latency import brief_latency
from onnx_relusv.runtime.session import Session
from onnx_relusv.varied_feeds import Drawing, VariedFeed, repeatable, varied_feeds

# Samples in a feed, where the model's batch is open.
_REPEATS = 4
# Seconds after which two feeds are enough.
_LONG, _ENOUGH = 30.0, 2
_CONSTANT = "constant: the original's output is the same for all of these inputs"
_UNCHANGED = "exactly the same, though blocks changed: these inputs tell nothing of them"
_NOTHING = "no numbers: the original gives no finite ones on any of these inputs"

Ran = Mapping[str, Any]


def synthetic_assessment(
    opened: Opened,
    before: Session,
    after: Session,
    input_range: tuple[float, float] | None,
    timed: Latency | None,
    progress: Progress,
    *,
    changes: bool,
) -> tuple[Assessment, tuple[str, ...]]:
    """Puts both models side by side on several synthetic feeds.

    Args:
        opened: The original.
        before: The same, open.
        after: The smaller model.
        input_range: What was declared of the inputs, or None.
        timed: What both models take, where that was measured.
        progress: Told when it is done.
        changes: Whether a block is not what it was, beyond rounding.

    Returns:
        What it costs, not yet in words, and warnings.
    """
    run = _Run(opened, before, after, changes=changes)
    with progress.stage("Assessment on synthetic inputs", 1) as advance:
        run.all(_feeds(opened, before, input_range))
        advance(1)
    if timed is None:
        seconds = brief_latency(before, after, dict(opened.example))
        timed = Latency(batch=opened.example_batch, before=seconds[0], after=seconds[1])
    found = Assessment(
        part="synthetic",
        evaluation=Evaluation(
            samples=sum(feed.samples for feed in run.feeds),
            agreement=None,
            accuracy_before=None,
            accuracy_after=None,
            outputs=tuple(run.worst.values()),
            latencies=(),
            provider=before.provider,
        ),
        feeds=tuple(run.feeds),
        withheld=run.withheld(),
        latency=timed,
    )
    return found, _warnings(found)


class _Run:
    """Both models on synthetic feeds.

    Attributes:
        feeds: How far outputs changed on each.
        worst: By output, the change on the feed on which it changes most.
    """

    def __init__(self, opened: Opened, before: Session, after: Session, *, changes: bool) -> None:
        self.feeds: list[FeedChange] = []
        self.worst: dict[str, OutputChange] = {}
        self._after, self._changes = after, changes
        self._names = opened.model.output_names
        self._lists = value_lengths(opened.model)
        self._together = self._differences()

    def _differences(self) -> dict[str, OutputDifference]:
        return {name: OutputDifference(name, self._lists.get(name)) for name in self._names}

    def all(self, feeds: Iterator[tuple[VariedFeed, Ran]]) -> None:
        """Takes feeds with what the original gives for them, for as long as that does not take."""
        begun = perf_counter()
        for feed, first in feeds:
            second, alone = self._after.run(feed.feeds, self._names), self._differences()
            for name in self._names:
                values = output_value(first[name]), output_value(second[name])
                for difference in (alone[name], self._together[name]):
                    difference.add(*values, feed.samples)
            changes = {name: difference.change() for name, difference in alone.items()}
            for name, one in changes.items():
                if name not in self.worst or one.change > self.worst[name].change:
                    self.worst[name] = one
            most = max((one.change for one in changes.values()), default=0.0) or None
            if most is None and not self._changes:
                most = 0.0
            self.feeds.append(FeedChange(inputs=feed.words, samples=feed.samples, change=most))
            if len(self.feeds) >= _ENOUGH and perf_counter() - begun > _LONG:
                break

    def withheld(self) -> dict[str, str]:
        """The outputs whose change tells nothing, with the reason."""
        if not self.feeds:
            return dict.fromkeys(self._names, _NOTHING)
        found = {}
        for name, one in self.worst.items():
            if not self._together[name].change().varies:
                found[name] = _CONSTANT
            elif self._changes and one.change == 0:
                found[name] = _UNCHANGED
        return found


def _warnings(found: Assessment) -> tuple[str, ...]:
    reasons = set(found.withheld.values())
    if not reasons:
        return ()
    names, count = ", ".join(found.withheld), len(found.feeds)
    if found.change is None:
        why = {
            _CONSTANT: f"the outputs are constant on all {count} kinds of them that were tried",
            _UNCHANGED: "the outputs are exactly the same on them, though blocks changed",
            _NOTHING: "on none of those that were tried are the outputs finite numbers",
        }
        said = "; ".join(text for reason, text in why.items() if reason in reasons)
        return (
            f"Random inputs tell nothing here: {said}. How far the result is from the original "
            "is not known: give --samples.",
        )
    return (
        f"Random inputs tell nothing of {names}, which is constant or exactly the same on all "
        f"{count} kinds of them that were tried: how far it changes is not known. Give --samples.",
    )


def _feeds(
    opened: Opened,
    before: Session,
    input_range: tuple[float, float] | None,
) -> Iterator[tuple[VariedFeed, Ran]]:
    """Feeds with what the original gives for them, finite numbers."""
    model, seen = opened.model, view(opened.model)
    normalised = {spec.name: normalisation(model, seen, spec.name) for spec in model.inputs}
    ran: list[Ran] = []

    def runs(feeds: Feeds) -> bool:
        try:
            ran[:] = [before.run(feeds, model.output_names)]
        except InputError:
            return False
        return all(map(_is_finite, ran[0].values()))

    several = Drawing(
        inputs=model.inputs,
        example=opened.example,
        normalisations=normalised,
        input_range=input_range,
        seed=opened.options.seed,
        repeats=_REPEATS if repeatable(model.inputs) else 1,
    )
    # What is declared to take any number of samples may take one alone.
    for drawing in (several, replace(several, repeats=1)):
        found = False
        for feed in varied_feeds(drawing, runs):
            found = True
            yield feed, ran[0]
        if found:
            return


def _is_finite(found: object) -> bool:
    arrays = output_value(found).arrays
    return all(
        bool(np.isfinite(array.astype(np.float64)).all())
        for array in arrays
        if array.dtype.kind in "fV"
    )
