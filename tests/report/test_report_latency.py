"""The budget on latency in the reports."""

from dataclasses import replace

from rich.console import Console

from onnx_relusv.core.measures import ModelledTime
from onnx_relusv.core.results import Compression
from onnx_relusv.report.files import report_data, report_html
from onnx_relusv.report.pages import latency_facts
from onnx_relusv.report.terminal import report_parts


def shown(compression: Compression) -> str:
    """The page, on which numbers and units stay together."""
    return report_html(compression).replace("\N{NO-BREAK SPACE}", " ")


def terminal(compression: Compression) -> str:
    console = Console(width=160)
    with console.capture() as captured:
        for part in report_parts(compression):
            console.print(part)
    return " ".join(captured.get().split())


def test_the_json_says_what_was_asked_planned_and_measured(faster: Compression) -> None:
    data = report_data(faster)
    assert data["budgets"]["latency"] == 0.6
    assert data["latency"] == {
        "asked": 0.6,
        "planned": 0.5625,
        "measured": 0.0115 / 0.02,
        "before": 0.02,
        "after": 0.0115,
        "batch": 32,
        "provider": "CPUExecutionProvider",
        "threads": 2,
    }
    assert [row["latency_after"] for row in data["blocks"]] == [0.00125, 0.00125, None]


def test_page_and_terminal_say_it(faster: Compression) -> None:
    page, screen = shown(faster), terminal(faster)
    for text in (
        "20 ms -> 11.5 ms",
        "57.5 % of the original; 56.2 % expected of what was timed before; batch 32",
    ):
        assert text in screen
    for text in ("CPUExecutionProvider, 2 threads", "2.5 ms -> 1.25 ms (0.5)"):
        assert text in screen
    assert "asked for: size 50.0 %, latency 60.0 %" in screen
    for text in ("60.0 %", "56.2 %", "57.5 %", "2.5 ms -&gt; 1.25 ms (0.5)", "2 threads"):
        assert text in page


def test_without_the_budget_only_the_page_has_the_blocks_times(compression: Compression) -> None:
    assert list(latency_facts(compression)) == []
    assert "2.5 ms -&gt; 1.25 ms (0.5)" in shown(compression)
    assert "1.25 ms" not in terminal(compression)
    assert report_data(compression)["latency"] is None


def test_the_page_says_that_many_samples_in_a_run_were_looked_at(compression: Compression) -> None:
    slower = replace(compression.plan, many=ModelledTime(batch=32, share=1.04))
    for plan, taken, outcome in (
        (compression.plan, "80.0 %", "it is no slower"),
        (slower, "104.0 %", "no plan was found that loses little more and is no slower"),
    ):
        page = shown(replace(compression, plan=plan))
        assert "time of a run with 32 samples" in page
        assert f"{taken} of the original" in page
        assert f"{taken} expected with 32 samples in a run" in page
        assert f"by a model of the kernels: {outcome}" in page
    unseen = replace(compression, plan=replace(compression.plan, many=None))
    assert "with 32 samples" not in shown(unseen)
    assert report_data(unseen)["many"] is None


def test_what_is_not_known_is_a_dash(faster: Compression) -> None:
    assert faster.latency is not None
    blank = replace(faster.latency, planned=None, threads=None)
    (fact,) = latency_facts(replace(faster, latency=blank))
    assert "; - expected of what was timed before; batch 32, CPUExecutionProvider" in fact.note
    assert "thread" not in fact.note


def test_times_of_another_machine_are_named(faster: Compression) -> None:
    source = faster.plan.timed_on
    assert source is not None
    there = replace(source, machine="the board", from_file=True)
    found = replace(faster, plan=replace(faster.plan, timed_on=there))
    (fact,) = latency_facts(found)
    assert "56.2 % expected by times of the board" in fact.note
    assert report_data(found)["timed_on"]["machine"] == "the board"
    assert report_data(faster)["timed_on"]["from_file"] is False
