"""Parts of samples: disjoint, drawn by seed, and read as numpy would pick them."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_arrays import BOTH, IMAGE, IMAGES, LABELS, TOKENS, archive, data_sets, everything, spec

from onnx_relusv.core.blocks import InputSpec
from onnx_relusv.core.errors import InputError
from onnx_relusv.samples.samples import Samples, open_samples
from onnx_relusv.samples.split import (
    ASIDE_SHARE,
    CERTIFY_SHARE,
    ENOUGH_TO_FIT,
    SELECT_SHARE,
    SetAside,
    Split,
    for_certifying,
    for_judging,
    nothing_aside,
    samples_for,
    split,
)

NUMBER = [spec("x", np.float32, None)]


def numbered(folder: Path, count: int) -> Samples:
    """Samples that hold their own positions."""
    np.save(folder / "x.npy", np.arange(count, dtype=np.float32))
    return open_samples(folder / "x.npy", NUMBER)


def positions(part: Samples | None) -> list[int]:
    return [] if part is None else [int(value) for value in everything(part, 7)["x"]]


def parts(found: Split) -> tuple[list[int], list[int], list[int]]:
    return positions(found.fit), positions(found.select), positions(found.certify)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 10, 101])
def test_every_sample_is_in_one_part(count: int, tmp_path: Path) -> None:
    for aside in (nothing_aside, for_judging, for_certifying):
        found = split(numbered(tmp_path, count), 3, aside)
        fit, select, certify = parts(found)
        assert sorted(fit + select + certify) == list(range(count))
        assert all(part == sorted(part) for part in (fit, select, certify))
        assert fit
        assert found.fit.count == len(fit)
        if aside is nothing_aside:
            assert found.certify is None
        if count == 1:
            assert found.select is None
        if count == 2 and aside is nothing_aside:
            assert len(fit) == len(select) == 1


def test_the_shares(tmp_path: Path) -> None:
    samples = numbered(tmp_path, 1000)
    assert [len(part) for part in parts(split(samples, 0))] == [800, 200, 0]
    certified = round(1000 * ASIDE_SHARE)
    selected = round((1000 - certified) * SELECT_SHARE)
    expected = [1000 - certified - selected, selected, certified]
    for aside in (for_judging, for_certifying):
        assert [len(part) for part in parts(split(samples, 0, aside))] == expected


@given(count=st.integers(0, 20_000))
def test_what_is_more_than_enough_to_fit_to_is_certified_on(count: int) -> None:
    aside, judging = for_certifying(count), for_judging(count)
    left = count - aside
    assert judging <= aside <= max(judging, round(CERTIFY_SHARE * count))
    assert judging == round(ASIDE_SHARE * count)
    if aside > judging:
        assert left >= ENOUGH_TO_FIT
    # One of the two ends it.
    if left > ENOUGH_TO_FIT:
        assert aside == max(judging, round(CERTIFY_SHARE * count))
    # A sample more is a sample more for one part.
    assert for_certifying(count + 1) - aside in (0, 1)


def test_the_seed_decides(tmp_path: Path) -> None:
    samples = numbered(tmp_path, 200)
    one, again, other = (parts(split(samples, seed)) for seed in (1, 1, 2))
    assert one == again
    assert one != other
    # At random: not the first ones, nor every fifth.
    select = np.array(one[1])
    assert len(set(np.diff(select))) > 2
    assert abs(select.mean() - 99.5) < 4 * 200 / np.sqrt(12 * len(select))


def test_parts_are_of_the_same_file(tmp_path: Path) -> None:
    samples = numbered(tmp_path, 10)
    part = split(samples, 0).fit
    assert (part.source, part.sha256) == (samples.source, samples.sha256)
    assert samples.count == 10
    assert positions(samples) == list(range(10))


def opened(folder: Path, kind: str, inputs: list[InputSpec]) -> Samples:
    """The two arrays, or the images alone in an .npy, in a kind of file."""
    if kind == "npz":
        return open_samples(archive(folder, image=IMAGES, tokens=TOKENS, labels=LABELS), inputs)
    if kind == "npy":
        np.save(folder / "samples.npy", IMAGES)
        return open_samples(folder / "samples.npy", inputs)
    # Sets of different lengths.
    cuts = [(0, 1), (1, 6), (6, 10)]
    sets = [(IMAGES[start:end], TOKENS[start:end]) for start, end in cuts]
    return open_samples(data_sets(folder / "sets", sets), inputs)


chosen = st.sets(st.integers(0, 9), min_size=1).map(sorted)


@pytest.mark.parametrize("kind", ["npz", "npy", "folder"])
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(picked=chosen, wanted=st.integers(1, 12))
def test_a_part_is_what_numpy_picks(
    kind: str, picked: list[int], wanted: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    inputs = [IMAGE] if kind == "npy" else BOTH
    samples = opened(tmp_path_factory.mktemp("part"), kind, inputs)
    part = samples.part(np.array(picked))
    assert part.count == len(picked)
    found = everything(part, wanted)
    np.testing.assert_array_equal(found["image"], IMAGES[picked])
    if "tokens" in found:
        np.testing.assert_array_equal(found["tokens"], TOKENS[picked])
    if kind == "npz":
        np.testing.assert_array_equal(part.labels, LABELS[picked])
    else:
        assert part.labels is None
    batches = list(part.batches(wanted))
    assert [batch.start for batch in batches] == list(range(0, len(picked), wanted))
    assert all(batch.count == batch.size <= wanted for batch in batches)
    np.testing.assert_array_equal(part.first()["image"], IMAGES[picked[:1]])
    few = list(part.batches(wanted, limit=2))
    assert sum(batch.count for batch in few) == min(2, len(picked))


@given(picked=chosen, again=st.data(), wanted=st.integers(1, 12))
@settings(max_examples=20)
def test_a_part_of_a_part(
    picked: list[int],
    again: st.DataObject,
    wanted: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    samples = opened(tmp_path_factory.mktemp("part"), "npz", BOTH)
    inner = again.draw(st.sets(st.integers(0, len(picked) - 1), min_size=1).map(sorted))
    part = samples.part(np.array(picked)).part(np.array(inner))
    expected = np.array(picked)[inner]
    np.testing.assert_array_equal(everything(part, wanted)["image"], IMAGES[expected])
    np.testing.assert_array_equal(part.labels, LABELS[expected])


def test_a_fixed_batch_is_padded_with_the_part_s_last_sample(tmp_path: Path) -> None:
    samples = open_samples(archive(tmp_path, image=IMAGES), [spec("image", np.float32, 4, 3, 4)])
    part = samples.part(np.array([0, 2, 3, 5, 8, 9]))
    batches = list(part.batches(64))
    assert [(batch.count, batch.size, batch.start) for batch in batches] == [(4, 4, 0), (2, 4, 4)]
    np.testing.assert_array_equal(batches[0].feeds["image"], IMAGES[[0, 2, 3, 5]])
    np.testing.assert_array_equal(batches[1].feeds["image"], IMAGES[[8, 9, 9, 9]])
    only = samples.part(np.array([7])).first()
    np.testing.assert_array_equal(only["image"], IMAGES[[7, 7, 7, 7]])


def damaged(folder: Path, rows: Iterable[int]) -> Samples:
    values = IMAGES.copy()
    for row in rows:
        values[row, 0, 0] = np.nan
    return open_samples(archive(folder, image=values), [IMAGE])


def test_an_error_names_positions_of_the_file(tmp_path: Path) -> None:
    part = damaged(tmp_path, [7]).part(np.array([1, 4, 6, 7, 9]))
    with pytest.raises(InputError, match="input image, sample 7, holds NaN"):
        list(part.batches(2))
    with pytest.raises(InputError, match="input image, sample 7, holds NaN"):
        list(part.batches(64))


def test_what_is_not_in_the_part_is_not_looked_at(tmp_path: Path) -> None:
    part = damaged(tmp_path, [0, 7]).part(np.array([1, 4, 6, 9]))
    np.testing.assert_array_equal(everything(part, 3)["image"], IMAGES[[1, 4, 6, 9]])


def test_a_damaged_archive_is_an_input_error_in_a_part_too(tmp_path: Path) -> None:
    path = archive(tmp_path, image=np.tile(IMAGES, (100, 1, 1)))
    part = open_samples(path, [IMAGE]).part(np.array([3, 999]))
    content = bytearray(path.read_bytes())
    # In the middle of the member, whose checksum no longer fits.
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as samples"):
        list(part.batches(4))


@given(certified=st.integers(1, 5000))
def test_the_fewest_samples_for_a_certificate(certified: int) -> None:
    count = samples_for(certified)

    def enough(count: int) -> bool:
        own = for_certifying(count)
        return own >= certified and count - own >= 2

    assert enough(count)
    assert not enough(count - 1)


def grouped(folder: Path, groups: list[int]) -> Samples:
    """Samples that hold their own positions, in groups."""
    values = np.arange(len(groups), dtype=np.float32)
    return open_samples(archive(folder, x=values, groups=np.array(groups)), NUMBER)


@given(
    groups=st.lists(st.integers(-3, 6), min_size=1, max_size=60),
    seed=st.integers(0, 9),
    aside=st.sampled_from([nothing_aside, for_judging, for_certifying]),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_group_is_in_one_part(
    groups: list[int], seed: int, aside: SetAside, tmp_path: Path
) -> None:
    found = parts(split(grouped(tmp_path, groups), seed, aside))
    fit, select, certify = ({groups[at] for at in part} for part in found)
    assert sorted(position for part in found for position in part) == list(range(len(groups)))
    assert len(fit | select | certify) == len(fit) + len(select) + len(certify)
    # As many parts have samples as if every group were a single one.
    alone = parts(split(numbered(tmp_path, len(set(groups))), seed, aside))
    assert [bool(part) for part in (fit, select, certify)] == [bool(part) for part in alone]


def test_the_shares_of_groups_are_near(tmp_path: Path) -> None:
    """No further off than half of the largest group."""
    sizes = np.random.default_rng(0).integers(1, 30, 100)
    samples = grouped(tmp_path, np.repeat(np.arange(100), sizes).tolist())
    wanted = SELECT_SHARE * samples.count
    found = [len(parts(split(samples, seed))[1]) for seed in range(5)]
    assert len(set(found)) > 1
    assert all(abs(count - wanted) <= 15 for count in found)


def test_groups_of_one_are_as_none(tmp_path: Path) -> None:
    for seed in range(3):
        alone = parts(split(numbered(tmp_path, 30), seed, for_certifying))
        assert parts(split(grouped(tmp_path, list(range(30))), seed, for_certifying)) == alone


@given(
    count=st.integers(2, 60),
    most=st.integers(1, 70),
    groups=st.one_of(st.none(), st.integers(2, 6)),
    seed=st.integers(0, 9),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_fewer_are_fitted_to_and_all_are_judged_on(
    count: int, most: int, groups: int | None, seed: int, tmp_path: Path
) -> None:
    samples = numbered(tmp_path, count)
    if groups is not None:
        samples = replace(samples, groups=np.arange(count) % groups)
    whole = split(samples, seed)
    found = whole.fewer(most, seed)
    assert parts(found) == parts(whole.fewer(most, seed))
    if whole.select is None or whole.fit.count + whole.select.count <= most:
        assert found == whole
        assert found.judge is None
        return
    assert positions(found.judge) == positions(whole.select)
    for some, every in ((found.fit, whole.fit), (found.select, whole.select)):
        assert some is not None
        assert 0 < some.count <= every.count
        assert set(positions(some)) <= set(positions(every))
        if groups is None:
            assert some.count <= max(1, round(most * every.count / count))
        else:  # whole ones
            assert some.groups is not None
            assert every.groups is not None
            taken = np.isin(every.groups, some.groups)
            assert np.count_nonzero(taken) == some.count


def test_none_are_left_out_without_a_limit(tmp_path: Path) -> None:
    whole = split(numbered(tmp_path, 50), 0)
    assert whole.fewer(None, 0) is whole
