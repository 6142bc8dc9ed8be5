"""Synthetic inputs of several kinds, and whether outputs vary over them."""

from collections.abc import Mapping

import numpy as np

from onnx_relusv.core.blocks import InputSpec
from onnx_relusv.graph.channels.operator import Normalisation
from onnx_relusv.runtime.differences import OutputVariation
from onnx_relusv.runtime.outputs import output_value
from onnx_relusv.samples.feeds import Drawing, repeatable, varied_feeds

X = InputSpec("x", np.dtype(np.float32), (None, 3, 8, 8))
LOW, HIGH = (InputSpec(name, np.dtype(np.float32), (), samples_axis=None) for name in ("low", "up"))
TOKENS = InputSpec("tokens", np.dtype(np.int64), (None, 5))
STATE = InputSpec("state", np.dtype(np.float16), (2, None, 4), samples_axis=1)


def drawing(*inputs: InputSpec, repeats: int = 4, **others: object) -> Drawing:
    example: Mapping[str, np.ndarray] = {
        spec.name: np.ones([length or 1 for length in spec.shape], spec.dtype) for spec in inputs
    }
    settings = {"normalisations": {}, "input_range": None, "seed": 0, **others}
    return Drawing(inputs=inputs, example=example, repeats=repeats, **settings)  # type: ignore[arg-type]


def test_shapes_and_types_are_the_example_s() -> None:
    feeds = list(varied_feeds(drawing(X, LOW, TOKENS, STATE)))
    assert len(feeds) == 5
    for feed in feeds:
        assert feed.samples == 4
        shapes = {name: values.shape for name, values in feed.feeds.items()}
        assert shapes == {"x": (4, 3, 8, 8), "low": (), "tokens": (4, 5), "state": (2, 4, 4)}
        assert feed.feeds["state"].dtype == np.float16
        assert feed.feeds["tokens"].dtype == np.int64
    again = list(varied_feeds(drawing(X, LOW, TOKENS, STATE)))
    np.testing.assert_array_equal(feeds[3].feeds["x"], again[3].feeds["x"])
    assert len({feed.words for feed in feeds}) == 5


def test_scales_differ_where_none_is_known() -> None:
    largest = [np.abs(feed.feeds["x"]).max() for feed in varied_feeds(drawing(X))]
    assert min(largest) <= 1
    assert max(largest) > 200


def test_a_declared_range_and_a_normalisation_are_kept() -> None:
    for feed in varied_feeds(drawing(X, input_range=(10.0, 20.0))):
        assert 10 <= feed.feeds["x"].min() < 15 < feed.feeds["x"].max() <= 20
    # What the model makes 0 on average is 100 before.
    normalised = Normalisation(np.array(0.1), np.array(-10.0))
    for feed in varied_feeds(drawing(X, normalisations={"x": normalised})):
        assert abs(feed.feeds["x"].mean() - 100) < 10
        assert feed.feeds["x"].std() < 30


def test_settings_have_magnitudes_of_their_own() -> None:
    feeds = list(varied_feeds(drawing(X, LOW, HIGH)))
    low, high = (np.array([float(feed.feeds[name]) for feed in feeds]) for name in ("low", "up"))
    assert low.max() / low.min() > 1000
    assert np.sum(low < high) >= 3
    # A single input is no setting, however small.
    (alone,) = {float(np.sign(feed.feeds["low"])) for feed in list(varied_feeds(drawing(LOW)))[1:2]}
    assert alone == 1
    assert max(abs(float(feed.feeds["low"])) for feed in varied_feeds(drawing(LOW))) < 256


def test_places_in_a_table_are_the_example_s_where_others_do_not_run() -> None:
    def runs(feeds: Mapping[str, np.ndarray]) -> bool:
        return bool(feeds["tokens"].max() < 2)

    feeds = list(varied_feeds(drawing(X, TOKENS), runs))
    assert len(feeds) == 5
    assert all(feed.feeds["tokens"].max() < 2 for feed in feeds)
    assert list(varied_feeds(drawing(X, TOKENS), lambda feeds: False)) == []


def test_what_may_be_put_together() -> None:
    assert repeatable([X, LOW, STATE])
    assert not repeatable([X, InputSpec("y", np.dtype(np.float32), (1, 4))])
    assert not repeatable([LOW])


ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


def test_whether_an_output_varies() -> None:
    for runs, varies in (
        ([ROWS], True),
        ([np.tile(ROWS[1], (4, 1))], False),
        # To rounding.
        ([np.tile(ROWS[1], (4, 1)) * np.float32(1 + 2e-7), np.tile(ROWS[1], (4, 1))], False),
        ([np.tile(ROWS[1], (4, 1)), np.tile(ROWS[2], (4, 1))], True),
        # Anchors: rows that are not samples.
        ([ROWS[:3], ROWS[:3]], False),
        ([np.full((4, 2), np.nan, np.float32)], False),
        ([np.array([3, 3, 3, 3])], False),
        ([np.array([3, 3, 4, 3])], True),
        ([np.array(["a"] * 4, object), np.array(["b"] * 4, object)], True),
        ([[ROWS[0]], [ROWS[0], ROWS[0]]], True),
        ([np.float32(1), np.float32(1)], False),
    ):
        variation = OutputVariation()
        for one in runs:
            variation.add(output_value(one), 4)
        assert variation.varies == varies
