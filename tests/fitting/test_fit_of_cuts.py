"""Fits of what is left of blocks: what they see, what they answer for, and what costs nothing."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cut_graphs import GRAPHS
from cut_plans import fitted, opened_graph, plan
from graphs import run
from opened import Opened
from probed import selected

from onnx_relusv.core.plans import Factors
from onnx_relusv.fitting import block_fit
from onnx_relusv.fitting.objectives import Objective, OwnAnswers, Reproduction
from onnx_relusv.fitting.refinement import refined
from onnx_relusv.rewrites.apply import rewritten
from onnx_relusv.runtime.differences import relative_error
from onnx_relusv.spectra.product_sums import Rows

GONE = {"a": [2], "d": [0, 1, 7]}


def error(model: Opened, gone: dict[str, list[int]]) -> float:
    """Relative, of the outputs on samples that nothing was fitted to."""
    x = {"x": selected(model)}
    found = fitted(model, plan(model, gone))
    return relative_error(run(rewritten(*model, found), x)["y"], run(model.case.model.path, x)["y"])


def test_a_duplicate_costs_nothing(tmp_path: Path) -> None:
    """Two channels are equal in both branches; without one of them the other answers for both."""
    graph = GRAPHS["residual"]
    arrays = {name: values.copy() for name, values in graph.arrays.items()}
    for name in ("k", "b", "m", "q"):
        arrays[name][1] = arrays[name][4]
    model = opened_graph(replace(graph, arrays=arrays), tmp_path)
    # But for the ridge, which takes them for a little different.
    assert error(model, {"a": [1]}) < 2e-3
    # Nothing answers for another channel.
    assert error(model, {"a": [0]}) > 0.05


class Watch:
    """What was descended, for every block in the order of its fit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[Factors, Objective, Rows, Rows]] = []

        def watched(
            start: Factors,
            objective: Objective,
            fitting: Rows,
            selecting: Rows,
            *others: object,
        ) -> Factors:
            self.seen.append((start, objective, fitting, selecting))
            return refined(start, objective, fitting, selecting, *others)  # type: ignore[arg-type]

        monkeypatch.setattr(block_fit, "refined", watched)

    def __iter__(self) -> Iterator[tuple[Factors, Objective, Rows, Rows]]:
        return iter(self.seen)


def test_only_what_is_left_is_fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept inputs as they are delivered, and no more."""
    model, watch = opened_graph(GRAPHS["residual"], tmp_path), Watch(monkeypatch)
    found = fitted(model, plan(model, GONE))
    # The first block gets what it got, and its rows are cut; three others are fitted.
    assert list(found.factors) == ["e", "f", "y"]
    (e, f, y) = watch
    kept = [channel for channel in range(6) if channel != 2]
    left = [channel for channel in range(8) if channel not in GONE["d"]]
    assert (e[1].geometry.in_channels, e[1].geometry.out_channels) == (5, 5)
    assert e[2].z.shape[2] == 5 * 9
    # Units of e are gone, and those that are left tell its one reader what all of them told it.
    assert isinstance(e[1], Reproduction)
    assert e[2].target.shape[2] == 8
    np.testing.assert_array_equal(e[1].kept, left)
    # Errors count as f's original weight makes them.
    weight = GRAPHS["residual"].arrays["m"].astype(np.float64)
    gram = np.einsum("ocyx,odyx->cd", weight, weight)
    off = ~np.eye(8, dtype=bool)
    ratio = e[1].importance[off] / gram[off]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)
    # What f answers is added to a shortcut: it is fitted to the sum, of the units that are left.
    assert isinstance(f[1], OwnAnswers)
    assert f[1].geometry.out_channels == f[2].target.shape[2] == len(kept)
    # The classifier sees as many channels, and is judged by all of its answers.
    assert (y[2].z.shape[2], y[2].target.shape[2]) == (5, 5)
    assert isinstance(y[1], OwnAnswers)
    assert y[1].scores
    assert not f[1].scores
    # Every start is of the shapes of what is left, and says which channels these are.
    for start, objective, _, _ in watch:
        assert start.kept is not None
        assert start.bias.shape == (objective.geometry.out_channels,)
    # Targets are what the original answers.
    x = np.concatenate(
        [batch.feeds["x"][: batch.count] for batch in model.inputs.split.select.batches(60)]  # type: ignore[union-attr]
    )
    exact = run(model.case.model.path, {"x": x}, ["y"])["y"]
    np.testing.assert_allclose(y[3].target[0], exact, rtol=0, atol=1e-4)
