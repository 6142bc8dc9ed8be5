"""The checks of a written file that take runs: both levels of optimisation, and the reference.

What is compared are float tensors: the outputs, or those that decide them, and every block's
answer. Where a graph makes steps of numbers, an ArgMax or a NonZero, rounding may carry one of them
over; behind it the reference is given the file's own steps, and these, and outputs that are no
float tensors, are made anew from the file's float tensors by the original's nodes: they have to be
the same.

How large an error may be is measured. The reference is run a second time with every weight moved
by one rounding of its type, and what a Sigmoid or a Softmax squashes by its resolution; where that
explains too little, more such runs follow, since one alone may move a tensor less than usual.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from onnx_relusv.core.blocks import LinearMap, Runnable
from onnx_relusv.core.errors import InputError, ValidationError
from onnx_relusv.core.results import Check
from onnx_relusv.graph.channels.operators import squashed
from onnx_relusv.graph.deciding import (
    Steps,
    shape_known,
    steps_behind,
    with_moved_answers,
)
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.reference import runnable, with_dense
from onnx_relusv.graph.segments import segment
from onnx_relusv.measuring.answers import deciding_outputs
from onnx_relusv.rewrites.apply import Claim
from onnx_relusv.rewrites.low_rank.factors import MovedMaps
from onnx_relusv.runtime.differences import (
    change_of,
    gap_between,
    norm_of,
    rounding_of,
    same_answers,
)
from onnx_relusv.runtime.session import Session, Turn

# The reference is compared with itself under weights perturbed by one rounding; the rewritten file
# sums in another order and rounds its inner channels once more, which is a few such roundings.
ROUNDINGS = 32.0
# Optimisation levels fuse and reorder; the original's own difference is the yardstick.
LEVEL_ROUNDINGS = 16.0
# Further runs of the reference with moved weights, where the first explains too little.
_FURTHER_DRAWS = 7
# Where they would have to explain so many times as much, none of them will.
_FAR = 100.0
# Of what a Sigmoid or a Softmax gives in float16 too: it is computed in float32.
_RESOLUTION = float(np.finfo(np.float32).eps)

Feeds = Mapping[str, np.ndarray]
Opened = Session | Turn
Values = dict[str, Any]


@dataclass(frozen=True, eq=False)
class RunChecks:
    """A file that is checked by running it; made by `run_checks`.

    Attributes:
        original: The original.
        written: The file.
        staged: Where it lies.
        claim: What it claims to be.
        provider: The execution provider.
        rng: Moves weights.
        feeds: What everything is run on.
        deciding: The outputs, or the float tensors that decide them.
        squashed: Those of them that are squashed into a range, and what of.
        steps: The steps that are given to the reference.
        lean: Whether weights are so large that sessions take turns, and read them where they lie.
    """

    original: Model
    written: Model
    staged: Path
    claim: Claim
    provider: str
    rng: np.random.Generator
    feeds: Sequence[Feeds]
    deciding: tuple[str, ...]
    squashed: Mapping[str, str]
    steps: Steps
    lean: bool = False

    def levels(self) -> Iterator[Check]:
        """Whether optimisation changes the file by no more than rounding, and runs repeat.

        Raises:
            ValidationError: It does, or they do not.
        """
        files = [self._session(self.staged, optimized=level) for level in (False, True)]
        pairs = _LevelPair(self, self.written, files), _LevelPair(self, self.original, None)
        largest = 0.0
        for number, feed in enumerate(self.feeds):
            plain, optimised, again = (session.run(feed) for session in (*files, files[1]))
            if any(not same_answers(optimised[name], again[name]) for name in optimised):
                raise ValidationError("two runs of the result on the same input differ.")
            (plain, optimised), (old_plain, old_optimised) = (
                pair.run(feed, known)
                for pair, known in zip(pairs, ((plain, optimised), None), strict=True)
            )
            for name in self.deciding:
                value, old = plain[name], old_plain[name]
                gap, size = gap_between(optimised[name], value), norm_of(value) or 1.0
                own = gap_between(old_optimised[name], old) / (norm_of(old) or 1.0)
                # Of outputs that are smaller than the original's, less than before is left beside
                # which rounding is small.
                beside = max(size, norm_of(old))
                base = (own + rounding_of(value)) * beside + self._resolution(name, value)
                allowed = LEVEL_ROUNDINGS * base
                if not gap <= allowed:
                    enough = (gap - allowed) / LEVEL_ROUNDINGS
                    allowed += LEVEL_ROUNDINGS * self._noise.most(number, name, enough)
                largest = max(largest, gap / beside)
                if not gap <= allowed:
                    raise ValidationError(
                        f"output {name} changes by {gap / size:.2g} when onnxruntime optimises the "
                        f"result; {allowed / size:.2g} is allowed."
                    )
        detail = f"opens; optimisation changes the outputs by {largest:.2g} at most"
        yield Check("onnxruntime", detail)
        yield Check("repeatable", "repeated runs are identical")

    def reference(self, *, first_alone: bool) -> tuple[Check, dict[str, float]]:
        """Whether the file equals the reference, and how far its outputs are from the original's.

        Args:
            first_alone: Whether only the first feed tells how far the outputs are, and the others
                are no data.

        Raises:
            ValidationError: They differ by more than rounding explains.
        """
        before = self._session(runnable(self.original, exposed=self.deciding))
        noise, largest = self._noise, 0.0
        errors = dict.fromkeys(self.deciding, 0.0)
        replay = _Replay(self)
        for number, feed in enumerate(self.feeds):
            result, exact = noise.result(number), noise.exact(number)
            for name in noise.names:
                gap, size = gap_between(result[name], exact[name]), norm_of(exact[name]) or 1.0
                base = rounding_of(exact[name]) * size + self._resolution(name, exact[name])
                allowed = ROUNDINGS * (base + noise.first(number, name))
                if not gap <= allowed:
                    allowed = ROUNDINGS * (base + noise.most(number, name, gap / ROUNDINGS - base))
                largest = max(largest, gap / size)
                if not gap <= allowed:
                    raise ValidationError(
                        f"{name} differs from the reference by {gap / size:.2g}; "
                        f"rounding explains {allowed / size:.2g}."
                    )
            replay.check(feed, result)
            if number == 0 or not first_alone:
                old = before.run(feed, self.deciding) if self.deciding else {}
                for name in errors:
                    errors[name] = max(
                        errors[name], change_of(noise.whole(number, name), old[name])
                    )
        detail = (
            f"differs from the reference by {largest:.2g} at most, at {len(noise.names)} tensors"
        )
        return Check("reference", detail), errors

    @cached_property
    def _noise(self) -> "_Noise":
        return _Noise(self)

    def _resolution(self, name: str, value: np.ndarray) -> float:
        """The L2 norm of as many resolutions as a squashed output has entries."""
        return _RESOLUTION * float(np.sqrt(value.size)) if name in self.squashed else 0.0

    def _session(self, source: Runnable | Path, *, optimized: bool = False) -> Opened:
        if self.lean:
            return Turn(source, self.provider, optimized=optimized)
        return Session(source, self.provider, optimized=optimized, alone=False)


def run_checks(
    original: Model,
    staged: Path,
    written: Model,
    claim: Claim,
    feeds: Sequence[Feeds],
    *,
    provider: str,
    rng: np.random.Generator,
    lean: bool = False,
) -> RunChecks:
    """Looks what of a file is to be compared.

    Raises:
        InputError: onnxruntime cannot open the original.
    """
    session = Session(runnable(original), provider, optimized=False, packed=not lean, alone=False)
    deciding = deciding_outputs(original, session)
    steps = steps_behind(original, claim.blocks)
    if claim.cut is not None and not claim.cut.whole((*steps.tensors, *steps.deciders)):
        # What is left of them has another length than in the reference.
        steps = Steps((), ())
    deciding = tuple(name for name in deciding if name not in steps.tensors)
    return RunChecks(
        original=original,
        written=written,
        staged=staged,
        claim=claim,
        provider=provider,
        rng=rng,
        feeds=feeds,
        deciding=deciding,
        squashed=squashed(original.proto, deciding),
        steps=steps,
        lean=lean,
    )


class _LevelPair:
    """A model without and with optimisation, both with the same steps."""

    def __init__(self, checks: RunChecks, model: Model, files: Sequence[Opened] | None) -> None:
        self._checks, self._model = checks, model
        self._plain = checks.deciding == model.output_names and not checks.steps.tensors
        if self._plain:
            self._levels = (
                list(files)
                if files is not None
                else [checks._session(model.path, optimized=level) for level in (False, True)]
            )
            return
        names = (*checks.deciding, *checks.steps.tensors)
        self._source = checks._session(runnable(model, exposed=names))
        self._levels = []

    def run(self, feed: Feeds, known: tuple[Values, Values] | None) -> tuple[Values, Values]:
        """What decides the outputs, without and with optimisation."""
        if self._plain:
            if known is not None:
                return known
            return self._levels[0].run(feed), self._levels[1].run(feed)
        checks = self._checks
        if not checks.deciding:
            return {}, {}
        names = (*checks.deciding, *checks.steps.tensors)
        reads = {**feed}
        if checks.steps.tensors:
            found = self._source.run(feed, names)
            reads |= {name: found[name] for name in checks.steps.tensors}
        if not self._levels:
            part = _given(self._model, reads, checks.deciding, bool(checks.steps.tensors))
            self._levels = [checks._session(part, optimized=level) for level in (False, True)]
        return _run(self._levels[0], reads, checks.deciding), _run(
            self._levels[1], reads, checks.deciding
        )


def _given(model: Model, reads: Values, names: Sequence[str], forced: bool) -> Runnable:
    if not forced:
        return runnable(model, exposed=names)
    return segment(model, model.proto, reads, names)


def _run(session: Opened, values: Mapping[str, Any], names: Sequence[str]) -> Values:
    if not names:
        return {}
    taken = {name: values[name] for name in session.input_names}
    return session.run(taken, list(names))


class _Noise:
    """The file beside the reference, and the reference beside itself with weights moved."""

    def __init__(self, checks: RunChecks) -> None:
        self._checks = checks
        claim = checks.claim
        self._base, self._arrays = checks.original, dict[str, np.ndarray]()
        if claim.cut is not None:
            self._base, self._arrays = claim.cut.reference(checks.original)
        keys = [block.key for block in claim.blocks]
        inner = (*checks.squashed.values(), *checks.steps.deciders)
        made = {name for node in checks.original.proto.graph.node for name in node.output}
        # Blocks first, in their order, so that a failure names the first tensor that is wrong.
        wanted = dict.fromkeys((*keys, *inner, *checks.deciding))
        self.names = [name for name in wanted if name in made and name not in checks.steps.tensors]
        self._result: Opened | None = None
        self._sessions: dict[str, Opened] = {}
        self._found: dict[int, tuple[Values, Values, Values]] = {}
        self._noise: dict[tuple[int, str], float] = {}
        self._drawn: dict[int, int] = {}

    def result(self, number: int) -> Values:
        """The file's tensors for a feed, and its steps."""
        return self._of(number)[0]

    def exact(self, number: int) -> Values:
        """The reference's tensors, of which what is cut is left out."""
        return self._of(number)[1]

    def whole(self, number: int, name: str) -> np.ndarray:
        """The file's tensor, or where some of it is cut the reference's."""
        result, _, reference = self._of(number)
        cut = self._checks.claim.cut
        return np.asarray(result[name] if cut is None or cut.whole((name,)) else reference[name])

    def first(self, number: int, name: str) -> float:
        """L2 of what one move of all weights does to a tensor."""
        self._of(number)
        if number not in self._drawn:
            self._draw(number, "rounded")
        return self._noise[number, name]

    def most(self, number: int, name: str, enough: float) -> float:
        """The most that several such moves do; fewer are made where they do enough."""
        found = self.first(number, name)
        while found < enough <= _FAR * found and self._drawn[number] <= _FURTHER_DRAWS:
            self._draw(number, None)
            found = self._noise[number, name]
        return found

    def _of(self, number: int) -> tuple[Values, Values, Values]:
        if number in self._found:
            return self._found[number]
        checks = self._checks
        feed = checks.feeds[number]
        if self._result is None:
            exposed = (*self.names, *checks.steps.tensors)
            self._result = checks._session(runnable(checks.written, exposed=exposed))
        names = [*dict.fromkeys((*self.names, *checks.steps.tensors, *checks.written.output_names))]
        result = self._result.run(feed, names)
        reads = {**feed, **{name: result[name] for name in checks.steps.tensors}}
        if "exact" not in self._sessions:
            self._sessions["exact"] = self._opened(checks.claim.dense, reads, moved=False)
        whole = _run(self._sessions["exact"], reads, self.names)
        # One feed's tensors at a time: they may be large.
        self._found = {number: (result, self._left(whole), whole)}
        return self._found[number]

    def _draw(self, number: int, kept: str | None) -> None:
        checks = self._checks
        result, exact, _ = self._of(number)
        reads = {**checks.feeds[number], **{one: result[one] for one in checks.steps.tensors}}
        session = None if kept is None else self._sessions.get(kept)
        if session is None:
            moved = MovedMaps(checks.claim.blocks, checks.claim.dense, checks.rng)
            session = self._opened(moved, reads, moved=True)
            if kept is not None:
                self._sessions[kept] = session
        rounded = self._left(_run(session, reads, self.names))
        for name in self.names:
            gap = gap_between(rounded[name], exact[name])
            place = number, name
            self._noise[place] = max(self._noise.get(place, 0.0), gap)
        self._drawn[number] = self._drawn.get(number, 0) + 1

    def _opened(self, dense: Mapping[str, LinearMap], reads: Values, *, moved: bool) -> Opened:
        checks = self._checks
        lean = checks.lean
        proto, own = with_dense(self._base, checks.claim.blocks, dense, mapped=lean)
        arrays = {**self._arrays, **own}
        kinds = {block.element_type for block in checks.claim.blocks}
        protos = [proto]
        if moved and len(kinds) == 1:
            protos.insert(0, with_moved_answers(proto, *kinds))
        for one in protos[:-1]:
            try:
                return self._part(one, reads, arrays)
            except InputError:
                continue  # some of what is squashed is of another type
        return self._part(proto, reads, arrays)

    def _part(self, proto: Any, reads: Values, arrays: Mapping[str, np.ndarray]) -> Opened:
        checks = self._checks
        if checks.steps.tensors:
            return checks._session(segment(self._base, proto, reads, self.names, arrays))
        return checks._session(runnable(self._base, proto, self.names, arrays))

    def _left(self, values: Values) -> Values:
        cut = self._checks.claim.cut
        if cut is None:
            return values
        return {name: cut.left(name, value) for name, value in values.items()}


