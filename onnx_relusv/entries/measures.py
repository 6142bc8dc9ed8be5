"""The spectrum and the candidates of a block as arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from onnx_relusv.decisions import Candidate
from onnx_relusv.measures import Spectrum

# Whoever asks knows them; a seed may be larger than any integer of numpy's.
_GIVEN = ("seed", "provider")
_CANDIDATE = "candidate_"
# A candidate that was measured has no damage yet.
_COLUMNS = ("form", "rank", "level", "bytes", "macs")


def measures_arrays(spectrum: Spectrum, candidates: Sequence[Candidate]) -> dict[str, np.ndarray]:
    """The arrays of a spectrum, but for its seed and provider, and a column a candidates' field."""
    found = {
        field.name: np.asarray(getattr(spectrum, field.name))
        for field in fields(Spectrum)
        if field.name not in _GIVEN
    }
    for name in _COLUMNS:
        found[_CANDIDATE + name] = np.array([getattr(each, name) for each in candidates])
    return found


def measures_of(
    arrays: Mapping[str, np.ndarray], *, seed: int, provider: str
) -> tuple[Spectrum, tuple[Candidate, ...]]:
    """The spectrum and the candidates that arrays were made of."""
    values: dict[str, Any] = {
        name: each if each.ndim else each.item()
        for name, each in arrays.items()
        if not name.startswith(_CANDIDATE)
    }
    values["ranks"] = tuple(values["ranks"].tolist())
    columns = [arrays[_CANDIDATE + name].tolist() for name in _COLUMNS]
    candidates = tuple(
        Candidate(**dict(zip(_COLUMNS, each, strict=True))) for each in zip(*columns, strict=True)
    )
    return Spectrum(**values, seed=seed, provider=provider), candidates
