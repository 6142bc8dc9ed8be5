"""Where unusable numbers, NaN, infinite or too large, begin: the first operator that makes them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from onnx_relusv.core.blocks import Block
from onnx_relusv.core.errors import InputError
from onnx_relusv.core.linear_algebra import UnusableValuesError, is_floating, problem_of, problems
from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.protos import used_names
from onnx_relusv.graph.reference import runnable
from onnx_relusv.runtime.session import Session
from onnx_relusv.samples.samples import Batch, Samples

# Samples that show whether numbers are unusable for all samples alike.
_SHOWN = 8


def explained(
    error: UnusableValuesError, model: Model, samples: Samples, provider: str, *, blind: bool
) -> InputError:
    """Unusable numbers, as an error for the user.

    Args:
        error: The tensor, and the positions of the samples.
        model: The model that computes it.
        samples: The samples.
        provider: Execution provider.
        blind: Whether the samples are synthetic.
    """
    part = samples.part(np.array(error.positions[:1]))
    feeds = next(iter(part.batches(1))).feeds
    origin = first_maker(model, error.tensor, feeds, provider)
    first, more = samples.positions[error.positions[0]], len(error.positions) - 1
    others = f" and {more} more" if more else ""
    if blind:
        return InputError(
            f"{model.name}: on synthetic inputs the tensor {error.tensor} holds {error.problem}"
            f"{origin}. Give real ones with --samples."
        )
    return InputError(
        f"{samples.name}: for sample {first}{others} the model computes {error.problem} in the "
        f"tensor {error.tensor}{origin}. Leave such samples out, or mend the model."
    )


@dataclass(frozen=True)
class Numbers:
    """Whether a model's numbers on its first samples are usable.

    Attributes:
        reasons: By key, why blocks stay whose input or answer is unusable for each of them.
        problem: Why nothing can be planned; None where something can.
    """

    reasons: dict[str, str]
    problem: str | None


def numbers_of(
    model: Model, blocks: Sequence[Block], session: Session, samples: Samples, provider: str
) -> Numbers:
    """Runs the first samples and finds the tensors that are unusable for all of them.

    Args:
        model: The model.
        blocks: Its blocks.
        session: The model with the inputs and outputs of their linear maps as outputs.
        samples: The samples.
        provider: Execution provider.
    """
    first = {block.key: model.proto.graph.node[block.nodes[0]].output[0] for block in blocks}
    tensors = dict.fromkeys([*(block.source for block in blocks), *first.values()])
    batch, values = _some(session, samples, [*tensors, *model.output_names])
    unusable: dict[str, str] = {}
    for name in tensors:
        wrong = problems(values[name], batch.count, batch.size) if name in values else {}
        if len(wrong) == batch.count:
            unusable[name] = (
                f"{wrong[0]} for each of the first {batch.count} samples"
                f"{first_maker(model, name, batch.feeds, provider)}"
            )
    reasons: dict[str, str] = {}
    for block in blocks:
        for what, name in (("input", block.source), ("answer", first[block.key])):
            if name in unusable:
                reasons.setdefault(block.key, f"its {what} {name} holds {unusable[name]}")
    problem = None
    if blocks and len(reasons) == len(blocks):
        key = blocks[0].key
        problem = f"no block can be measured. The first is {key}: {reasons[key]}"
    if not any(_is_comparable(values[name]) for name in model.output_names if name in values):
        name = model.output_names[0]
        origin = first_maker(model, name, batch.feeds, provider)
        problem = f"no output holds one finite number, so nothing can be compared: {name}{origin}"
    return Numbers(reasons, problem)


def _some(
    session: Session, samples: Samples, tensors: Iterable[str]
) -> tuple[Batch, dict[str, np.ndarray]]:
    """The first few samples, a single one where the model runs on no more, and their tensors."""
    names = [name for name in dict.fromkeys(tensors) if name in session.output_types]
    batch = next(iter(samples.batches(_SHOWN, limit=_SHOWN)))
    try:
        values = session.run(batch.feeds, names) if names else {}
    except InputError:
        batch = next(iter(samples.batches(1, limit=1)))
        values = session.run(batch.feeds, names)
    return batch, {**batch.feeds, **values}


def _is_comparable(values: object) -> bool:
    """Whether an output has an entry that can be compared."""
    if not isinstance(values, np.ndarray) or not is_floating(values):
        return True
    return not values.size or bool(np.isfinite(values).any())


def first_maker(model: Model, tensor: str, feeds: Mapping[str, np.ndarray], provider: str) -> str:
    """The operator that makes unusable numbers of usable ones, before a tensor.

    Args:
        model: The model.
        tensor: Holds such numbers for these feeds.
        feeds: Of one sample.
        provider: Execution provider.

    Returns:
        Words to follow the tensor's problem; empty where the operator is not found.
    """
    makers = {name: node for node in model.proto.graph.node for name in node.output if name}
    inner = list(dict.fromkeys(_in_front(makers, tensor)))
    try:
        session = Session(runnable(model, exposed=inner), provider, lean=True)
        shown = [name for name in inner if session.output_types[name].startswith("tensor(")]
        values = {**feeds, **(session.run(feeds, shown) if shown else {})}
    except (InputError, MemoryError):
        return ""
    constants, name = Constants(model), tensor
    while name in makers:
        node = makers[name]
        wrong = [
            source for source in dict.fromkeys(used_names([node])) if is_wrong(values.get(source))
        ]
        if wrong and wrong[0] in makers:
            name = wrong[0]
            continue
        what = f"the operator {node.op_type} that makes {name}"
        for source in used_names([node]):
            array = constants.array(source) if source not in values else None
            if is_wrong(array):
                assert array is not None  # an absent one is not wrong
                return f"; it begins at {what}, whose constant {source} holds {problem_of(array)}"
        if wrong:
            return f"; the sample itself holds {problem_of(values[wrong[0]])} in {wrong[0]}"
        return f"; it begins at {what}"
    return ""


def is_wrong(values: np.ndarray | None) -> bool:
    """Whether an array holds unusable numbers."""
    return values is not None and is_floating(values) and problem_of(values) is not None


def _in_front(makers: Mapping[str, NodeProto], tensor: str) -> Iterator[str]:
    """A tensor and all that it depends on, as far as nodes make it."""
    pending, seen = [tensor], set()
    while pending:
        name = pending.pop()
        if name in makers and name not in seen:
            seen.add(name)
            yield name
            pending.extend(used_names([makers[name]]))
