"""A model with its samples and its workspace in one record, as tests hand them about."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from onnx_relusv.core.metric import Metric
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.measuring.case import Case, Workspace, split_inputs
from onnx_relusv.measuring.case import open_model as read_and_search
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.samples.split import for_certifying, nothing_aside


class Opened(NamedTuple):
    """What `open_model` gives, together."""

    case: Case
    inputs: Inputs
    workspace: Workspace

    def with_inputs(self, **changes: Any) -> "Opened":
        """The same with other inputs."""
        return self._replace(inputs=replace(self.inputs, **changes))

    def with_workspace(self, **changes: Any) -> "Opened":
        """The same in another workspace."""
        return self._replace(workspace=replace(self.workspace, **changes))


def open_model(
    path: Path, samples: Path | None, options: MeasureOptions, metric: Metric | None = None
) -> Opened:
    """A model that was read, run once and searched for blocks."""
    return Opened(*read_and_search(path, samples, options, metric))


def divided(opened: Opened, *, certifying: bool = False) -> Opened:
    """With its samples split."""
    options = opened.workspace.options
    found = split_inputs(
        opened.case, opened.inputs, options, for_certifying if certifying else nothing_aside
    )
    return opened._replace(inputs=found)
