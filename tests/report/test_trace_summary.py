from dataclasses import replace

import numpy as np
import pytest
from traced import trace_of

from onnx_relusv.core.traces import Interval, Score, Separation, Trace
from onnx_relusv.report.trace import best_score, conclusions, interval_text, score_name, trace_facts


def score(gain: tuple[float, float, float], *, block: str | None = None) -> Score:
    lower, value, upper = gain
    return Score(
        block=block,
        quantity="width" if block else "combined",
        auroc=Interval(value=0.9 + value, lower=0.9 + lower, upper=0.9 + upper),
        higher_is_wrong=True,
        gain=Interval(value=value, lower=lower, upper=upper),
    )


def separation(trace: Trace) -> Separation:
    assert trace.separation is not None
    return trace.separation


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [
        (
            (-0.15, -0.12, -0.09),
            "does not beat max softmax (gain -0.120, 95 % interval -0.150 to -0.090)",
        ),
        ((0.002, 0.01, 0.03), "beats max softmax (gain 0.010, 95 % interval 0.002 to 0.030)"),
        (
            (-0.01, 0.01, 0.03),
            "cannot be told from max softmax (gain 0.010, 95 % interval -0.010 to 0.030)",
        ),
        (
            (0.0, 0.0, 0.0),
            "cannot be told from max softmax (gain 0.000, 95 % interval 0.000 to 0.000)",
        ),
        # Three decimals would hide on which side of zero the interval ends.
        (
            (-0.003, -0.002, -0.00012),
            "does not beat max softmax (gain -0.0020, 95 % interval -0.0030 to -0.0001)",
        ),
    ],
)
def test_each_outcome_has_its_words(gain: tuple[float, float, float], verdict: str) -> None:
    trace = trace_of(("conv1",))
    changed = replace(
        separation(trace),
        combined=score(gain),
        combined_with_output=score(gain),
        scores=(score(gain, block="conv1"),),
    )
    sentences = list(conclusions(replace(trace, separation=changed)))
    assert len(sentences) == 3
    assert [sentence.endswith(f": {verdict}.") for sentence in sentences] == [True] * 3


def test_the_best_quantity_is_named_and_called_picked() -> None:
    trace = trace_of(("conv1", "fc1"))
    best = best_score(separation(trace))
    assert best is not None
    assert best.auroc.value == max(one.auroc.value for one in separation(trace).scores)
    (sentence,) = [one for one in conclusions(trace) if "best single" in one]
    assert f"{best.quantity} of fc1, chosen with its direction on these same inputs" in sentence


def test_names_are_printable() -> None:
    assert score_name(score((0, 0, 0), block="a\x1bb")) == "width of a\\x1bb"
    assert score_name(score((0, 0, 0))) == "combined"


def test_few_answers_are_said_to_be_few() -> None:
    few = list(conclusions(trace_of(("conv1",), samples=100, share=0.05)))
    assert few[-1] == "Answers that are wrong are few, 5: the intervals are rough."
    assert not any("rough" in one for one in conclusions(trace_of(("conv1",))))


def test_what_was_not_combined_is_said() -> None:
    trace = trace_of(("conv1",), samples=50, share=0.02)
    assert separation(trace).wrong == 1
    assert next(conclusions(trace)) == (
        "Nothing was combined: a fit needs at least two right and two wrong answers."
    )


def test_why_nothing_can_be_told() -> None:
    trace = replace(trace_of(("conv1",), samples=50), separation=None)
    right, wrong = np.ones(50, np.bool_), np.zeros(50, np.bool_)
    reasons = [
        conclusions(one)
        for one in (
            replace(trace, correct=None, max_softmax=None, entropy=None),
            replace(trace, correct=None),
            replace(trace, correct=right),
            replace(trace, correct=wrong),
        )
    ]
    assert [reason.split(",")[0] for (reason,) in reasons] == [
        "No output has class scores",
        "The samples have no labels",
        "All answers are right",
        "All answers are wrong",
    ]


def test_facts() -> None:
    trace = trace_of(("conv1", "fc1"))
    facts = {fact.name: (fact.value, fact.note) for fact in trace_facts(trace)}
    assert facts["inputs"] == ("400", "on CPUExecutionProvider")
    assert facts["blocks"] == ("2", "1 more refused")
    assert facts["accuracy"] == ("85.0 %", "60 wrong answers")
    area = separation(trace).baselines[0].auroc
    assert facts["max softmax"] == (
        f"AUROC {area.value:.3f}",
        f"95 % interval {area.lower:.3f} to {area.upper:.3f}",
    )
    unlabelled = trace_facts(replace(trace, correct=None, separation=None))
    assert [fact.name for fact in unlabelled] == ["inputs", "blocks"]


def test_what_rounds_to_zero_has_no_sign() -> None:
    assert interval_text(Interval(value=-1e-17, lower=-1e-17, upper=1e-17)) == (
        "0.000 [0.000, 0.000]"
    )
    assert interval_text(Interval(value=0.75, lower=0.5, upper=1.0)) == "0.750 [0.500, 1.000]"
