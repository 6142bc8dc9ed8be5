"""Models opened and run in onnxruntime on a chosen execution provider.

`Session` is an open model. `Turn` is one that is opened for every run, so that its weights are in
memory only while it runs. Beside these: how many threads onnxruntime gives a session that leaves
the number to it, and the shapes of tensors for one sample. Which provider works is in `providers`.
"""

import ctypes
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from onnx_relusv.core.blocks import Runnable
from onnx_relusv.core.errors import InputError, MissingRuntimeError
from onnx_relusv.work.disk_arrays import released_while_read

try:
    import onnxruntime
except ImportError:  # reported when a graph is to be run, so that --help works without it
    onnxruntime = None

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
# Anything but a fatal error reaches the user as an exception of ours.
_ONLY_FATAL = 4
# Providers' own settings: none computes with fewer digits than float32 has, as TF32 and what some
# choose by themselves do, or comparisons with the CPU would fail.
_SETTINGS: Mapping[str, Mapping[str, str]] = {
    CUDA: {"use_tf32": "0"},
    "OpenVINOExecutionProvider": {"precision": "ACCURACY"},
}
_BFLOAT16 = "tensor(bfloat16)"
# A kind of error, or a place in onnxruntime's source with the function's signature behind it.
_SOURCE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : "
    r"|/(?:[^\s:]*/)?onnxruntime(?:_src)?/\S+?:\d+ "
    r"(?:[^()\n]*\((?:[^()\n]|\([^()\n]*\))*\)(?: const)?(?: \[with [^]\n]*\])? )?"
)
_FOLDER = "session.model_external_initializers_file_folder_path"

# Arrays, or OrtValues that an earlier run left on the device.
Feeds = Mapping[str, Any]


def runtime_version() -> str:
    """The installed onnxruntime's version."""
    check_installed()
    return str(onnxruntime.__version__)


def check_installed() -> None:
    """Raises MissingRuntimeError where there is no onnxruntime."""
    if onnxruntime is None:
        raise MissingRuntimeError(
            "onnxruntime is not installed. Install it for the CPU with "
            '`pip install "onnx-relusv[cpu]"`, or for NVIDIA GPUs with '
            '`pip install "onnx-relusv[gpu]"`; not both.'
        )


class ProviderWarning(UserWarning):
    """Something runs on the CPU, and not where it was to run."""


