"""The spectrum and the candidates of a block as arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, get_args

import numpy as np

from onnx_relusv.decisions import Candidate, Form
from onnx_relusv.entries.checks import are_like, has_numbers
from onnx_relusv.measures import Spectrum

# Whoever asks knows them; a seed may be larger than any integer of numpy's.
_GIVEN = ("seed", "provider")
_CANDIDATE = "candidate_"
# A candidate that was measured has no damage yet.
_VALUES = ("sigma", "lower", "upper", "estimate", "untrained")
_WIDTHS = (
    "mean_width",
    "relu_mean_width_lower",
    "relu_mean_width_upper",
    "relu_mean_width",
    "relu_mean_width_error",
)
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
    arrays: Mapping[str, np.ndarray], *, rank: int, seed: int, provider: str
) -> tuple[Spectrum, tuple[Candidate, ...]] | None:
    """The spectrum and the candidates that arrays were made of; None where they are damaged.

    Args:
        arrays: The arrays.
        rank: Singular values of the block.
        seed: What drew the starts.
        provider: What ran the ascents.
    """
    if not _are_measures(arrays, rank):
        return None
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


def _are_measures(arrays: Mapping[str, np.ndarray], rank: int) -> bool:
    sizes = [arrays[name].size for name in ("ranks", _CANDIDATE + "rank") if name in arrays]
    if len(sizes) < 2:
        return False
    estimated, offered = sizes
    wanted: dict[str, tuple[str, tuple[int | None, ...]]] = {
        **dict.fromkeys(_VALUES, ("f", (rank,))),
        **dict.fromkeys(_WIDTHS, ("f", ())),
        "operator_norm": ("f", ()),
        "ranks": ("i", (estimated,)),
        "converged": ("b", (estimated,)),
        "in_data_metric": ("b", ()),
        "iterations": ("i", ()),
        "starts": ("i", ()),
    }
    for name, kind in zip(_COLUMNS, "Uifii", strict=True):
        # Of nothing, numpy knows no kind.
        wanted[_CANDIDATE + name] = (kind if offered else "f", (offered,))
    if not are_like(arrays, wanted):
        return False
    # Where nothing was estimated there is no number, nor for the norm of what is no Conv.
    numbers = [name for name in (*_VALUES, *_WIDTHS) if name != "estimate"]
    if not all(has_numbers(arrays[name], 0.0) for name in numbers):
        return False
    ranks, known = arrays["ranks"], list(get_args(Form))
    return (
        bool(((ranks >= 0) & (ranks < rank)).all())
        and bool((arrays[_CANDIDATE + "rank"] > 0).all())
        and all(has_numbers(arrays[_CANDIDATE + name], 0.0) for name in ("level", "bytes", "macs"))
        and (not offered or bool(np.isin(arrays[_CANDIDATE + "form"], known).all()))
    )
