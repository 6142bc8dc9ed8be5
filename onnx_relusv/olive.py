"""A pass of Olive: `compress` as a step of its workflows.

Olive finds passes in a package configuration; `write_package_config` writes its own with this pass
beside its others. The pass's parameters are the options of `compress`, under the names that they
have in Python. This module needs the package olive-ai; nothing else here does.
"""

import json
import logging
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin

from onnx_relusv.commands.compress import compress
from onnx_relusv.core.arguments import Option, StrPath, as_path, options_of
from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.metric import Metric
from onnx_relusv.core.options import MeasureOptions, PlanOptions
from onnx_relusv.core.plans import Budgets
from onnx_relusv.samples.sources import Reader
from onnx_relusv.work.files import write_text
from onnx_relusv.work.python_files import load_metric

try:
    from olive.data.config import DataConfig
    from olive.hardware.accelerator import AcceleratorSpec
    from olive.model import ONNXModelHandler
    from olive.model.utils import resolve_onnx_path
    from olive.package_config import OlivePackageConfig
    from olive.passes import Pass
    from olive.passes.pass_config import BasePassConfig, PassConfigParam
    from olive.search.search_parameter import Categorical
except ImportError as error:
    raise ImportError(
        f"onnx_relusv.olive is a pass of Olive, which cannot be imported ({error}): "
        'pip install "onnx-relusv[olive]"'
    ) from error

PASS = "OnnxReluSv"
# Below Olive's own, so that a workflow's `log_severity_level` holds for it.
_logger = logging.getLogger(f"olive.{__name__}")
# What Olive's tuner tries where a workflow searches and says nothing else of them.
_TRIED: dict[str, tuple[Any, ...]] = {"size": (0.5, 0.25, 0.125), "precision": ("keep", "int8")}
_PROVIDER = "provider"


class OnnxReluSv(Pass):  # type: ignore[misc]
    """Makes an ONNX model smaller without training, and checks the result before it is written.

    Its parameters are the options of `compress`, and what it is measured on: a `data_config` of
    Olive's, whose labels are not used, or `samples`, a file or folder as `compress` takes it.
    """

    _accepts_composite_model: ClassVar[bool] = False

    @staticmethod
    def is_accelerator_agnostic(accelerator_spec: AcceleratorSpec) -> bool:
        """Plans go by the time of a run where the model is going to run."""
        return False

    @classmethod
    def _default_config(cls, accelerator_spec: AcceleratorSpec) -> dict[str, Any]:
        options = {
            name: option
            for record in (Budgets, PlanOptions, MeasureOptions)
            for name, option in options_of(record).items()
        }
        return {
            **{name: _parameter(name, option) for name, option in options.items()},
            _PROVIDER: PassConfigParam(
                type_=str,
                default_value=None,
                description="Where models run while they are measured, as of compress --provider. "
                "Without, where the accelerator's run.",
            ),
            "data_config": PassConfigParam(
                type_=DataConfig | dict,
                default_value=None,
                description="The samples, as a data configuration of Olive's; without labels.",
            ),
            "samples": PassConfigParam(
                type_=str,
                default_value=None,
                description="The samples' file or folder, in place of a data configuration.",
            ),
            "report": PassConfigParam(
                type_=str,
                default_value=None,
                description="Folder for report.html and report.json, those of the last run in it.",
            ),
        }

    def _run_for_config(
        self, model: ONNXModelHandler, config: type[BasePassConfig], output_model_path: str
    ) -> ONNXModelHandler:
        report = getattr(config, "report", None)
        if getattr(config, _PROVIDER) is None:
            provider = str(self.accelerator_spec.execution_provider or "auto")
            config = config.model_copy(update={_PROVIDER: provider})
        # Such a path has no ending, and other passes' files lie beside it.
        output = Path(resolve_onnx_path(output_model_path, Path(model.model_path).name))
        output.parent.mkdir(parents=True, exist_ok=True)
        done = compress(
            Path(model.model_path),
            output,
            samples=_samples(model, config),
            planning=PlanOptions(
                budgets=Budgets(**_options(Budgets, config)), **_options(PlanOptions, config)
            ),
            measuring=MeasureOptions(**_options(MeasureOptions, config)),
            report=report,
            # What lies there is of a run that was interrupted: finished ones are in Olive's cache.
            force=True,
            command=__name__,
        )
        for warning in done.warnings:
            _logger.warning("%s", warning)
        if done.assessment is not None:
            _logger.info("%s", done.assessment.conclusion)
        # The folder, since external data lies beside the model.
        return ONNXModelHandler(model_path=output.parent, onnx_file_name=output.name)


def _parameter(name: str, option: Option) -> PassConfigParam:
    """How Olive reads an option; what it may be in JSON, ranges are checked by the records."""
    kind = option.kind
    if get_origin(kind) is tuple:
        kind = list[get_args(kind)[0]]  # type: ignore[misc]
    elif get_origin(kind) is Literal or kind in (Path, Metric):
        kind = str
    elif option.word:
        kind = kind | str
    default = list(option.default) if isinstance(option.default, tuple) else option.default
    tried = _TRIED.get(name)
    return PassConfigParam(
        type_=kind,
        default_value=default,
        search_defaults=None if tried is None else Categorical(list(tried)),
        description=option.help,
    )


def _options(record: type, config: Any) -> dict[str, Any]:
    """The options of a record, as a configuration of the pass has them."""
    found = {name: getattr(config, name) for name in options_of(record)}
    if found.get("metric") is not None:
        found["metric"] = load_metric(found["metric"])
    return found


def _samples(model: ONNXModelHandler, config: Any) -> str | Reader | None:
    path: str | None = config.samples
    data = config.data_config
    if data is None:
        return path
    if path is not None:
        raise UsageError("the pass has samples and a data_config: leave one of them out.")
    if isinstance(data, dict):
        data = DataConfig.model_validate(data)
    reader: Reader = data.to_data_container().create_calibration_dataloader(
        model_path=model.model_path, io_config=model.io_config
    )
    return reader


def write_package_config(path: StrPath, *, force: bool = False) -> None:
    """Writes a package configuration with Olive's own passes and this one.

    Args:
        path: The JSON file, as `olive run --package-config` and `olive.workflows.run` take it.
        force: Overwrite an existing file.

    Raises:
        UsageError: The file exists, or cannot be written.
    """
    path = as_path("path", path)
    listed = json.loads(Path(OlivePackageConfig.get_default_config_path()).read_text("utf-8"))
    listed["passes"][PASS] = {
        "module_path": f"{__name__}.{PASS}",
        "supported_providers": ["*"],
        "supported_accelerators": ["*"],
        "supported_precisions": ["*"],
        "supported_algorithms": [],
        "supported_quantization_encodings": [],
        "dataset": "dataset_optional",
    }
    write_text(json.dumps(listed, indent=2) + "\n", path, force=force)
