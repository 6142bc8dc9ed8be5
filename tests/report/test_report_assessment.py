"""What a smaller model costs, in words and tables: from the figures alone."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from onnx_relusv.core.measures import FeedChange, Latency, NotFinite, OutputChange, SampleCounts
from onnx_relusv.core.results import Assessment, Compression, Evaluation
from onnx_relusv.report.decision import conclusion
from onnx_relusv.report.files import report_html
from onnx_relusv.report.losses import COSTS, FEEDS, alarms, share_words
from onnx_relusv.report.page import Fact
from onnx_relusv.report.pages import assessment_facts
from onnx_relusv.report.terminal import report_parts

FASTER = Latency(batch=1, before=0.001, after=0.0006)


def output(relative: float = 0.01, name: str = "y") -> OutputChange:
    return OutputChange(name=name, kind="values", relative=relative, mean=0.0, largest=0.0)


def judged(
    *outputs: OutputChange,
    part: str = "choosing",
    agreement: float | None = None,
    accuracies: tuple[float, float] | None = None,
    latency: Latency = FASTER,
    feeds: tuple[FeedChange, ...] = (),
    withheld: tuple[str, ...] = (),
) -> Assessment:
    before, after = (None, None) if accuracies is None else accuracies
    return Assessment(
        part=part,  # type: ignore[arg-type]
        evaluation=Evaluation(
            samples=1000,
            agreement=agreement,
            accuracy_before=before,
            accuracy_after=after,
            outputs=outputs or (output(),),
            latencies=(),
            provider="CPUExecutionProvider",
        ),
        feeds=feeds,
        withheld=dict.fromkeys(withheld, "constant"),
        latency=latency,
    )


@pytest.mark.parametrize(
    ("agreement", "relative", "count"),
    [(0.95, 0.3, 0), (None, 0.3, 0), (0.949, 0.3, 1), (0.99, 0.301, 1), (0.5, 0.9, 2)],
)
def test_where_the_alarm_begins(agreement: float | None, relative: float, count: int) -> None:
    said = alarms(judged(output(relative), agreement=agreement))
    assert len(said) == count
    # Said once, and always.
    assert "".join(said).count("may be of no use") == min(count, 1)


def test_alarms_name_the_outputs_and_what_became_of_them() -> None:
    labels = OutputChange(name="class", kind="labels", agreement=0.4)
    broken = replace(output(0.0, "z"), after=NotFinite(nan=3))
    said = alarms(judged(output(0.5), output(0.1, "small"), labels, broken))
    assert said == (
        "Outputs change much on 1,000 samples that nothing was fitted to: y by 0.5 of its size; "
        "class in 60.0 % of its entries; z has entries that are no finite numbers, or others than "
        "the original's. The result may be of no use.",
    )
    # What is withheld as a figure is no less wrong where it moves.
    assert alarms(judged(output(0.5), part="synthetic", withheld=("y",)))


def told(found: Assessment, compression: Compression) -> str:
    return conclusion(found, compression.before, compression.after)


def test_the_conclusion_of_samples(compression: Compression) -> None:
    found = judged(agreement=0.987)
    assert told(found, compression) == (
        "Of 1,000 samples that nothing was fitted to, 98.7 % get the same answer (forms and sizes "
        "were chosen on them, which favours it slightly); the file has 50.0 % of the bytes and "
        "takes 0.60 of the time. Next, compare it on samples with labels, which tells the accuracy."
    )
    tested = judged(agreement=0.98, accuracies=(0.9, 0.885), part="test")
    assert told(tested, compression).startswith(
        "Of 1,000 samples that nothing was fitted to or chosen on, 98.0 % get the same answer, and "
        "accuracy goes from 90.0 % to 88.5 %; the file has"
    )
    assert told(judged(output(0.2), output(0.1, "z")), compression).startswith(
        "On 1,000 samples that nothing was fitted to, outputs change by 0.2 of their size at most "
        "(y)"
    )
    assert "what it costs is not known" in told(judged(withheld=("y",)), compression)
    fitted = told(judged(agreement=1.0, part="fitting"), compression)
    assert "samples that it was fitted to, 100.0 % get the same answer (which says little" in fitted


def test_what_to_try_next(compression: Compression) -> None:
    slower = Latency(batch=1, before=0.001, after=0.0012)
    for found, words in (
        (judged(agreement=0.5), "Ask for less, such as --size 0.75, or give more samples"),
        (judged(agreement=0.97, accuracies=(0.9, 0.9)), "sweep shows what other sizes lose"),
        (judged(agreement=0.999), "A smaller file may do: try --size 0.25, or let --max-drop"),
        (judged(agreement=0.991), "A smaller file may do: try --size 0.35, or let --max-drop"),
        (judged(output(0.001)), "A smaller file may do: try --size 0.25; sweep"),
        (judged(agreement=0.999, latency=slower), "if time matters: --latency"),
        (judged(part="fitting"), "give some hundreds of samples"),
        (judged(part="synthetic", withheld=("y",)), "Next, give --samples"),
    ):
        assert words in told(found, compression)
    assert "takes 1.20 times as long" in told(judged(latency=slower), compression)
    same = Latency(batch=1, before=0.001, after=0.00102)
    assert "and takes as long." in told(judged(latency=same), compression)


def test_the_conclusion_of_synthetic_inputs(compression: Compression) -> None:
    feeds = tuple(FeedChange(inputs="kind", samples=4, change=one) for one in (0.02, None, 0.4))
    found = judged(output(0.4), part="synthetic", feeds=feeds)
    assert told(found, compression).startswith(
        "No samples were given: on 2 of 3 kinds of synthetic inputs the outputs change by 0.02 to "
        "0.4 of their size, which says little of real ones; the file has"
    )
    assert "Ask for less, such as a larger --size, and give --samples" in told(found, compression)
    withheld = told(judged(part="synthetic", feeds=feeds[1:2], withheld=("y",)), compression)
    assert "synthetic inputs tell nothing here, so what it costs is not known" in withheld


@pytest.mark.parametrize(
    ("share", "words"),
    [(1.0, "100.0 %"), (0.9996, "99.96 %"), (0.99996, "99.996 %"), (0.987, "98.7 %"), (0, "0.0 %")],
)
def test_all_is_said_where_it_is_all(share: float, words: str) -> None:
    assert share_words(share) == words


def test_the_numbers_of_samples(compression: Compression) -> None:
    counts = SampleCounts(given=60_000, taken=5000, fit=4000, select=1000, test=300)
    first, *_ = assessment_facts(replace(compression, samples=counts))
    assert first == Fact(
        "samples",
        "5,000 of 60,000",
        "4,000 fitted to, 1,000 chosen on, 300 of a test file",
    )
    every = replace(counts, given=5000, test=0)
    first, *_ = assessment_facts(replace(compression, samples=every))
    assert first.value == "5,000"


def test_facts(compression: Compression, without_samples: Compression) -> None:
    facts = {fact.name: fact for fact in assessment_facts(compression)}
    assert facts["samples"].value == "500 of 5,000"
    assert facts["agreement"].value == "99.1 %"
    assert facts["judged on"] == Fact("judged on", "1,000 samples", "that nothing was fitted to")
    # The embedding changes more, but its figure is withheld.
    assert facts["largest output change"] == Fact(
        "largest output change", "0.0123", "relative L2, output logits"
    )
    assert facts["time of a run"].note.startswith("66.7 % of the original; batch 1")
    bare = {fact.name: fact for fact in assessment_facts(without_samples)}
    assert "samples" not in bare
    assert bare["judged on"].value == "2 kinds of synthetic inputs"


def test_sections(compression: Compression, without_samples: Compression) -> None:
    (costs,) = COSTS.sections(compression)
    assert "were chosen on them, which favours the result slightly" in costs.text
    assert "[b]embedding: the original's output is <i>constant</i>" in costs.text
    (feeds,) = FEEDS.sections(without_samples)
    assert feeds.table is not None
    assert feeds.table.rows == (("normal, deviation 1", "4", "0.0123"), ("from 0 to 255", "4", "-"))
    assert "Change on synthetic inputs" in report_html(without_samples)


def test_the_terminal_ends_with_the_conclusion(compression: Compression) -> None:
    console = Console(file=io.StringIO(), width=200, color_system=None)
    for part in report_parts(compression):
        console.print(part, markup=False)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    lines = printed.splitlines()
    assert lines[-1] == "It costs <b>little</b>. Try less."
    assert "WARNING: Outputs change <b>much</b>." in lines
    assert lines.index("WARNING: Outputs change <b>much</b>.") < len(lines) - 2
    assert "warning: the samples are few: 512 for 288 columns of <conv1_relu>." in lines
    assert printed.count("Outputs change") == 1
