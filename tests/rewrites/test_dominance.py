"""Forms that others beat, by hand and against the definition."""

import math

from hypothesis import given
from hypothesis import strategies as st

from onnx_relusv.core.plans import Candidate
from onnx_relusv.rewrites.low_rank.candidates import undominated


def candidate(form: str, size: int, level: float, macs: int = 10) -> Candidate:
    return Candidate(form=form, rank=size, level=level, bytes=size, macs=macs)


def forms_of(found: list[Candidate]) -> list[str]:
    return list(dict.fromkeys(item.form for item in found))


CHANNEL = [candidate("channel", size, 1 - size / 200) for size in (10, 50, 90)]
SPATIAL = [candidate("spatial", size, 1 - size / 110) for size in (9, 45, 88)]


def test_a_form_that_is_beaten_everywhere_goes() -> None:
    assert undominated([*CHANNEL, *SPATIAL], 0, 100) == SPATIAL
    assert undominated([*SPATIAL, *CHANNEL], 0, 100) == SPATIAL


def test_one_better_candidate_is_enough_to_stay() -> None:
    for better in (
        candidate("channel", 5, 0.99),  # smaller than any other
        candidate("channel", 60, 0.1),  # nearer
        candidate("channel", 60, 0.9, macs=5),  # fewer multiplications
    ):
        offered = [*CHANNEL, better, *SPATIAL]
        assert undominated(offered, 0, 100) == offered


def test_only_sizes_worth_having_count() -> None:
    offered = [candidate("channel", 5, 0.99), *CHANNEL, *SPATIAL]
    assert undominated(offered, 6, 100) == SPATIAL
    # Where there are none of these sizes, nothing is known against a form.
    assert undominated(offered, 200, 300) == offered


def test_two_forms_together_beat_a_third() -> None:
    tucker = [candidate("tucker", 9, 0.5), candidate("tucker", 60, 0.49)]
    both = [*SPATIAL, *tucker]
    assert forms_of(undominated([*CHANNEL, *both], 0, 100)) == ["spatial", "tucker"]


def test_of_two_equal_forms_one_stays() -> None:
    same = [candidate("spatial", item.bytes, item.level) for item in CHANNEL]
    assert len(forms_of(undominated([*CHANNEL, *same], 0, 100))) == 1


listed = st.lists(
    st.builds(
        candidate,
        st.sampled_from(["channel", "spatial", "tucker"]),
        st.integers(1, 8),
        st.integers(0, 8).map(lambda part: part / 8),
        st.integers(1, 4),
    ),
    max_size=12,
)


@given(listed)
def test_whatever_is_left_out_has_something_better_left(offered: list[Candidate]) -> None:
    kept = undominated(offered, 0, math.inf)
    assert forms_of(kept) == [form for form in forms_of(offered) if form in forms_of(kept)]
    assert [item for item in offered if item.form in forms_of(kept)] == kept
    for item in offered:
        assert any(
            other.bytes <= item.bytes and other.macs <= item.macs and other.level <= item.level
            for other in kept
        )
    # And every form that is kept has a candidate that no other kept form beats.
    if len(forms_of(kept)) > 1:
        for form in forms_of(kept):
            others = [item for item in kept if item.form != form]
            assert any(
                not any(
                    other.bytes <= item.bytes
                    and other.macs <= item.macs
                    and other.level <= item.level
                    for other in others
                )
                for item in kept
                if item.form == form
            )
