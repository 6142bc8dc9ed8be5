"""Measures of layers, a small public library on plain arrays.

ReLU singular values and Gaussian mean widths after S. Dittmer, E. J. King, P. Maass, "Singular
Values for ReLU Layers", IEEE TNNLS 31(9), 2020; and the same of other activations, by the names in
`ACTIVATIONS`. docs/theory.md has the definitions and the proofs.
"""

from onnx_relusv.spectra.activated import activated_mean_width
from onnx_relusv.spectra.activation_functions import (
    ACTIVATIONS,
    ActivationFunction,
    clip_function,
    elu_function,
    hard_sigmoid_function,
)
from onnx_relusv.spectra.bounds import exact_largest
from onnx_relusv.spectra.convolution import convolution_singular_values
from onnx_relusv.spectra.mean_widths import mean_width, relu_mean_width
from onnx_relusv.spectra.relu_values import (
    best_approximation,
    relu_singular_values,
    singular_values,
)

__all__ = [
    "ACTIVATIONS",
    "ActivationFunction",
    "activated_mean_width",
    "best_approximation",
    "clip_function",
    "convolution_singular_values",
    "elu_function",
    "exact_largest",
    "hard_sigmoid_function",
    "mean_width",
    "relu_mean_width",
    "relu_singular_values",
    "singular_values",
]
