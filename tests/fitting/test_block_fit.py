"""Fits in networks with shortcuts: what blocks see, what they mend, and that none gets worse."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from graphs import evaluated
from opened import Opened
from residual_networks import residual_network, with_a_broadcast_shortcut, with_positions

from onnx_relusv.core.blocks import Floats, LinearMap
from onnx_relusv.core.reduction import Change, Fitted
from onnx_relusv.fitting import fit as fit_module
from onnx_relusv.fitting.block_fit import BlockFit
from onnx_relusv.fitting.fit import fit
from onnx_relusv.graph.reference import reference
from onnx_relusv.measuring.case import block_moments
from onnx_relusv.rewrites.low_rank.factors import as_stored
from onnx_relusv.rewrites.low_rank.forms import double_layer
from onnx_relusv.runtime.session import CPU, Session
from onnx_relusv.samples.samples import Samples
from onnx_relusv.samples.split import Split
from onnx_relusv.spectra.product_sums import Seen
from onnx_relusv.work.executors import Silent

KINDS = ("shortcut first", "shortcut last", "identity")
# All blocks but the classifier, much smaller; the shortcut's map most of all.
RANKS: dict[str, tuple[str, int]] = {
    "b": ("channel", 6),
    "s": ("channel", 2),
    "m": ("spatial", 5),
    "d": ("channel", 5),
    "h": ("spatial", 4),
}


def changes(model: Opened, ranks: Mapping[str, tuple[str, int]] = RANKS) -> list[Change]:
    return [Change(block, *ranks[block.key]) for block in model.case.blocks if block.key in ranks]


def fitted(model: Opened, wanted: Sequence[Change]) -> dict[str, Fitted]:
    with block_moments(*model, Silent()) as moments:
        found: dict[str, Fitted] = {}

        def keep(change: Change, each: Fitted) -> None:
            found[change.block.key] = each

        fit(*model, wanted, moments, Silent(), keep)
        return found


class Watch:
    """What every block was given to see, in the order in which they were fitted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: dict[str, list[tuple[Seen, bool]]] = {}
        self.shortcuts: dict[str, str | None] = {}
        watch = self

        class WatchedFit(BlockFit):
            def fitted(
                self, plain: Fitted, parts: Split, batches: Iterator[tuple[Seen, bool]]
            ) -> Fitted:
                watch.seen[self.block.key] = listed = list(batches)
                watch.shortcuts[self.block.key] = self.shortcut
                return super().fitted(plain, parts, iter(listed))

        monkeypatch.setattr(fit_module, "BlockFit", WatchedFit)

    def values(self, key: str, read: Callable[[Seen], np.ndarray], *, choosing: bool) -> Floats:
        return np.concatenate(
            [read(s)[: s.real] for s, for_it in self.seen[key] if for_it == choosing]
        )


def images(samples: Samples | None) -> np.ndarray:
    assert samples is not None
    return np.concatenate([batch.feeds["x"][: batch.count] for batch in samples.batches(16)])


def composed(model: Opened, found: Mapping[str, Fitted]) -> dict[str, LinearMap]:
    blocks = {block.key: block for block in model.case.blocks}
    return {key: as_stored(blocks[key], each.factors) for key, each in found.items()}


def referred(
    model: Opened, dense: Mapping[str, LinearMap], names: Sequence[str], x: np.ndarray
) -> dict[str, np.ndarray]:
    """Inner tensors of the whole network with some maps replaced."""
    source = reference(model.case.model, model.case.blocks, dense, names)
    return {"x": x, **Session(source, CPU, optimized=False).run({"x": x})}


@dataclass(frozen=True, eq=False)
class Watched:
    """A network in which all of `RANKS` were fitted, and what its blocks saw."""

    kind: str
    model: Opened
    watch: Watch
    found: dict[str, Fitted]


@pytest.fixture(scope="module", params=KINDS)
def watched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    with pytest.MonkeyPatch.context() as patch:
        model = residual_network(tmp_path_factory.mktemp("network"), request.param)
        watch = Watch(patch)
        found = fitted(model, changes(model))
    return Watched(request.param, model, watch, found)


