"""Two models side by side, and a whole curve of them."""

from onnx_relusv.checking.evaluate import evaluate
from onnx_relusv.checking.limits import ComparisonLimits, check_limits_tell
from onnx_relusv.core.arguments import StrPath, as_path, as_record, check_type
from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.core.metric import Metric
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.core.results import Comparison
from onnx_relusv.graph.deciding import declared_shape, value_lengths
from onnx_relusv.graph.model import Model, read_model
from onnx_relusv.measuring.case import facts_of, provenance
from onnx_relusv.measuring.ready import made_ready
from onnx_relusv.runtime.session import Session, choose_provider
from onnx_relusv.work.executors import Progress, Silent
from onnx_relusv.work.files import check_utf8


def compare(
    before: StrPath,
    after: StrPath,
    samples: StrPath,
    *,
    measuring: MeasureOptions | None = None,
    metric: Metric | None = None,
    limits: ComparisonLimits | None = None,
    command: str = "onnx_relusv.compare",
    progress: Progress | None = None,
) -> Comparison:
    """Puts two models with the same inputs and outputs side by side on samples.

    With a metric, labels are for it, and no accuracy is counted. Limits are checked no further than
    whether what they limit can be told; `check_limits` holds the comparison to them.

    Raises:
        InputError: Something cannot be read, or the models or the samples do not fit, or what is
            limited cannot be told.
        UsageError: The provider does not work, or a drop of accuracy is limited and there are no
            labels.
    """
    before, after = as_path("before", before), as_path("after", after)
    samples, options = (
        as_path("samples", samples),
        as_record("measuring", measuring, MeasureOptions),
    )
    check_type("metric", metric, (Metric, type(None)), "a Metric, or None")
    progress = progress or Silent()
    for path in (before, after):
        check_utf8(path, InputError)
    provider = choose_provider(options.provider)
    first, second = read_model(before), read_model(after)
    _check_alike(first, second)
    ready = made_ready(
        first,
        lambda: Session(first.path, provider),
        samples,
        options,
        any_labels=metric is not None,
    )
    opened = ready.samples
    assert opened is not None  # they were given
    if limits is not None and limits.drop is not None and metric is None and opened.labels is None:
        raise UsageError(
            f"--fail-above-drop counts right answers, and {samples} has no labels. Add them, give "
            "a --metric, or use --fail-below-agreement or --fail-above-change."
        )
    facts = [facts_of(model, provider, ready.example, ready.batch) for model in (first, second)]
    sessions = [Session(model.path, provider) for model in (first, second)]
    with progress.stage("Comparison", opened.count) as advance:
        names, (one, two) = first.output_names, sessions
        lists = value_lengths(first)
        evaluation = evaluate(one, two, opened, names, advance=advance, metric=metric, lists=lists)
    if limits is not None:
        check_limits_tell(evaluation, limits)
    return Comparison(
        before=facts[0],
        after=facts[1],
        evaluation=evaluation,
        provenance=provenance(provider, options, opened, command),
    )


def _check_alike(first: Model, second: Model) -> None:
    """Checks that two models are fed and read alike.

    Raises:
        InputError: Names, types or fixed lengths differ.
    """
    pair = f"{first.path} and {second.path} cannot be compared"
    inputs = [{(spec.name, spec.dtype) for spec in model.inputs} for model in (first, second)]
    names = [set(model.output_names) for model in (first, second)]
    if inputs[0] != inputs[1] or names[0] != names[1]:
        raise InputError(f"{pair}: their inputs or outputs have other names or types.")
    others = {output.name: output.type for output in second.proto.graph.output}
    for output in first.proto.graph.output:
        kinds = [each.WhichOneof("value") for each in (output.type, others[output.name])]
        if kinds[0] != kinds[1] and None not in kinds:
            raise InputError(f"{pair}: output {output.name} is of another kind in each of them.")
        shapes = [declared_shape(each) for each in (output.type, others[output.name])]
        if None in shapes:
            continue
        one, other = (shape or () for shape in shapes)
        fits = len(one) == len(other) and all(
            length == wanted or None in (length, wanted)
            for length, wanted in zip(one, other, strict=True)
        )
        if not fits:
            raise InputError(
                f"{pair}: output {output.name} has the shape {_words(one)} in the one and "
                f"{_words(other)} in the other."
            )


def _words(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('any' if length is None else str(length) for length in shape)})"
