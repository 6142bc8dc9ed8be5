"""What every file has passed before it gets its name; stronger than `onnx.checker`.

1. ONNX's full check finds nothing that it does not find in the original too.
2. Every per-channel operand has the length of its channels.
3. Inputs, outputs, types, dynamic axes, operator sets, functions and metadata are the original's.
4. onnxruntime opens it with graph optimisation off and at its highest level, both agree about as
   well as they do for the original, and a repeated run gives identical answers.
5. It equals the reference, the original graph with dense composed kernels, to float rounding at
   every block and output, on samples and on random inputs; and every block's level is the one that
   the plan states.
6. It is smaller, external data included.
"""

from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path

import numpy as np

from onnx_relusv.checking.runs import run_checks
from onnx_relusv.core.blocks import Block
from onnx_relusv.core.errors import InputError, ValidationError
from onnx_relusv.core.results import Check, Verdict
from onnx_relusv.graph.checks import checker_problem, operand_problems, signature_differences
from onnx_relusv.graph.model import Model, read_model
from onnx_relusv.graph.reference import runnable
from onnx_relusv.measuring.trials import further_feeds
from onnx_relusv.rewrites.apply import Claim
from onnx_relusv.runtime.session import Session
from onnx_relusv.samples.samples import Samples

_SAMPLE_BATCH = 16
# What one session may show of the blocks' answers at once.
_SHOWN_BYTES = 128 << 20
_SIZES = 2

Feeds = dict[str, np.ndarray]


def validate(
    original: Model,
    staged: Path,
    claim: Claim,
    samples: Samples | None,
    *,
    provider: str,
    rng: np.random.Generator,
    lean: bool = False,
    bytes_: int | None = None,
) -> Verdict:
    """Runs all checks on a staged file.

    Args:
        original: The original.
        staged: The file, alone with its data in a folder.
        claim: What it claims to be.
        samples: Some of them are run; None where there are none.
        provider: The execution provider.
        rng: Draws inputs, and moves weights.
        lean: Whether weights are so large that they are read where they lie, one model at a time.
        bytes_: Of the file that is written in the place of this one, external data included; None
            where it is this one.

    Raises:
        ValidationError: A check failed; the message names it.
    """
    written = read_model(staged)
    feeds = list(_feeds(original, samples, provider, rng, _batch(claim.blocks), lean=lean))
    checks = [_checker(original, staged), _operands(written), _signature(original, written)]
    runs = run_checks(
        original, staged, written, claim, feeds, provider=provider, rng=rng, lean=lean
    )
    try:
        checks.extend(runs.levels())
        same, errors = runs.reference(first_alone=samples is not None)
    except InputError as error:
        # The original has run on all of these inputs, so the result is to blame.
        raise ValidationError(f"the result does not run as the original does: {error}") from error
    checks.append(same)
    smaller = _smaller(original, written.bytes if bytes_ is None else bytes_)
    return Verdict((*checks, _stated(claim), smaller), errors)


def _checker(original: Model, staged: Path) -> Check:
    problem = checker_problem(staged)
    if problem is None:
        return Check("onnx.checker", "the full check with strict shape inference passes")
    before = checker_problem(original.path)
    if before is None or _kind(problem, staged) != _kind(before, original.path):
        raise ValidationError(f"onnx.checker refuses the result: {problem}")
    return Check("onnx.checker", f"fails as the original does: {before.splitlines()[0]}")


def _kind(problem: str, path: Path) -> str:
    # Shape inference words one and the same problem differently behind different nodes.
    return "inference" if "ShapeInferenceError" in problem else problem.replace(str(path), "")


def _operands(written: Model) -> Check:
    problems = operand_problems(written.proto)
    if problems:
        raise ValidationError(f"operands of a wrong length: {'; '.join(problems)}")
    return Check("operands", "every per-channel operand has the length of its channels")


def _signature(original: Model, written: Model) -> Check:
    differences = signature_differences(original.proto, written.proto)
    if differences:
        raise ValidationError(f"the result does not look like the original: {differences}")
    return Check("signature", "inputs, outputs, types, axes, operator sets, functions, metadata")


def _smaller(original: Model, bytes_: int) -> Check:
    if bytes_ >= original.bytes:
        raise ValidationError(f"the result has {bytes_} bytes, the original {original.bytes}.")
    return Check("smaller", f"{bytes_} of {original.bytes} bytes")


def _batch(blocks: Sequence[Block]) -> int:
    """How many samples run at once; several sessions show all blocks' answers side by side."""
    each = sum(4 * prod(block.output_shape) for block in blocks)
    return min(_SAMPLE_BATCH, max(1, _SHOWN_BYTES // max(each, 1)))


def _feeds(
    original: Model,
    samples: Samples | None,
    provider: str,
    rng: np.random.Generator,
    length: int,
    *,
    lean: bool,
) -> Iterator[Feeds]:
    """Samples, and random inputs of two sizes where axes are dynamic."""
    if samples is not None:
        yield next(iter(samples.batches(length, limit=length))).feeds
    session = Session(runnable(original), provider, packed=not lean, alone=False)
    found = 0
    for feeds in further_feeds(session, original, rng, _SIZES):
        yield feeds
        found += 1
    if not found and samples is None:
        raise InputError("the model runs on none of the random inputs that were tried.")


def _stated(claim: Claim) -> Check:
    worst = max(claim.levels.values(), default=0.0)
    return Check("stated level", f"every block keeps the level stated for it, {worst:.4g} at most")
