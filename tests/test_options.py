"""Settings: what is refused, and what the globs let through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_relusv.decisions import Budgets
from onnx_relusv.errors import UsageError
from onnx_relusv.options import MeasureOptions, PlanOptions


@pytest.mark.parametrize("provider", ["auto", "cuda", "cpu"])
def test_providers(provider: str) -> None:
    assert MeasureOptions(provider=provider).provider == provider


@pytest.mark.parametrize("provider", ["", "CPU", "gpu", "CPUExecutionProvider"])
def test_other_providers_are_refused(provider: str) -> None:
    with pytest.raises(UsageError, match="use auto, cuda or cpu"):
        MeasureOptions(provider=provider)


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


def test_methods() -> None:
    assert PlanOptions().method == "auto"
    assert PlanOptions(method="double-layer").method == "double-layer"
    with pytest.raises(UsageError, match="not there yet; use double-layer"):
        PlanOptions(method="harmonic")
    with pytest.raises(UsageError, match="use auto or double-layer"):
        PlanOptions(method="magnitude")


@pytest.mark.parametrize(
    ("include", "exclude", "allowed"),
    [
        ((), (), {"conv1", "conv2", "fc"}),
        (("conv*",), (), {"conv1", "conv2"}),
        (("conv1", "fc"), (), {"conv1", "fc"}),
        ((), ("conv?",), {"fc"}),
        (("*",), ("fc",), {"conv1", "conv2"}),
        (("conv*",), ("*2",), {"conv1"}),
        (("CONV*",), (), set()),
        (("conv",), (), set()),
    ],
)
def test_globs(include: tuple[str, ...], exclude: tuple[str, ...], allowed: set[str]) -> None:
    options = PlanOptions(include=include, exclude=exclude)
    assert {key for key in ("conv1", "conv2", "fc") if options.allows(key)} == allowed
