import re
from dataclasses import replace
from xml.dom import minidom

import numpy as np
import pytest
from pruned_records import pruned

from onnx_relusv.core.results import BlockReport, Compression, Inspection
from onnx_relusv.report.plots import spectrum_svg


def strokes(svg: str, role: str) -> list[str]:
    """Path data of everything drawn with a role's colour."""
    return [
        element.getAttribute("d")
        for element in minidom.parseString(svg).getElementsByTagName("path")
        if f"stroke: var(--plot-{role}," in element.getAttribute("style")
    ]


def markers(svg: str, role: str) -> int:
    """How many points are drawn with a role's colour."""
    return sum(
        f"var(--plot-{role}," in element.getAttribute("style")
        for element in minidom.parseString(svg).getElementsByTagName("use")
    )


def coordinates(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML] (\S+) (\S+)", path)]


def test_the_level_cuts_the_spectrum_at_the_chosen_rank(compression: Compression) -> None:
    row = compression.rows[1]
    assert row.choice is not None
    assert row.choice.rank == 11
    level = float(row.spectrum.sigma[11] / row.spectrum.sigma[0])
    svg = spectrum_svg(row, level, name="a")
    (sigma,), (across,), (upright,) = (strokes(svg, role) for role in ("sigma", "level", "chosen"))
    at_rank = coordinates(sigma)[11]
    # Five decimals are written; a point in print is 1/72 inch.
    assert coordinates(across)[0][1] == pytest.approx(at_rank[1], abs=0.01)
    assert coordinates(upright)[0][0] == pytest.approx(at_rank[0], abs=0.01)


def test_estimates_are_points_where_they_were_computed(compression: Compression) -> None:
    three, none, one = (spectrum_svg(row, 0.1, name="a") for row in compression.rows)
    assert markers(three, "estimate") == 3
    assert markers(none, "estimate") == 0
    assert markers(one, "estimate") == 1


def test_the_bracket_is_a_band(inspection: Inspection) -> None:
    assert "fill: var(--plot-band," in spectrum_svg(inspection.rows[0], None, name="a")


def test_a_tucker_rank_is_named_but_not_drawn(compression: Compression) -> None:
    row = next(row for row in compression.rows if row.choice and row.choice.form == "spatial")
    assert row.choice is not None
    choice = replace(row.choice, form="tucker")
    other = replace(row, choice=choice, unfolding="of two unfoldings")
    svg = spectrum_svg(other, 0.1, name="a")
    assert strokes(svg, "chosen") == []
    assert ">tucker, rank 21 (of two unfoldings)</text>" in svg


def test_a_spatial_rank_is_named_but_not_drawn(compression: Compression) -> None:
    svg = spectrum_svg(compression.rows[0], 0.1, name="a")
    assert strokes(svg, "chosen") == []
    assert ">spatial, rank 21 (of another unfolding)</text>" in svg


def test_without_a_plan_there_is_neither_level_nor_rank(inspection: Inspection) -> None:
    svg = spectrum_svg(inspection.rows[1], None, name="a")
    assert strokes(svg, "level") == strokes(svg, "chosen") == []


def test_a_pruned_block_s_rank_is_no_choice(compression: Compression) -> None:
    svg = spectrum_svg(pruned(compression).rows[0], 0.1, name="a")
    assert strokes(svg, "chosen") == []
    assert ">pruned</text>" in svg


def test_a_kept_block_has_no_rank(compression: Compression) -> None:
    svg = spectrum_svg(compression.rows[2], 0.1, name="a")
    assert strokes(svg, "chosen") == []
    assert ">kept</text>" in svg


def with_sigma(row: BlockReport, sigma: np.ndarray) -> BlockReport:
    spectrum = replace(
        row.spectrum,
        sigma=sigma,
        lower=sigma / 2,
        upper=sigma,
        untrained=sigma / 3,
        estimate=np.full(len(sigma), 0.0),
    )
    return replace(row, spectrum=spectrum)


def test_zero_maps_zero_values_and_single_values_are_drawn(inspection: Inspection) -> None:
    row = inspection.rows[0]
    assert ">the linear map is zero</text>" in spectrum_svg(
        with_sigma(row, np.zeros(3)), 0.1, name="a"
    )
    assert strokes(spectrum_svg(with_sigma(row, np.array([1.0, 0.0])), 0.1, name="a"), "sigma")
    assert markers(spectrum_svg(with_sigma(row, np.ones(1)), None, name="a"), "sigma") == 1


def test_long_spectra_stay_light(inspection: Inspection) -> None:
    long = with_sigma(inspection.rows[0], np.linspace(1, 0.1, 4096))
    assert len(spectrum_svg(long, None, name="a")) < 40_000


def test_the_key_is_the_label_and_escaped(compression: Compression) -> None:
    svg = spectrum_svg(compression.rows[1], 0.1, name="a")
    assert 'aria-label="Spectrum of &lt;script&gt;alert' in svg
    assert "<script" not in svg
