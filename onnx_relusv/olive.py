"""A pass for Olive: `compress` as a step of its workflows.

Olive finds passes in a package configuration, which `write_package_config` writes: its own list and
this pass. Samples come through a data configuration of Olive's, or from a file of ours. This
module needs the package olive-ai; nothing else here does.
"""

import json
import logging
from pathlib import Path
from typing import Any, ClassVar

from olive.data.config import DataConfig
from olive.hardware.accelerator import AcceleratorSpec
from olive.model import ONNXModelHandler
from olive.model.utils import resolve_onnx_path
from olive.package_config import OlivePackageConfig
from olive.passes import Pass
from olive.passes.pass_config import BasePassConfig, PassConfigParam
from olive.search.search_parameter import Categorical

from onnx_relusv.commands.compress import compress
from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.options import MeasureOptions, PlanOptions
from onnx_relusv.core.plans import Budgets
from onnx_relusv.samples.sources import Reader
from onnx_relusv.work.files import write_text

NAME = "OnnxReluSv"
_logger = logging.getLogger(__name__)
_BUDGETS = ("size", "macs", "latency", "tolerance", "max_drop")
_PLANNING = ("method", "precision", "int8_format", "include", "exclude")
_MEASURING = ("max_samples", "seed", "memory", "cache")


class OnnxReluSv(Pass):  # type: ignore[misc]
    """Makes an ONNX model smaller without training, and checks the result before it is written.

    Its parameters are the options of `compress`; a search of Olive's tries sizes and precisions.
    """

    _accepts_composite_model: ClassVar[bool] = False

    @classmethod
    def _default_config(cls, accelerator_spec: AcceleratorSpec) -> dict[str, Any]:
        def share(what: str, tried: list[float] | None = None) -> Any:
            return PassConfigParam(
                type_=float | None,
                default_value=None,
                search_defaults=None if tried is None else Categorical(tried),
                description=f"{what} to keep.",
            )

        return {
            "size": share("Share of the bytes, external data included,", [0.5, 0.25, 0.125]),
            "macs": share("Share of the multiply-accumulates"),
            "latency": share("Share of the measured time of a run"),
            "tolerance": PassConfigParam(
                type_=float | None,
                default_value=None,
                description="Largest relative error of any block.",
            ),
            "max_drop": PassConfigParam(
                type_=float | None,
                default_value=None,
                description="The smallest file that is certified to lose as many points at most.",
            ),
            "precision": PassConfigParam(
                type_=str,
                default_value="keep",
                search_defaults=Categorical(["keep", "int8"]),
                description="What blocks are computed with: keep, int8 or fp16.",
            ),
            "int8_format": PassConfigParam(
                type_=str,
                default_value="u8s8",
                description="u8s8 for CPUs, s8s8 for TensorRT and accelerators.",
            ),
            "method": PassConfigParam(
                type_=str,
                default_value="auto",
                description="auto, double-layer or harmonic.",
            ),
            "include": PassConfigParam(
                type_=list[str],
                default_value=[],
                description="Change only blocks that these patterns match.",
            ),
            "exclude": PassConfigParam(
                type_=list[str], default_value=[], description="Keep what these patterns match."
            ),
            "data_config": PassConfigParam(
                type_=DataConfig | dict | None,
                default_value=None,
                description="Data configuration of the samples; without labels, as of calibration.",
            ),
            "samples": PassConfigParam(
                type_=str | None,
                default_value=None,
                description="File or folder of the samples, in place of a data configuration.",
            ),
            "max_samples": PassConfigParam(
                type_=int | None, default_value=None, description="Samples that are drawn at most."
            ),
            "seed": PassConfigParam(
                type_=int, default_value=0, description="Makes a run repeatable."
            ),
            "memory": PassConfigParam(
                type_=int,
                default_value=MeasureOptions().memory,
                description="MiB that a run may take, about.",
            ),
            "cache": PassConfigParam(
                type_=str | None,
                default_value=None,
                description="Folder where what was measured is kept for the next run.",
            ),
        }

    def _run_for_config(
        self, model: ONNXModelHandler, config: type[BasePassConfig], output_model_path: str
    ) -> ONNXModelHandler:
        options = config.model_dump()
        provider = str(self.accelerator_spec.execution_provider or "auto")
        output = Path(resolve_onnx_path(output_model_path, Path(model.model_path).name))
        output.parent.mkdir(parents=True, exist_ok=True)
        done = compress(
            Path(model.model_path),
            output,
            samples=_samples(model, config.data_config, options["samples"], provider),
            planning=PlanOptions(
                budgets=Budgets(**{name: options[name] for name in _BUDGETS}),
                **{name: _plain(options[name]) for name in _PLANNING},
            ),
            measuring=MeasureOptions(
                provider=provider, **{name: _as_path(name, options[name]) for name in _MEASURING}
            ),
            # Olive's own cache keeps results; what lies there is of a run that was interrupted.
            force=True,
            command="onnx_relusv.olive",
        )
        for warning in done.warnings:
            _logger.warning(warning)
        if done.assessment is not None:
            _logger.info(done.assessment.conclusion)
        # Beside the model may lie its external data, which goes with the folder.
        return ONNXModelHandler(model_path=output.parent, onnx_file_name=output.name)


def _samples(
    model: ONNXModelHandler, data_config: Any, path: str | None, provider: str
) -> Path | Reader | None:
    if data_config is None:
        return None if path is None else Path(path)
    if path is not None:
        raise UsageError("the pass has samples and a data_config: leave one of them out.")
    if isinstance(data_config, dict):
        data_config = DataConfig.model_validate(data_config)
    reader: Reader = data_config.to_data_container().create_calibration_dataloader(
        model_path=model.model_path,
        io_config=model.io_config,
        calibration_providers=[provider],
    )
    return reader


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _as_path(name: str, value: Any) -> Any:
    return Path(value) if name == "cache" and value is not None else value


def write_package_config(path: str | Path, *, force: bool = False) -> None:
    """Writes a package configuration with Olive's own passes and this one.

    Args:
        path: The JSON file, which `olive run --package-config` takes.
        force: Overwrite an existing file.

    Raises:
        UsageError: The file exists, or cannot be written.
    """
    listed = json.loads(Path(OlivePackageConfig.get_default_config_path()).read_text("utf-8"))
    listed["passes"][NAME] = {
        "module_path": f"{__name__}.{NAME}",
        "supported_providers": ["*"],
        "supported_accelerators": ["*"],
        "supported_precisions": ["*"],
    }
    write_text(json.dumps(listed, indent=2), Path(path), force=force)
