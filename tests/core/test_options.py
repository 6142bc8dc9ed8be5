"""Settings: what is refused, and what the globs let through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.options import MeasureOptions, PlanOptions
from onnx_relusv.core.plans import Budgets


def test_seeds_start_at_zero() -> None:
    assert MeasureOptions().seed == 0
    assert MeasureOptions(seed=2**40).seed == 2**40
    with pytest.raises(UsageError, match="seed -1"):
        MeasureOptions(seed=-1)


@pytest.mark.parametrize("name", ["size", "macs", "tolerance"])
@given(share=st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_shares_between_0_and_1(name: str, share: float) -> None:
    assert getattr(PlanOptions(budgets=Budgets(**{name: share})).budgets, name) == share


@pytest.mark.parametrize("name", ["size", "macs", "tolerance"])
@given(share=st.one_of(st.floats(max_value=0), st.floats(min_value=1), st.just(float("nan"))))
def test_other_shares_are_refused(name: str, share: float) -> None:
    with pytest.raises(UsageError, match=f"--{name} .*above 0 and below 1"):
        PlanOptions(budgets=Budgets(**{name: share}))


@given(points=st.floats(0, 100, exclude_min=True, exclude_max=True))
def test_drops_between_0_and_100_points(points: float) -> None:
    assert PlanOptions(budgets=Budgets(max_drop=points)).budgets.max_drop == points


@given(
    points=st.one_of(
        st.floats(max_value=0), st.floats(min_value=100), st.just(float("nan")), st.just(-0.0)
    )
)
def test_other_drops_are_refused(points: float) -> None:
    with pytest.raises(UsageError, match=r"--max-drop .*above 0 and below 100"):
        PlanOptions(budgets=Budgets(max_drop=points))


@given(confidence=st.floats(0.5, 1, exclude_min=True, exclude_max=True))
def test_confidences_above_a_half(confidence: float) -> None:
    budgets = Budgets(max_drop=1, confidence=confidence)
    assert PlanOptions(budgets=budgets).budgets.confidence == confidence


@given(
    confidence=st.one_of(st.floats(max_value=0.5), st.floats(min_value=1), st.just(float("nan")))
)
def test_other_confidences_are_refused(confidence: float) -> None:
    with pytest.raises(UsageError, match=r"--confidence .*above 0\.5 and below 1"):
        PlanOptions(budgets=Budgets(max_drop=1, confidence=confidence))


def test_a_confidence_is_that_of_a_drop() -> None:
    with pytest.raises(UsageError, match="--confidence is that of a --max-drop"):
        PlanOptions(budgets=Budgets(size=0.5, confidence=0.9))


def test_a_drop_goes_with_damage() -> None:
    budgets = Budgets(max_drop=1)
    for allocation in ("auto", "damage"):
        assert PlanOptions(budgets=budgets, allocation=allocation).has_budget
    with pytest.raises(UsageError, match="leave --allocation level away"):
        PlanOptions(budgets=budgets, allocation="level")
    with pytest.raises(UsageError, match="needs a --size, --macs, --latency or --max-drop"):
        PlanOptions(budgets=Budgets(tolerance=0.1), allocation="damage")


def test_methods() -> None:
    assert PlanOptions().method == "auto"
    for method in ("auto", "double-layer", "harmonic"):
        assert PlanOptions(method=method).method == method
    with pytest.raises(UsageError, match="use auto, double-layer or harmonic"):
        PlanOptions(method="magnitude")


def test_numbers_of_channels_are_for_units() -> None:
    made = PlanOptions(method="harmonic", round_to=8, keep_at_least=4)
    assert (made.round_to, made.keep_at_least) == (8, 4)
    assert PlanOptions().round_to == "auto"
    assert PlanOptions(method="double-layer", round_to="auto").layers_alone().round_to == "auto"
    with pytest.raises(UsageError, match="--round-to 'even': use a whole number, or auto"):
        PlanOptions(round_to="even")  # type: ignore[arg-type]
    for name in ("round_to", "keep_at_least"):
        with pytest.raises(UsageError, match="use a number from 1 on"):
            PlanOptions(method="harmonic", **{name: 0})
        with pytest.raises(UsageError, match="use --method harmonic"):
            PlanOptions(method="double-layer", **{name: 2})


def test_packs_divide_what_is_long_enough() -> None:
    """Into 32 steps at least: of 16 channels, of 8, of 4, and of one."""
    planning = PlanOptions(pack=16)
    assert [planning.multiple(length) for length in (2048, 512, 511, 256, 128, 127, 3)] == [
        16,
        16,
        8,
        8,
        4,
        1,
        1,
    ]
    assert PlanOptions(round_to=8, method="harmonic", pack=16).multiple(2048) == 8
    assert PlanOptions().multiple(2048) == 1


def test_a_latency_goes_with_all_methods() -> None:
    budgets = Budgets(latency=0.5)
    for method in ("auto", "double-layer", "harmonic"):
        assert PlanOptions(budgets=budgets, method=method).budgets.latency == 0.5


def test_globs() -> None:
    for include, exclude, allowed in (
        ((), (), {"conv1", "conv2", "fc"}),
        (("conv*",), (), {"conv1", "conv2"}),
        (("conv1", "fc"), (), {"conv1", "fc"}),
        ((), ("conv?",), {"fc"}),
        (("*",), ("fc",), {"conv1", "conv2"}),
        (("conv*",), ("*2",), {"conv1"}),
        (("CONV*",), (), set()),
        (("conv",), (), set()),
    ):
        options = PlanOptions(include=include, exclude=exclude)
        assert {key for key in ("conv1", "conv2", "fc") if options.allows(key)} == allowed
