"""The plots of a sweep, read back from their SVG."""

from dataclasses import replace
from math import inf
from xml.dom import minidom

import numpy as np
import pytest
from pages import paths
from swept import LOSSES, SIZES, swept, without_scores

from onnx_relusv.core.measures import OutputChange
from onnx_relusv.core.sweeps import Sweep
from onnx_relusv.report.sweep import sweep_svg


def drawn(sweep: Sweep, *, logarithmic: bool = True) -> str:
    return sweep_svg(
        sweep, lambda one: one.shares.size, label="bytes", name="a", logarithmic=logarithmic
    )


def curve(svg: str, role: str, length: int) -> np.ndarray:
    """The only line of a role with so many corners, (corners, 2)."""
    found = [np.array(corners) for corners in paths(svg, role) if len(corners) == length]
    # A square mark has four corners, too, within a few points of print.
    (line,) = [corners for corners in found if np.ptp(corners[:, 0]) > 20]
    return line


@pytest.mark.parametrize("logarithmic", [False, True])
def test_lines_have_the_places_of_the_shares(logarithmic: bool) -> None:
    svg = drawn(swept(), logarithmic=logarithmic)
    sizes = [one.shares.size for one in swept().curve("level")]
    places = np.log(sizes) if logarithmic else np.array(sizes)
    for role in ("sigma", "estimate"):
        across = curve(svg, role, len(SIZES))[:, 0]
        scale, offset = np.polyfit(places, across, 1)
        assert scale > 0
        # Points of print, rounded to six decimals.
        np.testing.assert_allclose(scale * places + offset, across, atol=1e-3)


def test_losses_rise_in_order_on_one_scale_for_all_methods() -> None:
    svg = drawn(swept())
    up = np.concatenate([curve(svg, role, len(SIZES))[:, 1] for role in ("sigma", "estimate")])
    losses = np.concatenate([LOSSES["damage"], LOSSES["level"]])
    order = np.argsort(losses)
    # SVG counts from the top.
    assert np.all(np.diff(up[order]) < 0)
    inside = losses <= 1
    scale, offset = np.polyfit(losses[inside], up[inside], 1)
    np.testing.assert_allclose(scale * losses[inside] + offset, up[inside], atol=1e-3)


def test_intervals_reach_from_end_to_end() -> None:
    sweep = swept()
    svg = drawn(replace(sweep, points=sweep.curve("damage")[:1] + sweep.curve("level")[:1]))
    for role in ("sigma", "estimate"):
        (bar,) = [one for one in paths(svg, role) if len(one) == 2 and one[0][0] == one[1][0]]
        assert bar[0][1] != bar[1][1]


def test_the_knee_is_ringed() -> None:
    sweep = swept()
    assert paths(drawn(sweep), "chosen")
    assert not paths(drawn(replace(sweep, knees={"damage": None, "level": None})), "chosen")


def test_the_label_says_what_is_seen() -> None:
    root = minidom.parseString(drawn(swept())).documentElement
    assert root is not None
    assert root.getAttribute("role") == "img"
    label = root.getAttribute("aria-label")
    assert label == "accuracy lost, points, over bytes, of damage, level"


def test_without_scores_the_error_is_drawn_and_infinite_ones_are_not() -> None:
    sweep = without_scores(swept())
    first, *others = sweep.points
    broken = replace(
        first,
        evaluation=replace(
            first.evaluation, outputs=(OutputChange(name="y", kind="values", relative=inf),)
        ),
    )
    svg = drawn(replace(sweep, points=(broken, *others)))
    assert "relative output error" in svg
    assert len(curve(svg, "sigma", len(SIZES) - 1)) == len(SIZES) - 1


def test_a_sweep_that_loses_nothing_can_be_drawn() -> None:
    sweep = swept()
    flat = [
        replace(one, drop=replace(one.drop, points=0.0, lower=0.0, upper=0.0) if one.drop else None)
        for one in sweep.points
    ]
    assert "logarithmic" not in drawn(replace(sweep, points=tuple(flat)))
    assert "logarithmic beyond 1" in drawn(sweep)


def test_files_of_others_have_a_mark_of_their_own_where_they_are_known() -> None:
    sweep = swept()

    def stars(across: str) -> int:
        svg = sweep_svg(
            sweep,
            lambda one: one.shares.size,
            label="x",
            name="a",
            of_peer=lambda peer: getattr(peer, across),
        )
        uses = minidom.parseString(svg).getElementsByTagName("use")
        return sum("var(--plot-level," in one.getAttribute("style") for one in uses)

    assert [stars(across) for across in ("bytes", "macs", "latency")] == [2, 1, 1]
