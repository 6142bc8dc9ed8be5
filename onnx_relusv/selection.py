"""Which blocks and groups of units a run may change, by --include and --exclude."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from onnx_relusv.errors import UsageError

_OPERATOR = "op:"
# Names that a message offers in place of one that is not there.
_OFFERED = 3


@dataclass(frozen=True)
class Target:
    """Something in a model that a pattern can name.

    Attributes:
        key: The tensor that leaves a block, or that another weighted node writes.
        names: Further names: of the nodes, and of the tensor that its linear map writes.
        operator: The operator of its linear map.
        refused: Why it is no block; None for a block.
    """

    key: str
    names: tuple[str, ...] = ()
    operator: str = ""
    refused: str | None = None

    def matches(self, pattern: str) -> bool:
        """Whether a pattern, a glob or an exact name, means it."""
        if pattern.startswith(_OPERATOR):
            return _fits(self.operator, pattern.removeprefix(_OPERATOR))
        return any(_fits(name, pattern) for name in (self.key, *self.names))


@dataclass(frozen=True)
class Selection:
    """What stays as it is because the user says so.

    Attributes:
        left_out: Keys of what matches no --include where there is one, or an --exclude.
        excluded: Keys of what matches an --exclude.
        notes: Sentences on patterns that only match what is left alone anyway.
    """

    left_out: frozenset[str] = frozenset()
    excluded: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def select(targets: Sequence[Target], include: Sequence[str], exclude: Sequence[str]) -> Selection:
    """Finds what patterns mean.

    Args:
        targets: All that can be named.
        include: Patterns; what matches none of them is left out. All if empty.
        exclude: Patterns of what is left out.

    Raises:
        UsageError: A pattern matches nothing.
    """
    notes = []
    for option, patterns in (("--include", include), ("--exclude", exclude)):
        for pattern in patterns:
            found = [target for target in targets if target.matches(pattern)]
            if not found:
                raise UsageError(_nothing(option, pattern, targets))
            if all(target.refused is not None for target in found):
                notes.append(
                    f"{option} {pattern} matches no block; {found[0].key} is left alone anyway: "
                    f"{found[0].refused}."
                )
    return Selection(
        frozenset(one.key for one in targets if not is_allowed(one, include, exclude)),
        frozenset(one.key for one in targets if any(map(one.matches, exclude))),
        tuple(notes),
    )


def is_allowed(target: Target, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether patterns let something change."""
    included = not include or any(map(target.matches, include))
    return included and not any(map(target.matches, exclude))


def _fits(name: str, pattern: str) -> bool:
    # Names may have brackets in them, which a glob reads otherwise.
    return name == pattern or fnmatchcase(name, pattern)


def _nothing(option: str, pattern: str, targets: Iterable[Target]) -> str:
    """What is said of a pattern that matches nothing."""
    # By how they may have been written: an operator without its prefix, too.
    names: dict[str, str] = {}
    for target in targets:
        operator = _OPERATOR + target.operator
        spelled = [(target.operator, operator), (operator, operator)]
        if not pattern.startswith(_OPERATOR):
            spelled = [*((name, name) for name in (target.key, *target.names)), *spelled]
        for spelling, name in spelled:
            names.setdefault(spelling.casefold(), name)
    if not names:
        return f"{option} {pattern}: this model has no blocks; leave it away."
    near = difflib.get_close_matches(pattern.casefold(), names, n=_OFFERED, cutoff=0.5)
    # Where nothing looks alike, what comes first is an example.
    offered = [names[spelling] for spelling in near or names]
    return (
        f"{option} {pattern}: matches no block and nothing that was refused, by key, node name or "
        f"operator. The nearest names are {', '.join(list(dict.fromkeys(offered))[:_OFFERED])}."
    )
