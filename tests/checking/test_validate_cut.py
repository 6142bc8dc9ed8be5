"""Files without some units pass all checks, and wrongly cut ones do not."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from cut_graphs import GRAPHS
from cut_plans import fitted, opened_graph, plan, random_units
from graphs import change_initializer, run
from onnx import ModelProto, numpy_helper
from opened import Opened
from probed import selected

from onnx_relusv.checking.validate import validate
from onnx_relusv.commands.apply import _claim, write_fitted
from onnx_relusv.core.errors import ValidationError
from onnx_relusv.core.reduction import Change, Fitted, FittedPlan, compensated_map
from onnx_relusv.core.results import Verdict
from onnx_relusv.fitting.plan import check_stated_level
from onnx_relusv.graph.reference import reference
from onnx_relusv.graph.writing import write_staged
from onnx_relusv.rewrites.apply import dense_maps, rewritten
from onnx_relusv.rewrites.low_rank.factors import as_stored
from onnx_relusv.rewrites.prune.cutting import cut
from onnx_relusv.rewrites.prune.units import removed_mask
from onnx_relusv.runtime.differences import relative_error
from onnx_relusv.runtime.session import CPU, Session
from onnx_relusv.work.executors import Silent
from onnx_relusv.work.files import staged

# One unit of a small group and some of a large one, so that every axis is cut.
GONE = {
    "chain": {"a": [1, 4], "d": [0, 3], "h": [2, 5, 8]},
    "residual": {"a": [2], "d": [0, 1, 7]},
    "concat": {"a": [0, 5], "d": [1], "i": [3, 4], "s": [9]},
    "groups": {"a": [1], "d": [0], "f": [2, 6], "h": [5]},
}
# Of each graph, a block that becomes a double layer besides.
LAYERS = {
    "chain": {"e": ("spatial", 2)},
    "residual": {"e": ("channel", 2)},
    "concat": {"j": ("spatial", 2)},
    "groups": {"h": ("channel", 1)},
}


def validated(model: Opened, found: FittedPlan, proto: ModelProto, folder: Path) -> Verdict:
    with staged(folder / "out.onnx") as stage:
        path = write_staged(proto, model.case.model, stage, "out.onnx")
        rng = np.random.default_rng(0)
        claim = _claim(model.case, model.workspace, found)
        return validate(model.case.model, path, claim, model.inputs.samples, provider=CPU, rng=rng)


@pytest.mark.parametrize("samples", [True, False])
@pytest.mark.parametrize("layered", [False, True])
@pytest.mark.parametrize("name", GRAPHS)
def test_a_cut_file_passes(name: str, layered: bool, samples: bool, tmp_path: Path) -> None:
    """By itself, and with double layers in it; fitted, and without samples."""
    model = opened_graph(GRAPHS[name], tmp_path, samples=samples)
    layers = LAYERS[name] if layered else {}
    found = fitted(model, plan(model, GONE[name], layers))  # type: ignore[arg-type]
    output = tmp_path / "small.onnx"
    verdicts: list[Verdict] = []
    write_fitted(
        *model, found, output, Silent(), lambda _, verdict, with_it: verdicts.append(verdict)
    )
    assert {check.name for check in verdicts[0].checks} >= {"onnx.checker", "reference", "smaller"}
    # No node is there that a double layer does not add, and no tensor has the removed channels.
    result = onnx.load(output)
    before = sum(
        tensor.dims[0] for tensor in model.case.model.proto.graph.initializer if tensor.dims
    )
    assert sum(tensor.dims[0] for tensor in result.graph.initializer if tensor.dims) < before
    if not layered:
        assert len(result.graph.node) <= len(model.case.model.proto.graph.node) + 1


@dataclass(frozen=True, eq=False)
class CutModel:
    """A graph without some of its units, which has passed all checks."""

    model: Opened
    found: FittedPlan
    proto: ModelProto
    verdict: Verdict


@pytest.fixture(scope="module")
def cut_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CutModel]:
    """Every graph, cut and fitted."""
    made = {}
    for name, graph in GRAPHS.items():
        folder = tmp_path_factory.mktemp(name)
        model = opened_graph(graph, folder)
        found = fitted(model, plan(model, GONE[name]))
        proto = rewritten(*model, found)
        made[name] = CutModel(model, found, proto, validated(model, found, proto, folder))
    return made


@pytest.mark.parametrize("name", ["residual", "groups"])
def test_outputs_move_as_the_verdict_says(name: str, cut_models: dict[str, CutModel]) -> None:
    made = cut_models[name]
    model, verdict = made.model, made.verdict
    assert model.inputs.samples is not None
    x = next(iter(model.inputs.samples.batches(16, limit=16))).feeds
    moved = relative_error(run(made.proto, x)["y"], run(model.case.model.path, x)["y"])
    # Float32 through half a dozen layers, of an error of some per cent at least.
    assert verdict.output_error["y"] == pytest.approx(moved, rel=1e-3)
    assert moved > 1e-2


def kept_constant(proto: ModelProto, output: str, slot: int = 1) -> str:
    return next(node.input[slot] for node in proto.graph.node if output in node.output)


def off_by_one(proto: ModelProto, output: str, axis: int, slot: int = 1) -> None:
    """Takes its neighbour in the place of every channel, as a slice that is off by one does."""
    change_initializer(
        proto, kept_constant(proto, output, slot), lambda values: np.roll(values, 1, axis=axis)
    )


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        # Columns of one of two consumers, rows of one of two producers, and what is carried.
        ("residual", lambda proto: off_by_one(proto, "d", 1)),
        ("residual", lambda proto: off_by_one(proto, "f", 0)),
        ("residual", lambda proto: off_by_one(proto, "y", 0)),
        ("chain", lambda proto: off_by_one(proto, "h", 1)),
        ("chain", lambda proto: off_by_one(proto, "i", 0)),
        ("concat", lambda proto: off_by_one(proto, "g", 0)),
        ("concat", lambda proto: off_by_one(proto, "g", 0, 2)),
        ("concat", lambda proto: off_by_one(proto, "i", 1)),
        ("groups", lambda proto: off_by_one(proto, "f", 0)),
        ("groups", lambda proto: off_by_one(proto, "f", 1)),
        ("groups", lambda proto: off_by_one(proto, "d", 1)),
    ],
)
def test_a_slice_that_is_off_by_one(
    name: str,
    spoil: Callable[[ModelProto], None],
    cut_models: dict[str, CutModel],
    tmp_path: Path,
) -> None:
    made, proto = cut_models[name], ModelProto()
    proto.CopyFrom(made.proto)
    spoil(proto)
    with pytest.raises(ValidationError, match="differs from the reference"):
        validated(made.model, made.found, proto, tmp_path)


def test_a_file_without_other_units(tmp_path: Path) -> None:
    """As many are gone and every shape is right, but they are not those of the plan."""
    model = opened_graph(GRAPHS["residual"], tmp_path)
    found = fitted(model, plan(model, {"a": [2]}))
    other = plan(model, {"a": [3]})
    assert model.case.channels is not None
    proto = cut(model.case.model, model.case.channels, removed_mask(model.case.channels, other))
    with pytest.raises(ValidationError, match="c differs from the reference"):
        validated(model, found, proto, tmp_path)


def test_a_file_with_all_its_units(tmp_path: Path) -> None:
    model = opened_graph(GRAPHS["residual"], tmp_path)
    found = fitted(model, plan(model, {"a": [2]}))
    with pytest.raises(ValidationError, match="differs from the reference by inf"):
        validated(model, found, model.case.model.proto, tmp_path)


@pytest.mark.parametrize("name", GRAPHS)
def test_without_any_fit_the_cut_is_the_zeroed_original(name: str, tmp_path: Path) -> None:
    """What is cut is exact: only sums of zeros are left out."""
    model = opened_graph(GRAPHS[name], tmp_path, samples=False)
    assert model.case.channels is not None
    removed = removed_mask(model.case.channels, plan(model, random_units(model, 0.5)))
    result = cut(model.case.model, model.case.channels, removed)
    zeros = ModelProto()
    zeros.CopyFrom(model.case.model.proto)
    for axis in model.case.channels.consumed:
        node = zeros.graph.node[axis.node]
        gone = (axis.units >= 0) & removed[np.maximum(axis.units, 0)]
        tensor = next(t for t in zeros.graph.initializer if t.name == node.input[axis.slot])
        values = numpy_helper.to_array(tensor).copy()
        np.moveaxis(values, axis.axis, 0)[gone] = 0
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    x = {"x": np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32)}
    assert relative_error(run(result, x)["y"], run(zeros, x)["y"]) < 1e-5


@pytest.mark.parametrize("form", ["channel", "spatial", "tucker"])
def test_a_level_of_what_is_left(form: str, tmp_path: Path) -> None:
    """A double layer is held against the map of the channels that are left, by its own rank."""
    model = opened_graph(GRAPHS["residual"], tmp_path, samples=False)
    wanted = plan(model, GONE["residual"], {"e": (form, 2)})  # type: ignore[dict-item]
    found = fitted(model, wanted)
    block = next(block for block in model.case.blocks if block.key == "e")
    factors = found.factors["e"]
    assert factors.kept is not None
    change = Change(block, factors.form, 2, factors.kept)
    target = compensated_map(block.geometry, model.case.folding(block), None, factors.kept)
    each = Fitted(factors, target, None)
    check_stated_level(change, each, as_stored(block, factors))
    worse = replace(factors, matrices=(*factors.matrices[:-1], 0 * factors.matrices[-1]))
    with pytest.raises(ValidationError, match="was stated"):
        check_stated_level(change, each, as_stored(block, worse))


@pytest.mark.parametrize("layered", [False, True])
def test_the_fit_mends_what_the_removal_broke(layered: bool, tmp_path: Path) -> None:
    model = opened_graph(GRAPHS["residual"], tmp_path)
    layers = LAYERS["residual"] if layered else {}
    wanted = plan(model, GONE["residual"], layers)  # type: ignore[arg-type]
    x = {"x": selected(model)}
    exact = run(model.case.model.path, x)["y"]
    found = fitted(model, wanted)
    assert model.case.channels is not None
    plain = cut(model.case.model, model.case.channels, removed_mask(model.case.channels, wanted))
    reached = relative_error(run(rewritten(*model, found), x)["y"], exact)
    assert reached < 0.7 * relative_error(run(plain, x)["y"], exact)
    # And the file is what the reference is with the composed maps in the whole blocks' places.
    source = reference(model.case.model, model.case.blocks, dense_maps(model.case, found))
    referred = Session(source, CPU).run(x)["y"]
    assert relative_error(run(rewritten(*model, found), x)["y"], referred) < 1e-5
