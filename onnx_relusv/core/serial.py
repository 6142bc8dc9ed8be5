"""Whether arrays of an entry are what a reader needs; what is not counts as damaged.

The damage curves of a block as arrays.

Factors as arrays.

The orders and damage curves of groups, and times of runs, as arrays.

The spectrum and the candidates of a block as arrays.

Moments as arrays.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, get_args

import numpy as np

from onnx_relusv.core.blocks import FactoredCovariance, Floats, Moments
from onnx_relusv.core.measures import Spectrum
from onnx_relusv.core.plans import Candidate, DamageCurve, Factors, Form, GroupCurve

# A kind as numpy has it (f, i, b, U), and lengths; None where any will do.
Wanted = Mapping[str, tuple[str, tuple[int | None, ...]]]

# Numbers that are looked at at a time: moments are mapped, and larger than memory.
_CHUNK = 1 << 22


def are_like(arrays: Mapping[str, np.ndarray], wanted: Wanted) -> bool:
    """Whether these arrays and no others are there, of these kinds and shapes."""
    return set(arrays) == set(wanted) and all(
        arrays[name].dtype.kind == kind and _has_shape(arrays[name], shape)
        for name, (kind, shape) in wanted.items()
    )


def _has_shape(values: np.ndarray, shape: tuple[int | None, ...]) -> bool:
    return values.ndim == len(shape) and all(
        expected is None or length == expected
        for length, expected in zip(values.shape, shape, strict=True)
    )


def is_finite(values: np.ndarray) -> bool:
    """Whether all are finite numbers; they are read piece by piece."""
    flat = values.reshape(-1)
    return all(
        bool(np.isfinite(flat[start : start + _CHUNK]).all())
        for start in range(0, flat.size, _CHUNK)
    )


def has_numbers(values: np.ndarray, least: float = -np.inf) -> bool:
    """Whether none is NaN and none is less than something; infinity is a number here."""
    return bool((values >= least).all())


def curves_arrays(curves: Sequence[DamageCurve]) -> dict[str, np.ndarray]:
    """The damages of one curve after the other; the caller knows the forms and ranks."""
    damages = [damage for curve in curves for damage in curve.damages]
    return {"damages": np.array(damages, np.float64)}


def curves_of(
    arrays: Mapping[str, np.ndarray], key: str, ranks: Mapping[Form, tuple[int, ...]]
) -> tuple[DamageCurve, ...] | None:
    """The curves that arrays were made of; None where they are damaged.

    Args:
        arrays: The arrays.
        key: The block's.
        ranks: Those that were measured, by form in the order of the curves.
    """
    ends = np.cumsum([0, *(len(measured) for measured in ranks.values())])
    if not are_like(arrays, {"damages": ("f", (int(ends[-1]),))}):
        return None
    if not has_numbers(arrays["damages"]):
        return None
    parts = np.split(arrays["damages"], ends[1:-1]) if ranks else []
    return tuple(
        DamageCurve(key=key, form=form, ranks=measured, damages=tuple(part.tolist()))
        for (form, measured), part in zip(ranks.items(), parts, strict=True)
    )


def factors_arrays(factors: Factors) -> dict[str, np.ndarray]:
    """The arrays of factors; form, rank and kept channels are known to the caller."""
    return {
        **{_name(place): matrix for place, matrix in enumerate(factors.matrices)},
        "bias": factors.bias,
    }


def factors_of(
    arrays: Mapping[str, np.ndarray],
    form: Form,
    rank: int,
    shapes: Sequence[tuple[int, ...]],
    outputs: int,
) -> Factors | None:
    """The factors that arrays were made of; None where they are damaged.

    Args:
        arrays: The arrays.
        form: Of the factors.
        rank: Likewise.
        shapes: Of the matrices, groups included.
        outputs: Channels of the bias.
    """
    wanted = {_name(place): ("f", shape) for place, shape in enumerate(shapes)}
    if not are_like(arrays, {**wanted, "bias": ("f", (outputs,))}):
        return None
    if not all(map(is_finite, arrays.values())):
        return None
    matrices = tuple(arrays[name] for name in wanted)
    return Factors(form=form, rank=rank, matrices=matrices, bias=arrays["bias"])


def _name(place: int) -> str:
    return f"matrix_{place}"


def group_curve_arrays(curve: GroupCurve) -> dict[str, np.ndarray]:
    """The damages; the caller knows the counts."""
    return {"damages": np.array(curve.damages, np.float64)}


def group_curve_of(
    arrays: Mapping[str, np.ndarray], key: str, counts: tuple[int, ...]
) -> GroupCurve | None:
    """The curve that arrays were made of; None where they are damaged.

    Args:
        arrays: The arrays.
        key: The group's.
        counts: Those that were measured.
    """
    if not are_like(arrays, {"damages": ("f", (len(counts),))}):
        return None
    if not has_numbers(arrays["damages"]):
        return None
    return GroupCurve(key=key, counts=counts, damages=tuple(arrays["damages"].tolist()))


def is_order(arrays: Mapping[str, np.ndarray], units: int) -> bool:
    """Whether arrays are an order of so many units, and its levels, whole and of sense.

    Args:
        arrays: ``order``, (units,) whole numbers, and ``levels``, (units + 1,).
        units: How many there are.
    """
    if not are_like(arrays, {"order": ("i", (units,)), "levels": ("f", (units + 1,))}):
        return False
    complete = np.array_equal(np.sort(arrays["order"]), np.arange(units))
    return complete and has_numbers(arrays["levels"], 0.0)


def seconds_of(arrays: Mapping[str, np.ndarray]) -> float | None:
    """A time that was measured; None where it is damaged."""
    if not are_like(arrays, {"seconds": ("f", ())}):
        return None
    seconds = float(arrays["seconds"])
    return seconds if 0 < seconds < math.inf else None


# The caller has them; a seed may be larger than any integer of numpy's.
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


def moments_arrays(moments: Moments) -> dict[str, np.ndarray]:
    """The arrays of moments."""
    covariance = moments.covariance
    if isinstance(covariance, tuple):
        held = {
            f"{name}_{group}": values
            for group, one in enumerate(covariance)
            for name, values in (("factor", one.factor), ("diagonal", one.diagonal))
        }
    else:
        held = {"covariance": covariance}
    return {
        "mean": moments.mean,
        **held,
        "rows": np.asarray(moments.rows),
        "samples": np.asarray(moments.samples),
        "shrinkage": moments.shrinkage,
    }


def moments_of(arrays: Mapping[str, np.ndarray], groups: int, columns: int) -> Moments | None:
    """The moments that arrays were made of; None where their shapes or counts are damaged.

    Args:
        arrays: The arrays.
        groups: Of the block's input.
        columns: Of a group.
    """
    factored = "covariance" not in arrays
    wanted: dict[str, tuple[str, tuple[int, ...]]] = {
        "mean": ("f", (groups, columns)),
        "rows": ("i", ()),
        "samples": ("i", ()),
        "shrinkage": ("f", (groups,)),
    }
    if not factored:
        wanted["covariance"] = ("f", (groups, columns, columns))
    for group in range(groups) if factored else ():
        factor = arrays.get(f"factor_{group}")
        terms = len(factor) if factor is not None and factor.ndim else 0
        wanted[f"factor_{group}"] = ("f", (terms, columns))
        wanted[f"diagonal_{group}"] = ("f", (columns,))
    if not are_like(arrays, wanted) or arrays["rows"] < 1 or arrays["samples"] < 1:
        return None
    covariance: Floats | tuple[FactoredCovariance, ...]
    if factored:
        covariance = tuple(
            FactoredCovariance(arrays[f"factor_{group}"], arrays[f"diagonal_{group}"])
            for group in range(groups)
        )
    else:
        covariance = arrays["covariance"]
    return Moments(
        mean=arrays["mean"],
        covariance=covariance,
        rows=int(arrays["rows"]),
        samples=int(arrays["samples"]),
        shrinkage=arrays["shrinkage"],
    )


def are_sound(moments: Moments) -> bool:
    """Whether all of the numbers are what moments can be; reads all of them.

    Those of a matrix that is positive definite: its variances are no less than zero.
    """
    covariance = moments.covariance
    if isinstance(covariance, tuple):
        parts = [values for one in covariance for values in (one.factor, one.diagonal)]
        variances = np.stack([one.diagonal for one in covariance])
    else:
        parts, variances = [covariance], np.diagonal(covariance, axis1=1, axis2=2)
    return (
        all(is_finite(values) for values in (moments.mean, *parts))
        and bool((variances >= 0).all())
        and bool(((moments.shrinkage >= 0) & (moments.shrinkage <= 1)).all())
    )