def test_every_block_sees_the_network_with_all_that_was_fitted_before(watched: Watched) -> None:
    model, watch, found = watched.model, watched.watch, watched.found
    assert model.inputs.split is not None
    assert set(watch.seen) == set(found) == {c.block.key for c in changes(model)}
    dense, before = composed(model, found), dict[str, LinearMap]()
    blocks = {block.key: block for block in model.case.blocks}
    for key in watch.seen:
        source, shortcut = blocks[key].source, watch.shortcuts[key]
        names = [name for name in (source, shortcut) if name is not None]
        for samples, choosing in (
            (model.inputs.split.fit, False),
            (model.inputs.split.select, True),
        ):
            x = images(samples)
            pairs = [
                (referred(model, {}, names, x), lambda s: s.original, 0),
                (referred(model, before, names, x), lambda s: s.delivered, 1),
            ]
            for whole, read, index in pairs:
                # Float32 through up to five layers.
                seen = watch.values(key, read, choosing=choosing)
                np.testing.assert_allclose(seen, whole[source], rtol=0, atol=1e-5)
                if shortcut is not None:
                    added = watch.values(
                        key,
                        lambda s, index=index: s.shortcut[index],  # type: ignore[index, misc]
                        choosing=choosing,
                    )
                    np.testing.assert_allclose(added, whole[shortcut], rtol=0, atol=1e-5)
        before[key] = dense[key]
    # The shortcut's map is fitted to its own answer, and the main branch mends both.
    expected = dict.fromkeys(found) | {"d": "b" if watched.kind == "identity" else "s"}
    assert watch.shortcuts == expected


def test_all_that_comes_behind_sees_the_compressed_branches(watched: Watched) -> None:
    """Shows that the test above can fail: with any one map left as it was, z is another."""
    model, watch, found = watched.model, watched.watch, watched.found
    assert model.inputs.split is not None
    dense, x = composed(model, found), images(model.inputs.split.select)
    seen = watch.values("h", lambda s: s.delivered, choosing=True)
    for key in set(found) - {"h"}:
        others = {other: each for other, each in dense.items() if other not in (key, "h")}
        assert np.abs(referred(model, others, ["f"], x)["f"] - seen).max() > 0.01


def error_behind_the_sum(model: Opened, found: Mapping[str, Fitted]) -> float:
    """Mean squared error of f on the held-out samples, of the whole network."""
    assert model.inputs.split is not None
    x = images(model.inputs.split.select)
    exact, reached = (
        referred(model, dense, ["f"], x)["f"].astype(float)
        for dense in ({}, composed(model, found))
    )
    return float(np.mean((reached - exact) ** 2))


