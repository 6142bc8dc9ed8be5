"""The measures as a library: its names, what they say of themselves, and that they agree."""

import inspect
from collections.abc import Callable

import numpy as np
import pytest

from onnx_relusv import spectra
from onnx_relusv.core.errors import UsageError

# What README.md and docs/theory.md call by name, and the plain singular values of both kinds.
NAMES = {
    "activated_mean_width",
    "best_approximation",
    "convolution_singular_values",
    "exact_largest",
    "mean_width",
    "relu_mean_width",
    "relu_singular_values",
    "singular_values",
}
# What the measures take as an activation, and what makes others.
ACTIVATION_NAMES = {
    "ACTIVATIONS",
    "ActivationFunction",
    "clip_function",
    "elu_function",
    "hard_sigmoid_function",
}
WEIGHT = np.random.default_rng(0).standard_normal((6, 9))
INPUTS = np.random.default_rng(1).standard_normal((5, 9))
EFFORT = {"iterations": 10, "starts": 4, "provider": "cpu"}

# Each on a weight alone.
CALLS: dict[str, Callable[[object], object]] = {
    "activated_mean_width": lambda W: spectra.activated_mean_width(W, None, INPUTS, provider="cpu"),
    "best_approximation": lambda W: spectra.best_approximation(W, 1, provider="cpu"),
    "convolution_singular_values": lambda W: spectra.convolution_singular_values(
        np.asarray(W)[None], (9,)
    ),
    "exact_largest": spectra.exact_largest,
    "mean_width": spectra.mean_width,
    "relu_mean_width": lambda W: spectra.relu_mean_width(W, provider="cpu"),
    "relu_singular_values": lambda W: spectra.relu_singular_values(W, **EFFORT),
    "singular_values": spectra.singular_values,
}


def test_the_documented_names_are_there() -> None:
    assert set(spectra.__all__) == NAMES | ACTIVATION_NAMES
    assert set(CALLS) == NAMES
    assert spectra.__all__ == sorted(spectra.__all__)


def test_every_name_says_what_it_takes_gives_and_refuses() -> None:
    for name in sorted(NAMES):
        function = getattr(spectra, name)
        assert inspect.isfunction(function)
        assert function.__name__ == name
        sections = inspect.getdoc(function)
        assert sections is not None
        for section in ("Args:", "Returns:", "Raises:"):
            assert f"\n\n{section}\n" in sections
        arguments = sections.split("\nArgs:\n")[1].split("\n\n")[0]
        for parameter in inspect.signature(function).parameters:
            assert f"    {parameter}: " in f"\n{arguments}", parameter
        assert "UsageError: " in sections.split("\nRaises:\n")[1]


def test_every_measure_of_an_activation_takes_names() -> None:
    for name in spectra.ACTIVATIONS:
        found = spectra.relu_singular_values(WEIGHT, activation=name, ranks=[0], **EFFORT)
        assert 0 < found.lower[0] <= found.estimate[0] <= found.upper[0], name
    for measure in (spectra.relu_singular_values, spectra.relu_mean_width):
        with pytest.raises(UsageError, match="activation 'swishy': use one of relu, relu6, "):
            measure(WEIGHT, activation="swishy", provider="cpu")
    with pytest.raises(UsageError, match="use one of"):
        spectra.best_approximation(WEIGHT, 1, activation="swishy", provider="cpu")
    with pytest.raises(UsageError, match="use one of"):
        spectra.activated_mean_width(WEIGHT, None, INPUTS, activation="swishy", provider="cpu")


def test_every_name_takes_lists_and_refuses_what_is_not_finite() -> None:
    for name in sorted(NAMES):
        CALLS[name](WEIGHT.tolist())
        CALLS[name](WEIGHT.astype(np.float32))
        wrong = WEIGHT.copy()
        wrong[2, 3] = np.nan
        with pytest.raises(UsageError, match="holds NaN or infinite values"):
            CALLS[name](wrong)


def test_the_measures_of_one_layer_agree() -> None:
    sigma = spectra.singular_values(WEIGHT)
    found = spectra.relu_singular_values(WEIGHT, **EFFORT)
    assert np.allclose(found.sigma, sigma, rtol=1e-6)
    assert found.lower[0] * (1 - 1e-9) <= spectra.exact_largest(WEIGHT) <= found.upper[0]
    linear, behind = spectra.mean_width(WEIGHT), spectra.relu_mean_width(WEIGHT, provider="cpu")
    assert behind.upper == pytest.approx(linear.value, rel=1e-6)
    # A single input's operator has fewer rows than the layer.
    at_inputs = spectra.activated_mean_width(WEIGHT, None, INPUTS, exact=True, provider="cpu")
    assert np.all(at_inputs.value <= linear.upper)
    assert np.all(at_inputs.largest <= sigma[0] * (1 + 1e-6))
    # A kernel of one tap is its matrix at every frequency.
    repeated = spectra.convolution_singular_values(WEIGHT[:, :, None], (4,))
    assert np.allclose(repeated, np.repeat(sigma, 4), rtol=1e-9)


def test_everything_public_can_be_imported_with_a_star() -> None:
    found: dict[str, object] = {}
    exec("from onnx_relusv.spectra import *", found)
    assert set(found) - {"__builtins__"} == NAMES | ACTIVATION_NAMES