class Session:
    """A model opened in onnxruntime.

    Args:
        source: A model, or the path of one.
        provider: An execution provider of onnxruntime's, by its full name. What it cannot run, the
            CPU runs; another one than CUDA gets and gives arrays in main memory.
        optimized: Whether onnxruntime may rewrite the graph (its highest level, or none).
        threads: Threads of one operator; 0 for onnxruntime's choice, or as many as there are cores
            that the process is held to.
        lean: Whether weights are read where they are and never copied: nothing is rewritten, as
            with `optimized` False, and nothing is packed for the processor. Such runs are slower.
        packed: Whether weights may be copied and packed for the processor; `lean` excludes it.
        alone: Whether its threads may wait busily for work, which is fastest for a session that
            runs by itself; sessions that take turns would keep each other off the processor.
        profile: Begins the name of a file that says what ran where; None for none.

    Raises:
        InputError: onnxruntime cannot open it.
        MissingRuntimeError: onnxruntime is not installed.
    """

    def __init__(
        self,
        source: Runnable | Path,
        provider: str,
        *,
        optimized: bool = True,
        threads: int = 0,
        lean: bool = False,
        packed: bool = True,
        alone: bool = True,
        profile: Path | None = None,
    ) -> None:
        check_installed()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ONLY_FATAL
        options.intra_op_num_threads = threads or _allowed_threads()
        if profile is not None:
            options.enable_profiling, options.profile_file_prefix = True, str(profile)
        # Its plans are made for one shape each, and hold their memory beside that of the first run.
        options.enable_mem_pattern = False
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = (
            levels.ORT_ENABLE_ALL if optimized and not lean else levels.ORT_DISABLE_ALL
        )
        if lean or not packed:
            options.add_session_config_entry("session.disable_prepacking", "1")
        if not alone:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if isinstance(source, Runnable):
            if source.folder is not None:
                options.add_session_config_entry(_FOLDER, str(source.folder))
            # The session reads these arrays in place, so they have to live as long as it does.
            self._values = {name: as_value(array) for name, array in source.arrays.items()}
            if self._values:
                options.add_external_initializers(list(self._values), list(self._values.values()))
        content = source.model if isinstance(source, Runnable) else str(source)
        self._session = _opened(content, options, provider)
        self.provider: str = self._session.get_providers()[0]
        self.input_names: list[str] = [value.name for value in self._session.get_inputs()]
        # Types are written as onnxruntime does: tensor(float), seq(tensor(int64)).
        self.output_types: dict[str, str] = {
            output.name: output.type for output in self._session.get_outputs()
        }
        self.output_names: list[str] = list(self.output_types)
        self._device = "cuda" if self.provider == CUDA else "cpu"

    def run(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Runs the model.

        Raises:
            InputError: onnxruntime refuses the feeds or fails.
        """
        names = list(self.output_names if outputs is None else outputs)
        with _failing_to("run"):
            ready = {name: _fed(value) for name, value in feeds.items()}
            types = {name: self.output_types[name] for name in names if name in self.output_types}
            if _BFLOAT16 not in types.values():
                return dict(zip(names, self._session.run(names, ready), strict=True))
            # onnxruntime makes no arrays of bfloat16, and no OrtValues but of tensors.
            others = [name for name, kind in types.items() if not kind.startswith("tensor(")]
            tensors = [name for name in names if name not in others]
            values = {
                name: as_value(value) if isinstance(value, np.ndarray) else value
                for name, value in ready.items()
            }
            results = self._session.run_with_ort_values(tensors, values)
            arrays = dict(zip(tensors, map(as_array, results), strict=True))
            if others:
                arrays.update(zip(others, self._session.run(others, ready), strict=True))
            return {name: arrays[name] for name in names}

    def end_profile(self) -> Path:
        """The file that says what ran where, of a session with a `profile`."""
        return Path(self._session.end_profiling())

    def run_on_device(
        self, feeds: Feeds, outputs: Sequence[str], into: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Runs the model and leaves its outputs where they were computed.

        Args:
            feeds: Arrays, or OrtValues that an earlier run left on the device.
            outputs: Names of the requested outputs.
            into: OrtValues of this device that outputs are written to. They may be feeds too, if
                the node that makes the output reads them element by element.

        Returns:
            OrtValues by name.

        Raises:
            InputError: onnxruntime refuses the feeds or fails.
        """
        if any(isinstance(value, np.ndarray) and value.dtype.hasobject for value in feeds.values()):
            # Text cannot be bound, and lies on no device.
            results = self.run(feeds, outputs)
            return {name: on_device(value, self.provider) for name, value in results.items()}
        binding = self._session.io_binding()
        with _failing_to("run"):
            for name, value in feeds.items():
                ready = _fed(value)
                if isinstance(ready, np.ndarray):
                    binding.bind_cpu_input(name, np.ascontiguousarray(ready))
                else:
                    binding.bind_ortvalue_input(name, ready)
            for name in outputs:
                if into is not None and name in into:
                    binding.bind_ortvalue_output(name, into[name])
                else:
                    # bfloat16 cannot be copied back from another device.
                    is_bfloat16 = self.output_types.get(name) == _BFLOAT16
                    binding.bind_output(name, "cpu" if is_bfloat16 else self._device)
            self._session.run_with_iobinding(binding)
        return dict(zip(outputs, binding.get_outputs(), strict=True))


def _opened(content: bytes | str, options: Any, provider: str) -> Any:
    """A model on a provider, and on the CPU where that cannot open it; CUDA has to."""
    providers: list[Any] = [(provider, dict(_SETTINGS.get(provider, {}))), CPU]
    with _failing_to("open"):
        if provider in (CPU, CUDA):
            providers = providers if provider == CUDA else [CPU]
            return onnxruntime.InferenceSession(content, options, providers=providers)
        try:
            return onnxruntime.InferenceSession(content, options, providers=providers)
        except Exception as error:  # onnxruntime has no common base class for its errors
            found = onnxruntime.InferenceSession(content, options, providers=[CPU])
            warnings.warn(
                f"{provider} cannot open a graph, which runs on the CPU: {_first_line(error)}",
                ProviderWarning,
                stacklevel=2,
            )
            return found


@contextmanager
def _failing_to(act: str) -> Iterator[None]:
    """Raises onnxruntime's errors, to open or to run a model, as InputError."""
    try:
        yield
    except Exception as error:  # onnxruntime has no common base class for its errors
        raise InputError(f"onnxruntime cannot {act} the model: {_first_line(error)}") from error


def _fed(value: Any) -> Any:
    """A feed as onnxruntime takes it, which does not support numpy's bfloat16."""
    # A type's name takes long to ask for, and numpy's own types are none of it.
    foreign = isinstance(value, np.ndarray) and value.dtype.isbuiltin != 1
    is_bfloat16 = foreign and value.dtype.name == "bfloat16"
    return as_value(np.ascontiguousarray(value)) if is_bfloat16 else value


def as_array(value: Any) -> np.ndarray:
    """An array as it is, or an OrtValue copied off its device; bfloat16 on the CPU included."""
    if isinstance(value, np.ndarray):
        return value
    if value.data_type() != _BFLOAT16:
        return np.array(value.numpy())
    size = value.tensor_size_in_bytes()
    content = ctypes.string_at(value.data_ptr(), size) if size else b""
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16))
    return np.frombuffer(bytearray(content), dtype).reshape(value.shape())