class _Replay:
    """The original's nodes behind the compared float tensors, run on the file's own."""

    def __init__(self, checks: RunChecks) -> None:
        self._checks = checks
        cut = checks.claim.cut
        self._reads = tuple(dict.fromkeys((*checks.steps.deciders, *checks.deciding)))
        known = shape_known(checks.original)
        made = {name for node in checks.original.proto.graph.node for name in node.output}
        wanted = dict.fromkeys((*checks.steps.tensors, *checks.original.output_names))
        self._names = [
            name
            for name in wanted
            if name in made and name not in known and name not in self._reads
        ]
        if cut is not None and not cut.whole(self._reads):
            self._names = []
        self._session: Opened | None = None

    def check(self, feed: Feeds, result: Values) -> None:
        """Makes steps and outputs that are no float tensors anew.

        Raises:
            ValidationError: One is another one.
        """
        if not self._names:
            return
        checks = self._checks
        reads = {**feed, **{name: result[name] for name in self._reads if name in result}}
        if self._session is None:
            part = segment(checks.original, checks.original.proto, reads, self._names)
            self._session = checks._session(part)
        found = _run(self._session, reads, self._names)
        for name in self._names:
            if not same_answers(found[name], result[name], ROUNDINGS):
                raise ValidationError(
                    f"output {name} is not what the original makes of the result's tensors before "
                    "it."
                )
