"""Which ranks are timed, what is made of the times, and which are not taken twice."""

from dataclasses import replace
from pathlib import Path

import pytest
from examples import block, conv, gemm
from hypothesis import given
from hypothesis import strategies as st
from offers import candidate
from probed import classifier

from onnx_relusv.core.plans import Candidate
from onnx_relusv.planning.latency import blocks as module
from onnx_relusv.planning.latency.blocks import (
    MOST_TIMED,
    block_seconds,
    layers_to_time,
    scale_of,
    with_latency,
)
from onnx_relusv.planning.latency.models import Timings
from onnx_relusv.runtime.session import Session

CONV, GEMM = block(conv(64, 64, (3, 3)), (8, 8)), block(gemm(100, 100))


def offered(form: str, ranks: list[int], each: int = 10) -> list[Candidate]:
    return [candidate(rank, 1 / rank, 40 * rank, each * rank, form) for rank in ranks]


def test_ranks_are_spread_over_the_ladder() -> None:
    own = [*offered("channel", list(range(1, 101))), *offered("spatial", list(range(1, 31)))]
    assert layers_to_time(GEMM, offered("pair", list(range(1, 101)))) == tuple(
        ("pair", rank) for rank in (1, 5, 22, 100)
    )
    # Of a Conv whole packs of channels, and the largest rank.
    assert layers_to_time(CONV, own) == (
        *(("channel", rank) for rank in (16, 32, 48, 100)),
        *(("spatial", rank) for rank in (16, 30)),
    )
    assert layers_to_time(CONV, offered("channel", [3])) == (("channel", 3),)


@given(ranks=st.lists(st.integers(1, 300), min_size=1, max_size=60, unique=True).map(sorted))
def test_no_rank_lies_outside_of_what_is_timed(ranks: list[int]) -> None:
    for item, form in ((CONV, "channel"), (GEMM, "pair")):
        own = offered(form, ranks)  # type: ignore[arg-type]
        timed = [rank for _, rank in layers_to_time(item, own)]
        assert 1 <= len(timed) <= MOST_TIMED
        assert timed == sorted(set(timed))
        assert set(timed) <= set(ranks)
        assert timed[-1] == ranks[-1]
        # Times that are proportional to the packs come back at every rank from the first on.
        pack = 16 if item is CONV else 1
        seconds = {(form, rank): -(-rank // pack) for rank in timed}
        for found in with_latency(item, own, seconds):  # type: ignore[arg-type]
            packs = max(-(-found.rank // pack), -(-timed[0] // pack))
            assert found.latency == pytest.approx(packs, rel=1e-12)


def test_between_timed_ranks_time_follows_the_macs() -> None:
    own = [*offered("pair", [10, 20, 40]), *offered("channel", [5])]
    seconds = {("pair", 10): 1.0, ("pair", 40): 4.0, ("channel", 5): 9.0}
    found = with_latency(GEMM, own, seconds)  # type: ignore[arg-type]
    assert [each.latency for each in found] == [1.0, 2.0, 4.0, 9.0]
    assert [replace(each, latency=0.0) for each in found] == [
        replace(each, latency=0.0) for each in own
    ]


def test_blocks_fit_into_the_whole() -> None:
    for whole, dense, scale in ((10.0, [2.0, 3.0], 1.0), (4.0, [2.0, 6.0], 0.5), (1.0, [], 1.0)):
        assert scale_of(whole, dense) == scale


def test_what_is_known_is_not_timed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []

    def clock(sessions: list[Session], feeds: dict[str, object]) -> tuple[float, ...]:
        # Real sessions, which really run what they are fed.
        for session in sessions:
            session.run(feeds)  # type: ignore[arg-type]
        runs.append(len(sessions))
        return tuple(float(len(runs) * 10 + place) for place in range(len(sessions)))

    monkeypatch.setattr(module, "undisturbed_latencies", clock)
    opened = classifier(tmp_path)
    timings: Timings = {}
    item = opened.case.blocks[0]
    layers: list[tuple[str, int]] = [("channel", 2), ("spatial", 3)]
    first = block_seconds(*opened, item, 4, layers, timings)
    assert first == (10.0, (11.0, 12.0))
    assert block_seconds(*opened, item, 4, layers, timings) == first
    assert block_seconds(*opened, item, 4, layers[1:], timings) == (10.0, (12.0,))
    assert runs == [3]
    # One that is not known is timed with all that it is compared with, and replaces it.
    assert block_seconds(*opened, item, 4, [("channel", 2), ("channel", 1)], timings) == (
        20.0,
        (21.0, 22.0),
    )
    # Another batch is another matter, as is another block, unless all that counts is the same.
    block_seconds(*opened, item, 5, layers, timings)
    block_seconds(*opened, opened.case.blocks[1], 4, [("channel", 1)], timings)
    assert runs == [3, 3, 3, 2]
    duplicate = replace(item, key=item.key, weight="another")
    block_seconds(*opened, duplicate, 5, layers, timings)
    assert runs == [3, 3, 3, 2]


def test_real_times_are_positive(tmp_path: Path) -> None:
    opened = classifier(tmp_path)
    for item in opened.case.blocks:
        form: str = "pair" if item.geometry.kind != "conv" else "channel"
        dense, (layer,) = block_seconds(*opened, item, 2, [(form, 1)], {})
        assert dense > 0
        assert layer > 0
