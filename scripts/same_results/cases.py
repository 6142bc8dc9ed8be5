"""The runs that two revisions are compared by."""

from collections.abc import Iterator
from dataclasses import dataclass

MODELS = ("lenet_300_100", "lenet_300_100_sgd", "fashion_mlp", "fashion_resnet", "fashion_vgg")
METHODS = ("auto", "harmonic", "double-layer")
# The working folder holds {models}, a link to the bundled models and samples.
_SAMPLES = ("--samples", "models/fashion_calibration.npz")
_TEST = ("--test", "models/fashion_test.npz")
# Share of the bytes that every model reaches by every method, and of the MACs.
_SIZE, _MACS = "0.5", "0.7"


@dataclass(frozen=True)
class Case:
    """Commands that run one after the other in one folder.

    Attributes:
        name: Unique, and fit for a folder.
        commands: Arguments of the package's command line. The models and samples that are bundled
            lie in the folder `models`; what is written beside it is compared.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]


def quick() -> Iterator[Case]:
    """Runs of a few minutes: every command, method and kind of budget, on small networks."""
    few = (*_SAMPLES, "--max-samples", "500")
    for method in METHODS:
        yield _compress("lenet_300_100", method, ("--size", _SIZE), few)
        yield _compress("lenet_300_100", method, ("--size", _SIZE), ())
    yield _compress("lenet_300_100", "auto", ("--max-drop", "5", "--confidence", "0.8"), few)
    yield _compress("fashion_mlp", "double-layer", ("--tolerance", "0.2"), few)
    yield _compress("fashion_resnet", "double-layer", ("--macs", _MACS), few)
    yield _planned("lenet_300_100", "auto", few)
    yield _swept("lenet_300_100", ("--sizes", "0.5,0.25"), few)
    yield _looked("fashion_mlp", few)
    yield _traced("lenet_300_100", ("--max-samples", "1000"))


def whole() -> Iterator[Case]:
    """Every bundled model, method and kind of budget, with and without samples."""
    some = (*_SAMPLES, "--max-samples", "2000")
    for model in MODELS:
        for samples in (some, ()):
            for method in METHODS:
                yield _compress(model, method, ("--size", _SIZE), samples)
                yield _compress(model, method, ("--macs", _MACS), samples)
                yield _compress(model, method, ("--tolerance", "0.1"), samples)
                yield _planned(model, method, samples)
            yield _looked(model, samples)
        yield _compress(model, "auto", ("--size", "0.125"), some)
        yield _compress(model, "auto", ("--size", _SIZE, "--allocation", "level"), some)
        yield _compress(model, "auto", ("--max-drop", "2", "--confidence", "0.8"), some)
        yield _swept(model, ("--sizes", "0.5,0.25", "--methods", "auto,harmonic"), some)
        yield _traced(model, ("--max-samples", "2000", "--exact"))
    yield _compress("fashion_vgg", "harmonic", ("--size", _SIZE, "--round-to", "8"), some)
    yield _compress("fashion_vgg", "auto", ("--size", _SIZE, "--divergence", "l2"), some)
    yield _compress("fashion_vgg", "auto", ("--size", _SIZE, "--exclude", "op:Gemm"), some)


def _named(*parts: str) -> str:
    return "_".join(part.removeprefix("--").replace(",", "-") for part in parts if part)


def _with(samples: tuple[str, ...]) -> str:
    return "samples" if samples else "without"


def _compress(model: str, method: str, budget: tuple[str, ...], samples: tuple[str, ...]) -> Case:
    source = f"models/{model}.onnx"
    outputs = ("--output", "small.onnx", "--json", "result.json")
    command = ("compress", source, *outputs, "--method", method, *budget, *samples)
    return Case(_named("compress", model, method, *budget, _with(samples)), (command,))


def _planned(model: str, method: str, samples: tuple[str, ...]) -> Case:
    source = f"models/{model}.onnx"
    plan = ("plan", source, "--output", "plan.json", "--method", method, "--size", _SIZE)
    apply = ("apply", source, "plan.json", "--output", "small.onnx", "--json", "result.json")
    name = _named("plan_apply", model, method, _with(samples))
    return Case(name, ((*plan, *samples), (*apply, *samples)))


def _swept(model: str, options: tuple[str, ...], samples: tuple[str, ...]) -> Case:
    command = ("sweep", f"models/{model}.onnx", "--report", "report", "--keep", *options)
    return Case(_named("sweep", model, *options[1:]), ((*command, *samples, *_TEST),))


def _looked(model: str, samples: tuple[str, ...]) -> Case:
    command = ("inspect", f"models/{model}.onnx", "--json", "result.json", *samples)
    return Case(_named("inspect", model, _with(samples)), (command,))


def _traced(model: str, options: tuple[str, ...]) -> Case:
    samples = ("--samples", "models/fashion_test.npz")
    command = ("trace", f"models/{model}.onnx", "--json", "result.json", *samples, *options)
    return Case(_named("trace", model, "exact" if "--exact" in options else ""), (command,))
