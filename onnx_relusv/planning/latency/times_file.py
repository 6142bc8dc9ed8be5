"""Times of a model's variants as a JSON file: measured on one machine, planned by on another.

The file is bound to its model by a hash, and to a number of samples in a run. What it says of
blocks is held against the model before anything is made of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from onnx_relusv.core.blocks import Block
from onnx_relusv.core.codec import Count, FieldError, Whole, from_data, json_text, to_data
from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.core.options import PlanOptions
from onnx_relusv.core.plans import Int8Format, TimedOn
from onnx_relusv.core.reduction import block_of_size
from onnx_relusv.measuring.case import Case
from onnx_relusv.planning.latency.models import length
from onnx_relusv.planning.latency.variants import TimedBlock, TimedVariant
from onnx_relusv.rewrites.low_rank.forms import FORMS, available_forms
from onnx_relusv.work.json_file import read_json

SCHEMA = "onnx-relusv/latency"
SCHEMA_VERSION = 1
_LARGEST_FILE = 256 << 20


@dataclass(frozen=True, kw_only=True)
class ModelTimes:
    """What variants of a model take on a machine.

    Attributes:
        model_sha256: Of the model file and its external data.
        timed_on: The machine.
        batch: Samples in a run.
        pack: Channels that its kernels of 2-D Convs compute at once; None where times do not show
            any.
        int8_format: What layers of integers read; None where none were timed.
        seed: What drew inputs and weights.
        variants: What was timed.
    """

    model_sha256: str
    timed_on: TimedOn
    batch: Count
    pack: Count | None
    int8_format: Int8Format | None
    seed: Whole
    variants: tuple[TimedVariant, ...]

    def problem(self) -> str | None:
        """What is wrong with it as a whole."""
        return None if self.variants else "no variant was timed; measure again."


def times_text(times: ModelTimes) -> str:
    """The times as JSON; `read_times` gives the same times back."""
    head = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION}
    return json_text({**head, **to_data(times)}) + "\n"


def read_times(path: Path) -> ModelTimes:
    """Reads times and checks every field.

    Raises:
        InputError: The file cannot be read, is no file of times, or a field is missing, unknown or
            out of range.
    """
    data = read_json(path, "times", _LARGEST_FILE)
    if not isinstance(data, dict) or data.pop("schema", None) != SCHEMA:
        raise InputError(
            f"{path}: no times of onnx-relusv (schema {SCHEMA}). Make them with measure-latency."
        )
    version = data.pop("schema_version", None)
    if type(version) is not int or version != SCHEMA_VERSION:
        raise InputError(
            f"{path}: schema version {version}, but this version reads {SCHEMA_VERSION}. Measure "
            "again."
        )
    try:
        found = from_data(ModelTimes, data)
    except FieldError as error:
        raise InputError(f"{path}: {error} Measure again.") from error
    return replace(found, timed_on=replace(found.timed_on, from_file=True))


def times_for(case: Case, planning: PlanOptions) -> ModelTimes | None:
    """The times that plans are to go by, held against the model; None where no file was named.

    Raises:
        UsageError: They do not go with the other options.
        InputError: They cannot be read, or are of something else.
    """
    path = planning.times
    if path is None:
        return None
    if planning.uses_fp16:
        raise UsageError("--times does not go with --precision fp16: no such kernels are timed.")
    found, batch = read_times(path), length(case, planning.batch)
    if found.model_sha256 != case.model.sha256:
        raise InputError(
            f"{path}: the times are of another model (sha256 {found.model_sha256[:12]}..., "
            f"{case.model.name} has {case.model.sha256[:12]}...). Measure this one with "
            "measure-latency."
        )
    if found.batch != batch:
        raise InputError(
            f"{path}: the times are of runs with {found.batch} samples, and plans are to be for "
            f"{batch}. Say --batch {found.batch}, or measure again with --batch {batch}."
        )
    if planning.uses_int8 and found.int8_format != planning.int8_format:
        timed = "no integers" if found.int8_format is None else f"integers of {found.int8_format}"
        raise InputError(
            f"{path}: the times have {timed}. Measure again with --precision int8 --int8-format "
            f"{planning.int8_format}."
        )
    blocks = {block.key: block for block in case.blocks}
    for variant in found.variants:
        for one in variant.blocks:
            if not _possible(one, blocks):
                raise InputError(
                    f"{path}: block {one.key} cannot be as the times say. Measure again."
                )
    return found


def _possible(one: TimedBlock, blocks: Mapping[str, Block]) -> bool:
    """Whether a block can become what was timed."""
    block = blocks.get(one.key)
    if block is None:
        return False
    whole = block.geometry
    if one.inputs > whole.in_channels // whole.groups or one.outputs > whole.out_channels:
        return False
    form = FORMS.get(one.form)
    if form is None or not (form.one_layer or one.form in available_forms(whole)):
        return False
    left = block_of_size(block, one.inputs, one.outputs).geometry
    return one.rank <= form.largest_rank(left)
