"""Models too large for copies of their weights are validated as others are, one at a time."""

import mmap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import pytest
from graphs import change_initializer, model_proto, normal, search
from ml_dtypes import bfloat16
from onnx import ModelProto
from rewrites import Rewritten, compressed_network, rewritten

from onnx_relusv.core.blocks import LinearMap
from onnx_relusv.core.errors import ValidationError
from onnx_relusv.core.plans import Factors
from onnx_relusv.graph.reference import with_dense
from onnx_relusv.rewrites.low_rank.factors import ComposedMaps, MovedMaps, as_stored
from onnx_relusv.runtime import session
from onnx_relusv.runtime.session import Session
from onnx_relusv.work.disk_arrays import on_disk, release, released_while_read

STEPS = (
    "(int64[N,T] ids) => (float[N,T,60] y, int64[N,T] best) {"
    " x = Gather(table, ids) h = MatMul(x, w) f = Relu(h) y = MatMul(f, v)"
    " best = ArgMax<axis=2, keepdims=0>(y) }"
)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Rewritten:
    return compressed_network(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def stepping(tmp_path_factory: pytest.TempPathFactory) -> Rewritten:
    arrays = {"table": normal(7, 60), "w": normal(60, 50), "v": normal(50, 60)}
    feeds = {"ids": np.array([[1, 0, 1]])}
    folder = tmp_path_factory.mktemp("stepping")
    return rewritten(search(model_proto(STEPS, arrays), folder, feeds), rank=5)


@pytest.mark.parametrize("which", ["network", "stepping"])
def test_the_verdict_is_the_same(
    which: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Rewritten = request.getfixturevalue(which)
    usual = model.validated(tmp_path)
    living: list[int] = []

    class Counted(Session):
        count = 0

        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[arg-type]
            Counted.count += 1
            living.append(Counted.count)

        def __del__(self) -> None:
            Counted.count -= 1

    monkeypatch.setattr(session, "Session", Counted)
    lean = model.validated(tmp_path, lean=True)
    assert [check.name for check in lean.checks] == [check.name for check in usual.checks]
    # Weights that are not packed are summed in another order.
    assert lean.output_error == pytest.approx(usual.output_error, rel=1e-4)
    # Never two of them at a time.
    assert len(living) > 4
    assert max(living) == 1


def wrong_factor(proto: ModelProto) -> None:
    change_initializer(proto, "y/second_weight", lambda values: values * 1.001)


def wrong_bias(proto: ModelProto) -> None:
    change_initializer(proto, "e/bias", lambda values: values + 0.01)


@pytest.mark.parametrize("spoil", [wrong_factor, wrong_bias])
def test_a_wrong_file_fails(
    spoil: Callable[[ModelProto], None], network: Rewritten, tmp_path: Path
) -> None:
    proto = ModelProto()
    proto.CopyFrom(network.proto)
    spoil(proto)
    with pytest.raises(ValidationError, match="differs from the reference"):
        network.validated(tmp_path, proto, lean=True)


def test_maps_are_composed_when_they_are_asked_for(network: Rewritten) -> None:
    block = network.searched.blocks[-1]
    rng = np.random.default_rng(0)
    matrices = rng.standard_normal((1, 10, 3)), rng.standard_normal((1, 3, 40))
    factors = Factors(form="pair", rank=3, matrices=matrices[::-1], bias=np.zeros(10))
    maps = ComposedMaps(network.searched.blocks, {block.key: factors})
    assert list(maps) == [block.key]
    assert len(maps) == 1
    assert "c" not in maps
    np.testing.assert_array_equal(maps[block.key].weight, as_stored(block, factors).weight)


def test_every_weight_is_moved_by_one_rounding(
    network: Rewritten, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks, dense = network.claim.blocks, network.claim.dense
    # In pieces the draws are those of the whole.
    whole = MovedMaps(blocks, dense, np.random.default_rng(3))
    found = {key: whole[key].weight for key in whole}
    monkeypatch.setattr("onnx_relusv.rewrites.low_rank.factors._DRAWN", 7)
    pieces = MovedMaps(blocks, dense, np.random.default_rng(3))
    assert list(found) == list(pieces) == list(dense)
    for key, weight in found.items():
        np.testing.assert_array_equal(pieces[key].weight, weight)
        moves = weight / dense[key].weight - 1
        np.testing.assert_allclose(np.abs(moves), np.finfo(np.float32).eps, rtol=1e-6)
        assert (moves > 0).any()
        assert (moves < 0).any()


def test_a_reference_in_files_has_the_same_weights(network: Rewritten) -> None:
    model, claim = network.searched.model, network.claim
    usual, mapped = (
        with_dense(model, claim.blocks, claim.dense, mapped=mapped)[1] for mapped in (False, True)
    )
    assert usual.keys() == mapped.keys()
    for name, values in mapped.items():
        assert not values.flags.writeable
        np.testing.assert_array_equal(values, usual[name])


def test_arrays_on_disk() -> None:
    for dtype in (np.float32, np.float16, np.float64, bfloat16):
        for shape in ((), (0, 3), (5, 7)):
            values = np.asarray(np.random.default_rng(0).standard_normal(shape)).astype(dtype)
            for one in (values, values.T):
                found = on_disk(one)
                assert found.dtype == values.dtype
                np.testing.assert_array_equal(found, one)
                release([found])  # and it is read again
                np.testing.assert_array_equal(found, one)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="a system without /proc")
def test_what_a_session_copies_of_arrays_on_disk_is_not_held_twice() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    values = np.arange(1 << 23, dtype=np.float32)  # 32 MiB
    found = on_disk(values)
    release([found])
    before = resident()
    with released_while_read([found]):
        copied = found.copy()
        # As long as the session is busy with the next one.
        deadline = monotonic() + 20
        while resident() - before > 1.5 * copied.nbytes and monotonic() < deadline:
            sleep(0.01)
        assert resident() - before <= 1.5 * copied.nbytes
    np.testing.assert_array_equal(copied, values)
    np.testing.assert_array_equal(found, values)
    # Otherwise both are there.
    assert resident() - before > 1.5 * copied.nbytes


def test_a_map_that_is_composed_late_fails_where_it_is_wrong(
    network: Rewritten, tmp_path: Path
) -> None:
    dense = dict(network.claim.dense)
    dense["y"] = LinearMap(dense["y"].weight * 1.001, dense["y"].bias)
    wrong = replace(network, claim=replace(network.claim, dense=dense))
    with pytest.raises(ValidationError, match="y differs from the reference"):
        wrong.validated(tmp_path, lean=True)
