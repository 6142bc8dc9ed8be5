"""What it takes to add a form: one class, and its entry in the table of forms.

The form here is none of the package's: a 1x1 layer mixes the input channels before the whole kernel
acts on what is left of them. It is offered, planned, written to a plan file and back, fitted,
checked and reported with nothing else said of it anywhere.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from examples import conv, linear_map, moments
from graphs import model_proto, normal
from hypothesis import given
from hypothesis import strategies as st
from opened import divided, open_model
from planned import plan

from onnx_relusv.commands.apply import write_fitted
from onnx_relusv.core.blocks import Floats, Geometry
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.fitting.plan import fit_plan
from onnx_relusv.measuring.case import block_moments
from onnx_relusv.planning.plan_file import plan_text, read_plan
from onnx_relusv.rewrites.low_rank.factors import composed_level, decompose_block
from onnx_relusv.rewrites.low_rank.form import Form, Nested, Reals, of_width, pointwise
from onnx_relusv.rewrites.low_rank.forms import FORMS, available_forms
from onnx_relusv.spectra.singular import Decomposition, left_basis, metric_norm
from onnx_relusv.work.executors import Silent


class NestedMixing(Nested):
    def at(self, rank: int) -> tuple[Floats, Floats]:
        (unfolded,) = Mixing().unfold(self.geometry, self.W[None])
        left = left_basis(unfolded)[:, :rank]
        return left.T @ unfolded, left

    def gaps(self, part: Decomposition, ranks: Sequence[int]) -> Sequence[float]:
        composed = (
            Mixing().compose(self.geometry, *(factor[None] for factor in self.at(rank)))
            for rank in ranks
        )
        return [metric_norm(self.W - L, self.C) for (L,) in composed]


class Mixing(Form):
    name = "mixing"
    nested = NestedMixing
    unfolding = "of its input channels"
    costly = True
    rows_are_outputs = False

    def fits(self, geometry: Geometry) -> bool:
        return bool(geometry.kernel) and geometry.in_channels > geometry.groups

    def layers(self, geometry: Geometry, rank: int) -> tuple[Geometry, ...]:
        channels = geometry.in_channels // geometry.groups
        return pointwise(geometry, channels, rank), of_width(geometry, rank, geometry.rows)

    def shapes(self, geometry: Geometry, rank: int) -> tuple[tuple[int, int], ...]:
        channels = geometry.in_channels // geometry.groups
        return (rank, channels), (geometry.rows * geometry.columns // channels, rank)

    def largest_rank(self, geometry: Geometry) -> int:
        (_, channels), (rows, _) = self.shapes(geometry, 1)
        return min(channels, rows)

    def as_layers(self, geometry: Geometry, matrices: Sequence[Floats]) -> tuple[Floats, ...]:
        first, second = matrices
        split = second.reshape(len(second), geometry.rows, -1, second.shape[2])
        return first, split.transpose(0, 1, 3, 2).reshape(len(second), geometry.rows, -1)

    def unfold(self, geometry: Geometry, weight: Reals) -> Reals:
        channels = geometry.in_channels // geometry.groups
        split = weight.reshape(len(weight), geometry.rows, channels, -1)
        return np.ascontiguousarray(split.transpose(0, 1, 3, 2)).reshape(len(weight), -1, channels)

    def fold(self, geometry: Geometry, matrix: Reals) -> Reals:
        split = matrix.reshape(len(matrix), geometry.rows, -1, matrix.shape[2])
        return np.ascontiguousarray(split.transpose(0, 1, 3, 2)).reshape(
            len(matrix), geometry.rows, -1
        )


@pytest.fixture
def mixing(monkeypatch: pytest.MonkeyPatch) -> Form:
    """The form in its place, between the others and the block's own."""
    form = Mixing()
    monkeypatch.setitem(FORMS, form.name, form)  # type: ignore[arg-type]  # a dict
    return form


TEXT = (
    "(float[N,8,9,9] x) => (float[N,5] y) {"
    " a = Conv<pads=[1,1,1,1], strides=[2,1]>(x, k, b) c = Relu(a)"
    " f = GlobalAveragePool(c) g = Flatten(f) y = Gemm(g, w) }"
)
ARRAYS = {"k": normal(12, 8, 3, 3), "b": normal(12), "w": normal(12, 5)}


@pytest.mark.parametrize("with_samples", [False, True])
def test_a_plan_with_it_is_written_and_passes_every_check(
    mixing: Form, with_samples: bool, tmp_path: Path
) -> None:
    path, samples, output = (tmp_path / name for name in ("m.onnx", "x.npz", "smaller.onnx"))
    onnx.save(model_proto(TEXT, ARRAYS), path)
    np.savez(samples, x=normal(64, 8, 9, 9))
    options = MeasureOptions(provider="cpu", seed=3)
    opened = divided(open_model(path, samples if with_samples else None, options))
    assert available_forms(opened.case.blocks[0].geometry)[-1] == "mixing"
    (tmp_path / "plan.json").write_text(plan_text(plan(opened, c=("mixing", 3))), encoding="utf-8")
    with block_moments(*opened, Silent()) as found:
        fitted = fit_plan(*opened, read_plan(tmp_path / "plan.json"), found, Silent())
    # It equals the composed kernel at every block and output, and its level is as stated.
    write_fitted(*opened, fitted, output, Silent(), lambda *_: None)
    first, second = onnx.load(output).graph.node[:2]
    kernels = [
        list(each.ints)
        for node in (first, second)
        for each in node.attribute
        if each.name == "kernel_shape"
    ]
    assert kernels == [[1, 1], [3, 3]]


@given(st.integers(1, 2), st.integers(0, 99))
def test_what_follows_from_it_is_right(groups: int, seed: int) -> None:
    geometry, rng = (
        conv(6, 8, (3, 2), groups=groups, pads=(1, 0, 1, 1)),
        np.random.default_rng(seed),
    )
    linear, seen, form = linear_map(geometry, rng), moments(geometry, rng), Mixing()
    ranks = range(1, form.largest_rank(geometry) + 1)
    stated = form.levels(geometry, linear, seen, decompose_block(linear, seen), ranks)
    for rank, level, factors in zip(
        ranks, stated, form.factors(geometry, linear, seen, ranks), strict=True
    ):
        shapes = [(groups, *shape) for shape in form.shapes(geometry, rank)]
        assert [matrix.shape for matrix in factors.matrices] == shapes
        composed = form.compose(geometry, *factors.matrices)
        assert composed_level(linear, composed, seen) == pytest.approx(level, abs=1e-9)
    # At full rank nothing is lost.
    assert stated[-1] < 1e-9
