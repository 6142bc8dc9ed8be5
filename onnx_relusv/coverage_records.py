"""Where the bytes of a model lie: which of them blocks hold, and why the others stay."""

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
