"""Inputs of several sizes on which a model runs, found by running it."""

from pathlib import Path

import numpy as np
from graphs import model_proto, normal, saved

from onnx_relusv.measuring.trials import Trials, further_feeds, input_axes
from onnx_relusv.runtime.session import CPU, Session


def test_sizes_that_run_are_found_behind_some_that_are_refused(tmp_path: Path) -> None:
    # The element at 299 has to be there, which the walk over shapes does not see in a GatherND.
    proto = model_proto(
        """
        (float[N, 1, T] x) => (float[N, 4, P] y) {
            late = GatherND(x, place)
            more = Add(x, late)
            y = Conv(more, W)
        }
        """,
        {"W": normal(4, 1, 3), "place": np.array([[0, 0, 299]])},
    )
    model = saved(proto, tmp_path)
    session = Session(model.path, CPU)
    trials = Trials(session, next(input_axes(model)), np.random.default_rng(0))
    found = [feeds["x"].shape for feeds in trials.several((1, 3, 2), 2)]
    assert len(found) == 2
    assert all(length >= 300 for _, _, length in found)
    tried = [lengths["T"] for lengths in trials.tried]
    # Nothing that is shorter is tried any more once a length is known.
    known = next(place for place, length in enumerate(tried) if length >= 300)
    assert all(length >= tried[known] for length in tried[known:])
    again = further_feeds(session, model, np.random.default_rng(0), 2)
    assert [feeds["x"].shape for feeds in again] == found
