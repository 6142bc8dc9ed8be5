"""What people decide by, and what to do next: in words, from the figures alone."""

from dataclasses import replace

import pytest
from conftest import HOSTILE_KEY
from swept import swept

from onnx_relusv.core.measures import Latency
from onnx_relusv.core.plans import Budgets
from onnx_relusv.core.results import Comparison, Compression, Inspection
from onnx_relusv.report.decision import (
    comparison_headlines,
    compression_advice,
    compression_headlines,
    most_sensitive_first,
)
from onnx_relusv.report.network import NETWORK, RANKED, REDUCIBLE
from onnx_relusv.report.page import Headline
from onnx_relusv.report.sweep import sweep_advice


def test_headlines_are_size_answers_and_time(compression: Compression) -> None:
    size, accuracy, agreement, time, macs = compression_headlines(compression)
    assert size == Headline(
        name="size",
        before="121 kB",
        after="60.6 kB",
        change="50.0 % of the bytes",
        note="2.0 times smaller",
        left=60_617 / 121_234,
    )
    assert (accuracy.before, accuracy.after) == ("90.0 %", "89.5 %")
    # What rounds to zero from below is zero.
    assert accuracy.change == "0.5 points lost, 95 % interval 0.00 to 1.25"
    assert accuracy.note.startswith("on 1,000 samples that nothing was fitted to (forms and")
    assert agreement.change == "the same answers, 95 % interval 98.3 % to 99.6 %"
    assert (time.before, time.after, time.left) == ("1.2 ms", "0.8 ms", pytest.approx(2 / 3))
    assert macs.name == "multiply-accumulates (MACs)"


def test_a_limit_is_said_beside_what_is_lost(
    certified: Compression, estimated: Compression, without_samples: Compression
) -> None:
    _, accuracy, *_ = compression_headlines(certified)
    assert accuracy.change.endswith(", at most 1 point, certified at 99 %")
    _, metric, *_ = compression_headlines(estimated)
    assert (metric.name, metric.before, metric.after) == ("own<b>.py:f1", "0.912", "0.905")
    assert metric.change == "0.007 lost, at most 0.02, estimated at 95 %"
    _, outputs, *_ = compression_headlines(without_samples)
    assert (outputs.after, outputs.note) == (
        "0.0123",
        "on synthetic inputs, which say little of real ones",
    )


def test_a_comparison_has_a_time_for_each_batch(comparison: Comparison) -> None:
    names = [one.name for one in comparison_headlines(comparison)]
    assert names == [
        "size",
        "accuracy",
        "agreement with the original",
        "time of a run, batch 1",
        "time of a run, batch 32",
        "multiply-accumulates (MACs)",
    ]


def advised(found: Compression, budgets: Budgets, agreement: float, time: float = 0.8) -> str:
    evaluation = replace(found.assessment.evaluation, agreement=agreement, outputs=())
    latency = Latency(batch=1, before=0.001, after=time / 1000)
    assessment = replace(found.assessment, evaluation=evaluation, latency=latency, withheld={})
    plan = replace(found.plan, budgets=budgets)
    first, *_ = compression_advice(replace(found, assessment=assessment, plan=plan))
    return first.text


def test_the_next_size_is_smaller_where_little_changes_and_larger_where_much_does(
    compression: Compression,
) -> None:
    for agreement, option in ((0.999, "--size 0.25,"), (0.992, "--size 0.35,")):
        assert f"try {option}" in advised(compression, Budgets(size=0.5), agreement)
    assert "such as --size 0.75," in advised(compression, Budgets(size=0.5), 0.5)
    assert "try --macs 0.25," in advised(compression, Budgets(macs=0.5), 0.999)
    assert "--latency" in advised(compression, Budgets(size=0.5), 0.999, time=1.2)
    assert "--size" not in advised(compression, Budgets(size=0.5), 0.97)
    # With a limit, it is the limit that has to give way.
    assert advised(compression, Budgets(max_drop=1.0), 0.999).endswith("lost: --max-drop 2.")


def test_the_most_sensitive_block_comes_first_and_what_was_not_measured_last(
    compression: Compression,
) -> None:
    ranked = most_sensitive_first(compression.rows)
    assert [number for number, _ in ranked] == [2, 1, 3]
    (section,) = RANKED.sections(compression)
    assert section.title == "Blocks, most sensitive first"
    assert section.table is not None
    assert [row[1] for row in section.table.rows] == ["2", "1", "3"]
    unmeasured = tuple(replace(row, sensitivity=None) for row in compression.rows)
    (section,) = RANKED.sections(replace(compression, rows=unmeasured))
    assert section.title == "Blocks"
    assert "not measured" in section.text


def test_sensitive_blocks_are_named_with_the_option_that_spares_them(
    compression: Compression,
) -> None:
    _, sensitive = compression_advice(compression)
    # A name that no command line can hold has no option.
    assert "\\x1b" in sensitive.text
    assert sensitive.text.endswith("would change by 0.25; conv1_relu is next, with 0.0017.")
    first, second, third = compression.rows
    assert second.block.key == HOSTILE_KEY
    renamed = replace(second, block=replace(second.block, key="fc 1"))
    *_, spared = compression_advice(replace(compression, rows=(first, renamed, third)))
    assert spared.option == "--exclude 'fc 1'"


def test_the_strip_is_as_wide_as_blocks_are_large(compression: Compression) -> None:
    (section,) = NETWORK.sections(compression)
    whole = sum(row.cost.bytes for row in compression.rows)
    assert [one.width for one in section.strip] == [
        row.cost.bytes / whole for row in compression.rows
    ]
    assert [one.left for one in section.strip] == [25_984 / 73_984, 11_160 / 32_160, 1.0]
    assert [one.role for one in section.strip] == ["after", "after", "every"]
    assert section.legend == (("every", "kept"), ("after", "double layer"))


def test_the_strip_of_an_inspection_says_at_which_error_half_of_a_block_goes(
    inspection: Inspection,
) -> None:
    (section,) = REDUCIBLE.sections(inspection)
    # At 0.1 the first block saves 48,000 bytes of 73,984; the second at 0.05 more than half.
    assert [one.left for one in section.strip] == [25_984 / 73_984, 11_160 / 32_160, 1.0]
    assert [one.role for one in section.strip] == ["after", "largest", "every"]
    assert section.legend == (
        ("largest", "half or more goes at a relative error of 0.05"),
        ("after", "half or more goes at a relative error of 0.1"),
        ("every", "less than half goes at any of these errors"),
    )
    assert "with a relative error of 0.1 leaves of it" in section.text
    assert REDUCIBLE.sections(replace(inspection, rows=())) == ()


def test_a_sweep_names_the_smallest_file_that_surely_loses_little() -> None:
    sweep = swept()
    (none,) = sweep_advice(sweep)
    assert none.option == ""
    points = tuple(
        replace(one, drop=replace(one.drop, upper=one.loss + 0.5) if one.drop else None)
        for one in sweep.points
    )
    (found,) = sweep_advice(replace(sweep, points=points))
    assert "damage 0.125, with 12.5 % of the bytes" in found.text
    assert found.option == sweep.curve("damage")[2].command
