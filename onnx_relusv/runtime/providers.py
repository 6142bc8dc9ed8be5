"""Execution providers: where graphs run, by the names that users give, and what runs elsewhere.

Models run where it was asked for, as they will in use. The graphs of this package that measure run
on the CPU, or on CUDA: they compute in float64 or hold to float32, which is what their results
claim, and other providers promise neither.
"""

import io
import json
import warnings
from collections import Counter
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from functools import cache

import numpy as np

from onnx_relusv.core.blocks import Runnable
from onnx_relusv.core.errors import UsageError
from onnx_relusv.runtime.cuda_trouble import GPU_INSTALL, captured_errors, cuda_trouble
from onnx_relusv.runtime.session import (
    CPU,
    CUDA,
    ProviderWarning,
    Session,
    check_installed,
    smallest_model,
)
from onnx_relusv.work.temporary_files import temporary_folder

try:
    import onnxruntime
except ImportError:  # reported by `check_installed`
    onnxruntime = None

_ENDING = "ExecutionProvider"
# What others call them.
_ALIASES = {"directml": "dml"}
_ERRORS, _ONLY_FATAL = 3, 4
# Kinds of nodes in a message.
_NAMED = 5


def choose_provider(name: str) -> str:
    """The execution provider of a name.

    Args:
        name: ``auto`` takes CUDA where onnxruntime offers it and a small graph really runs on it;
            where it offers it and none does, a warning says why. Otherwise the name of a provider,
            with or without ``ExecutionProvider`` and in any case.

    Raises:
        UsageError: onnxruntime does not offer it, or a small graph does not run on it.
    """
    check_installed()
    offered: list[str] = list(onnxruntime.get_available_providers())
    if name == "auto":
        return _automatic(offered)
    short = _short(name)
    if short == _short(CPU):
        return CPU
    if short == _short(CUDA):
        problem = _cuda_problem() if CUDA in offered else None
        if CUDA not in offered:
            problem = f"this onnxruntime has no CUDA provider; {GPU_INSTALL} brings one"
        if problem is not None:
            raise UsageError(f"--provider {name}: {problem}. Use --provider cpu or auto.")
        return CUDA
    found = next((each for each in offered if _short(each) == short), None)
    if found is None:
        listed = ", ".join(each.removesuffix(_ENDING) for each in offered)
        raise UsageError(
            f"--provider {name}: this onnxruntime offers {listed}. Use one of them, or auto; "
            "others come with other builds of onnxruntime."
        )
    problem = _problem(found)
    if problem is not None:
        raise UsageError(f"--provider {name}: {problem}. Use --provider cpu or auto.")
    return found


def kernels_on(provider: str) -> str:
    """The provider that graphs of this package run on where models run on some provider."""
    return CUDA if provider == CUDA else CPU


def warn_of_cpu_nodes(source: Runnable, provider: str, feeds: Mapping[str, np.ndarray]) -> None:
    """Warns of what of a model a provider leaves to the CPU.

    Not of CUDA: there, what computes shapes runs on the CPU by design.

    Args:
        source: The model.
        provider: The provider in force.
        feeds: What it runs on.
    """
    if provider in (CPU, CUDA):
        return
    counts = _nodes(source, provider, feeds)
    left = counts.pop(CPU, Counter())
    if not left:
        return
    kinds = [f"{count} {operator}" for operator, count in left.most_common(_NAMED)]
    more = f" and {len(left) - _NAMED} other kinds" if len(left) > _NAMED else ""
    extent = "" if counts else "all nodes, "
    warnings.warn(
        f"{provider} leaves a part of the model to the CPU: {extent}{', '.join(kinds)}{more}.",
        ProviderWarning,
        stacklevel=2,
    )


def _short(name: str) -> str:
    short = name.casefold().removesuffix(_ENDING.casefold())
    return _ALIASES.get(short, short)


def _automatic(offered: list[str]) -> str:
    problem = _cuda_problem() if CUDA in offered else None
    if CUDA in offered and problem is None:
        return CUDA
    if CUDA in offered:
        warnings.warn(
            f"CUDA does not work, so all runs on the CPU: {problem}. Ask for --provider cpu to "
            "leave it alone.",
            ProviderWarning,
            stacklevel=3,
        )
    return CPU


@cache
def _problem(provider: str) -> str | None:
    """Why a provider cannot be used, or None if it can."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ProviderWarning)
        try:
            counts = _nodes(smallest_model(), provider, {"x": np.zeros(1, np.float32)})
        except Exception as error:  # whatever its libraries say, it does not work
            return f"{provider} does not work ({error})".rstrip(".")
    return None if provider in counts else f"{provider} does not run a small graph; the CPU does"


def _nodes(
    source: Runnable, provider: str, feeds: Mapping[str, np.ndarray]
) -> dict[str, Counter[str]]:
    """By provider, how many nodes of each operator it runs, as a profile of a run has them."""
    with temporary_folder() as folder:
        session = Session(source, provider, profile=folder / "profile")
        session.run(feeds)
        events = json.loads(session.end_profile().read_text(encoding="utf-8"))
    found: dict[str, Counter[str]] = {}
    seen = set()
    for event in events:
        about = event.get("args", {})
        if event.get("cat") == "Node" and "provider" in about and event["name"] not in seen:
            seen.add(event["name"])  # a node of a Loop runs several times
            found.setdefault(about["provider"], Counter())[about["op_name"]] += 1
    return found


@cache
def _cuda_problem() -> str | None:
    """Why CUDA cannot be used, or None if it can."""
    printed = io.StringIO()
    # The reason is in onnxruntime's log alone, and not in the exceptions that it raises.
    onnxruntime.set_default_logger_severity(_ERRORS)
    try:
        with captured_errors() as written, redirect_stdout(printed), redirect_stderr(printed):
            problem = _run_on_cuda()
    finally:
        onnxruntime.set_default_logger_severity(_ONLY_FATAL)
    return None if problem is None else cuda_trouble("\n".join((*written, problem)))


def _run_on_cuda() -> str | None:
    """The message of what is raised when a small graph runs on CUDA; empty if it runs elsewhere."""
    try:
        if hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()
        session = Session(smallest_model(), CUDA)
        session.run({"x": np.zeros(1, np.float32)})
    except Exception as error:  # whatever the driver or the libraries say, CUDA does not work
        return str(error)
    return None if session.provider == CUDA else ""
