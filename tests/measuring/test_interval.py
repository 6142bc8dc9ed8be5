"""The two-sided interval of a drop: its coverage by enumeration, and scipy's of one count."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, multinomial

from onnx_relusv.measuring.bounds import Discordance

SAMPLES, ERROR = 20, 0.2
GRID = (0.0, 0.02, 0.1, 0.25, 0.5, 0.75)


@pytest.mark.parametrize("p10", GRID)
def test_it_covers_whatever_is_true(p10: float) -> None:
    for p01 in [p for p in GRID if p <= 0.25]:
        missed, too_narrow = 0.0, 0.0
        for lost in range(SAMPLES + 1):
            for gained in range(SAMPLES + 1 - lost):
                counts = [lost, gained, SAMPLES - lost - gained]
                chance = float(multinomial.pmf(counts, SAMPLES, [p10, p01, 1 - p10 - p01]))
                lower, upper = Discordance(SAMPLES, lost, gained).interval(ERROR)
                # An end that meets the drop up to rounding has not missed it.
                missed += chance * (not lower - 1e-12 <= p10 - p01 <= upper + 1e-12)
                seen = (lost - gained) / SAMPLES
                too_narrow += chance * (abs(seen - p10 + p01) > 1e-12)
        assert missed <= ERROR
        if min(p10, p01) > 0:
            assert too_narrow > ERROR  # the drop that was seen covers next to nothing


@given(counts=st.tuples(st.integers(0, 300), st.integers(0, 300)), rest=st.integers(1, 300))
def test_gains_are_losses_the_other_way_round(counts: tuple[int, int], rest: int) -> None:
    (lost, gained), samples = counts, sum(counts) + rest
    found = Discordance(samples, lost, gained)
    lower, upper = found.interval(0.05)
    turned = Discordance(samples, gained, lost).interval(0.05)
    assert (lower, upper) == pytest.approx((-turned[1], -turned[0]), abs=1e-12)
    assert lower < found.drop < upper
    assert upper == found.bound(0.025)


@given(samples=st.integers(1, 3000), share=st.floats(0, 1))
def test_changed_answers_have_clopper_and_pearson_s(samples: int, share: float) -> None:
    changed = round(share * samples)
    exact = binomtest(changed, samples).proportion_ci(0.95, method="exact")
    found = Discordance(samples, changed, None).interval(0.05)
    np.testing.assert_allclose(found, (exact.low, exact.high), rtol=1e-9, atol=1e-15)
