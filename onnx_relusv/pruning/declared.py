"""What was declared of a model's inputs, held against the samples that there are."""

from onnx_relusv.errors import InputError
from onnx_relusv.samples import Samples

_BATCH = 256


def check_range(samples: Samples, input_range: tuple[float, float]) -> None:
    """Checks that no sample contradicts what units are certified by.

    Args:
        samples: All that there are.
        input_range: Between which numbers all inputs lie, as far as their own type tells.

    Raises:
        InputError: One lies outside.
    """
    for batch in samples.batches(_BATCH):
        for name, values in batch.feeds.items():
            if values.dtype.kind not in "fiu" or not values.size:
                continue
            low, high = input_range
            if values.dtype.kind == "f":
                low, high = (float(values.dtype.type(end)) for end in input_range)
            for value in (values.min(), values.max()):
                if not low <= value <= high:
                    raise InputError(
                        f"{samples.path}: input {name} has the value {value:g}, outside "
                        f"--input-range {input_range[0]:g} {input_range[1]:g}."
                    )
