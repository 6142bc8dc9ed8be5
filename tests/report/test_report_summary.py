from dataclasses import replace

from pruned_records import pruned

from onnx_relusv.core.plans import Budgets
from onnx_relusv.core.results import BlockReport, Comparison, Compression, Inspection
from onnx_relusv.report.page import Fact
from onnx_relusv.report.pages import comparison_facts, compression_facts, inspection_facts


def on_the_ball(rows: tuple[BlockReport, ...]) -> tuple[BlockReport, ...]:
    return tuple(replace(row, spectrum=replace(row.spectrum, in_data_metric=False)) for row in rows)


def test_inspection(inspection: Inspection) -> None:
    assert tuple(inspection_facts(inspection)) == (
        Fact("size", "121 kB", "88.2 % in blocks"),
        Fact("parameters", "30 k"),
        Fact("MACs", "3.7 M", "for one sample"),
        Fact("blocks", "3", "2 more refused"),
        Fact("measured", "on the samples", "with the covariance of every block's input"),
        Fact("samples", "512", "in 64 groups, all measured on"),
    )
    plain = replace(
        inspection,
        rows=on_the_ball(inspection.rows),
        provenance=replace(inspection.provenance, samples=None),
    )
    assert [*inspection_facts(plain)][-1].value == "weights alone"
    assert [fact.name for fact in inspection_facts(replace(plain, rows=()))][-1] == "blocks"


def test_compression(compression: Compression) -> None:
    facts = {fact.name: fact for fact in compression_facts(compression)}
    assert facts["size"] == Fact("size", "121 kB -> 60.6 kB", "50.0 % of the original")
    assert facts["expected change of the outputs"] == Fact(
        "expected change of the outputs", "0.0321", "asked for: size 50.0 %"
    )
    assert "relative error" not in facts
    assert facts["blocks changed"] == Fact(
        "blocks changed", "2", "2 double layers, 1 kept, 2 refused"
    )
    assert facts["checks passed"].value == "2"


def test_a_compression_that_removed_units(compression: Compression) -> None:
    facts = {fact.name: fact for fact in compression_facts(pruned(compression))}
    assert facts["blocks changed"] == Fact(
        "blocks changed", "3", "1 double layer, 1 pruned, 1 refitted, 0 kept, 2 refused"
    )


def test_compression_without_samples_or_budget(compression: Compression) -> None:
    bare = replace(
        compression,
        plan=replace(compression.plan, budgets=Budgets()),
        provenance=replace(compression.provenance, samples=None),
    )
    facts = {fact.name: fact for fact in compression_facts(bare)}
    assert facts["expected change of the outputs"].note == "no budget was given"
    both = replace(
        compression, plan=replace(compression.plan, budgets=Budgets(macs=0.4, tolerance=0.2))
    )
    notes = {fact.name: fact.note for fact in compression_facts(both)}
    assert notes["expected change of the outputs"] == "asked for: MACs 40.0 %, relative error 0.2"


def test_a_compression_by_level(compression: Compression) -> None:
    facts = tuple(
        compression_facts(
            replace(compression, plan=replace(compression.plan, allocation="level", damage=None))
        )
    )
    assert Fact("relative error", "0.1", "asked for: size 50.0 %") in facts
    assert "expected change of the outputs" not in [fact.name for fact in facts]


def test_comparison(comparison: Comparison) -> None:
    facts = {fact.name: fact for fact in comparison_facts(comparison)}
    assert facts["size"].note == "50.0 % of the first"
    assert facts["agreement"].value == "99.1 %"
    assert facts["accuracy"] == Fact("accuracy", "90.0 % -> 89.5 %", "0.50 points lost")


def test_comparison_that_gained_or_has_no_labels(comparison: Comparison) -> None:
    better = replace(comparison.evaluation, accuracy_after=0.91)
    facts = tuple(comparison_facts(replace(comparison, evaluation=better)))
    assert Fact("accuracy", "90.0 % -> 91.0 %", "1.00 points gained") in facts
    blind = replace(
        comparison.evaluation, agreement=None, accuracy_before=None, accuracy_after=None
    )
    names = [fact.name for fact in comparison_facts(replace(comparison, evaluation=blind))]
    assert names == ["size", "parameters", "MACs", "samples"]