@pytest.mark.parametrize(
    # What comes over an identity was mended where it was made, as far as it can be.
    ("kind", "share"),
    [("shortcut first", 0.9), ("shortcut last", 0.9), ("identity", 0.99)],
)
def test_the_main_branch_mends_what_the_shortcut_broke(
    kind: str, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = residual_network(tmp_path, kind)
    wanted = [change for change in changes(model) if change.block.key != "h"]
    mended = fitted(model, wanted)
    monkeypatch.setattr(fit_module, "residual_sum", lambda model, block: None)
    alone = fitted(model, wanted)
    with block_moments(*model, Silent()) as moments:
        plain = {
            c.block.key: Fitted(
                double_layer(
                    c.form,
                    c.block.geometry,
                    model.case.folding(c.block),
                    moments[c.block.key],
                    c.rank,
                ),
                model.case.folding(c.block),
                moments[c.block.key],
            )
            for c in wanted
        }
    errors = [error_behind_the_sum(model, found) for found in (mended, alone, plain)]
    assert errors[0] < share * errors[1]
    assert errors[0] < 0.9 * errors[2]


def answers(model: Opened, key: str, dense: LinearMap, source: np.ndarray) -> Floats:
    block = next(block for block in model.case.blocks if block.key == key)
    return evaluated(block, dense, source)


def judged(model: Opened, watch: Watch, key: str, dense: LinearMap, *, rectified: bool) -> float:
    """Mean squared error of a block's answer, or of the sum that it goes into, where it is chosen.

    Without consumers, whose weights would count too, as behind a sum.
    """
    own = answers(model, key, dense, watch.values(key, lambda s: s.delivered, choosing=True))
    block = next(block for block in model.case.blocks if block.key == key)
    exact = answers(
        model,
        key,
        model.case.folding(block),
        watch.values(key, lambda s: s.original, choosing=True),
    )
    if watch.seen[key][0][0].shortcut is not None:
        exact = exact + watch.values(key, lambda s: s.shortcut[0], choosing=True)  # type: ignore[index]
        own = own + watch.values(key, lambda s: s.shortcut[1], choosing=True)  # type: ignore[index]
    if rectified:
        exact, own = np.maximum(exact, 0), np.maximum(own, 0)
    return float(np.mean((own - exact) ** 2))


@pytest.mark.parametrize(
    # Every form at every rank, and at two of them in front of each kind of sum.
    ("kind", "form", "rank"),
    [
        (("shortcut first", "identity")[(number + rank // 3) % 2], form, rank)
        for number, form in enumerate(("channel", "spatial", "tucker"))
        for rank in (1, 3, 6, 9)
    ],
)
def test_it_is_never_worse_than_plain_factors_where_it_was_chosen(
    kind: str, form: str, rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, watch = residual_network(tmp_path, kind), Watch(monkeypatch)
    found = fitted(model, changes(model, {**RANKS, "d": (form, rank)}))
    block = next(block for block in model.case.blocks if block.key == "d")
    with block_moments(*model, Silent()) as moments:
        plain = double_layer(form, block.geometry, model.case.folding(block), moments["d"], rank)
    reached, before = (
        judged(model, watch, "d", as_stored(block, factors), rectified=True)
        for factors in (found["d"].factors, plain)
    )
    # Rows that choose are all there are; sums are in float32.
    assert reached <= before * (1 + 1e-5)


def test_what_is_broadcast_to_an_answer_is_no_part_of_its_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nothing is known of the sum's sign, so no error may count for nothing."""
    model, watch = with_a_broadcast_shortcut(tmp_path), Watch(monkeypatch)
    block = next(block for block in model.case.blocks if block.key == "d")
    with block_moments(*model, Silent()) as moments:
        seen = moments["d"]
    for rank in (2, 5, 8):
        found = fitted(model, changes(model, {**RANKS, "d": ("channel", rank)}))
        assert watch.shortcuts["d"] == "p"
        assert all(s.shortcut is None for s, _ in watch.seen["d"])
        plain = double_layer("channel", block.geometry, model.case.folding(block), seen, rank)
        reached, before = (
            judged(model, watch, "d", as_stored(block, factors), rectified=False)
            for factors in (found["d"].factors, plain)
        )
        assert reached <= before * (1 + 1e-5)


def test_a_constant_is_no_shortcut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, watch = with_positions(tmp_path), Watch(monkeypatch)
    found = fitted(model, [Change(block, "pair", 4) for block in model.case.blocks])
    assert watch.shortcuts == dict.fromkeys(found)
    assert all(np.isfinite(each.factors.matrices[0]).all() for each in found.values())


def test_one_branch_alone_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one's answer is waited for, wherever its node stands."""
    for kind in ("shortcut first", "shortcut last"):
        model, watch = residual_network(tmp_path, kind), Watch(monkeypatch)
        for key, other in (("s", "d"), ("d", "s")):
            fitted(model, changes(model, {"b": RANKS["b"], key: RANKS[key]}))
            assert watch.shortcuts == {"b": None, key: other}
            watch.shortcuts.clear()


def test_a_seed_makes_it_repeatable(tmp_path: Path) -> None:
    model = residual_network(tmp_path, "shortcut last")
    one, two = (fitted(model, changes(model)) for _ in range(2))
    for key, first in one.items():
        # Threads add up in another order.
        np.testing.assert_allclose(
            first.factors.matrices[0], two[key].factors.matrices[0], atol=1e-6
        )
