"""Shapes that a user gives inputs where a model is run without samples: NAME=1x80x200."""

from collections.abc import Sequence
from dataclasses import replace

from onnx_relusv.errors import UsageError
from onnx_relusv.records import InputSpec

_SCALAR = "scalar"


def parsed_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """An input's name and shape out of the text of an --input-shape.

    Raises:
        UsageError: It is of another form.
    """
    name, sign, shape = text.rpartition("=")
    lengths = [] if shape == _SCALAR else shape.split("x")
    if not (sign and name) or not all(one.isascii() and one.isdigit() for one in lengths):
        raise UsageError(
            f"--input-shape {text}: use an input's name and its lengths, as in NAME=1x80x200, or "
            f"NAME={_SCALAR}."
        )
    if any(int(one) < 1 for one in lengths):
        raise UsageError(f"--input-shape {text}: every length is 1 or more.")
    return name, tuple(map(int, lengths))


def shape_text(shape: Sequence[int | None]) -> str:
    """A shape as in --input-shape; ? where an axis is dynamic."""
    return "x".join("?" if one is None else str(one) for one in shape) or _SCALAR


def with_requested(inputs: Sequence[InputSpec], texts: Sequence[str]) -> tuple[InputSpec, ...]:
    """Inputs with the shapes that were asked for.

    Args:
        inputs: A model's inputs.
        texts: Of the options.

    Raises:
        UsageError: An input is unknown or named twice, or a shape does not fit it or another one.
    """
    wanted: dict[str, tuple[int, ...]] = {}
    listed = ", ".join(
        f"{spec.name} {shape_text(spec.shape) if spec.has_rank else 'of any shape'}"
        for spec in inputs
    )
    for text in texts:
        name, shape = parsed_shape(text)
        spec = next((one for one in inputs if one.name == name), None)
        if spec is None:
            raise UsageError(
                f"--input-shape {text}: the model has no input {name}; its inputs are {listed}."
            )
        if name in wanted:
            raise UsageError(f"--input-shape {text}: {name} has a shape already; give one.")
        fits = not spec.has_rank or (
            len(shape) == len(spec.shape)
            and all(known in (None, own) for known, own in zip(spec.shape, shape, strict=True))
        )
        if not fits:
            raise UsageError(
                f"--input-shape {text}: this is not a shape of the model's input {name}; its "
                f"inputs are {listed}."
            )
        wanted[name] = shape
    _check_names(inputs, wanted, listed)
    return tuple(replace(spec, requested=wanted.get(spec.name)) for spec in inputs)


def _check_names(
    inputs: Sequence[InputSpec], wanted: dict[str, tuple[int, ...]], listed: str
) -> None:
    """Axes with one name have one length."""
    known: dict[str, int] = {}
    for spec in inputs:
        for name, length in zip(spec.named, wanted.get(spec.name, ()), strict=False):
            if name is not None and known.setdefault(name, length) != length:
                raise UsageError(
                    f"--input-shape: the axis {name} is {known[name]} and {length} long; axes "
                    f"with one name have one length. The model's inputs are {listed}."
                )