def on_device(array: np.ndarray, provider: str) -> Any:
    """An array as an OrtValue on a provider's device, so that it is not copied for every run."""
    if provider != CUDA:
        return as_value(array)
    return onnxruntime.OrtValue.ortvalue_from_numpy(array, "cuda", 0)


def as_value(array: np.ndarray) -> Any:
    """An array as an OrtValue, which reads it in place on the CPU; bfloat16 included."""
    if array.dtype.kind == "V" or array.dtype.name == "bfloat16":
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), kind)
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def _first_line(error: Exception) -> str:
    """An error's message without the place in onnxruntime's source."""
    lines = (" ".join(_SOURCE.sub(" ", line).split()) for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)


Shape = tuple[int, ...]


def shapes_for_one(
    values: Mapping[str, object], feeds: Mapping[str, object], batch: int
) -> dict[str, Shape]:
    """The shapes of a run's tensors, had it been of one sample.

    Args:
        values: The model's values for the feeds.
        feeds: Its inputs.
        batch: How many samples these hold.

    Returns:
        Of feeds and values, with the batch divided out of axis 0; tensors alone.
    """
    shapes = {
        name: value.shape
        for name, value in {**values, **feeds}.items()
        if isinstance(value, np.ndarray | np.generic)
    }
    return {
        name: (shape[0] // batch, *shape[1:]) if shape and shape[0] % batch == 0 else shape
        for name, shape in shapes.items()
    }


def _allowed_threads() -> int:
    """Cores that this process is held to; 0 where it may use all.

    onnxruntime's own choice does not look at it: as many threads as the machine has cores, each
    bound to one of them, also to those that other processes were to have.
    """
    if not hasattr(os, "sched_getaffinity"):
        return 0
    allowed = len(os.sched_getaffinity(0))
    return allowed if allowed < (os.cpu_count() or 1) else 0


@cache
def default_threads(listing: Path = Path("/proc/self/task")) -> int | None:
    """Threads that work on one operator; None where the operating system does not list them.

    onnxruntime has no function for it, so they are counted: a session starts all but the calling
    thread. Call it where no other thread starts meanwhile; one that ends does no harm.

    Args:
        listing: A folder with an entry for every thread of this process; Linux has one.
    """
    if not listing.is_dir():
        return None
    before = {entry.name for entry in listing.iterdir()}
    session = Session(smallest_model(), CPU)
    started = {entry.name for entry in listing.iterdir()} - before
    session.run({"x": np.zeros(1, np.float32)})
    return len(started) + 1


def smallest_model() -> Runnable:
    """One node, which any provider should run."""
    value = [helper.make_tensor_value_info(name, 1, [1]) for name in "xy"]
    node = helper.make_node("Relu", ["x"], ["y"])
    graph = helper.make_graph([node], "smallest", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return Runnable(model.SerializeToString(), {})


class Turn:
    """A model that is opened for every run and closed after it; its weights are not copied.

    Opening it takes little where they are mapped, and what is mapped counts as memory in use.
    Arguments and errors are as of `Session`.
    """

    def __init__(self, source: Runnable | Path, provider: str, *, optimized: bool) -> None:
        self._new = partial(
            Session, source, provider, optimized=optimized, packed=False, alone=False
        )
        self._arrays = list(source.arrays.values()) if isinstance(source, Runnable) else []
        session = self._opened()
        self.input_names = session.input_names
        self.output_names = session.output_names

    def run(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Opens the model, runs it as `Session.run` does, and closes it."""
        return self._opened().run(feeds, outputs)

    def _opened(self) -> Session:
        # onnxruntime copies the arrays.
        with released_while_read(self._arrays):
            return self._new()
