"""Whether a model answers one input alike in every run; what is made of it could not be judged."""

from itertools import zip_longest
from typing import Any

import numpy as np

from onnx_relusv.errors import InputError
from onnx_relusv.graph.expose import runnable
from onnx_relusv.graph.random_nodes import random_node
from onnx_relusv.opened import Opened
from onnx_relusv.output_errors import identical
from onnx_relusv.output_values import output_value
from onnx_relusv.runtime.session import Session


def check_repeatable(opened: Opened) -> None:
    """Looks at a model before it is worked on: at its nodes, and at two runs on one input.

    Raises:
        InputError: It draws random numbers, or two runs differ.
    """
    node = random_node(opened.model.proto)
    if node is not None:
        raise InputError(
            f"{opened.model.path}: the node {node} draws random numbers, so the model answers the "
            "same input differently in every run, and no result could be compared with it. Export "
            "it without that node, or with its numbers as an input."
        )
    session = Session(runnable(opened.model), opened.provider, lean=True, alone=False)
    first, again = (session.run(opened.example) for _ in range(2))
    differing = [name for name in first if not _alike(first[name], again[name])]
    if differing:
        raise InputError(
            f"{opened.model.path}: two runs of the model on the same input give different "
            f"values of {', '.join(differing)}, so no result could be compared with it. "
            "Export it without whatever changes from run to run."
        )


def _alike(first: Any, again: Any) -> bool:
    """Whether two outputs, of whatever kind, are the same."""
    one, other = output_value(first), output_value(again)
    return one.keys == other.keys and all(
        a is not None and b is not None and _same(a, b)
        for a, b in zip_longest(one.arrays, other.arrays)
    )


def _same(first: np.ndarray, again: np.ndarray) -> bool:
    # Text is stored as pointers, which say nothing.
    if first.dtype.kind == "O":
        return first.shape == again.shape and bool(np.all(first == again))
    return identical(first, again)
