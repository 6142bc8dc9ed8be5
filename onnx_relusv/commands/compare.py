"""Two models side by side on samples, and limits on how far apart they may be."""

import math

from onnx_relusv.checking.evaluate import evaluate
from onnx_relusv.core.arguments import StrPath, as_optional_path, as_record, check_type
from onnx_relusv.core.errors import InputError, LimitExceededError, UsageError
from onnx_relusv.core.metric import ComparisonLimits, Metric
from onnx_relusv.core.options import MeasureOptions
from onnx_relusv.core.results import Comparison, Evaluation
from onnx_relusv.graph.deciding import value_lengths
from onnx_relusv.graph.model import Model, read_model
from onnx_relusv.graph.model_files import ModelFile, ModelLike, as_model, model_file
from onnx_relusv.graph.protos import declared_shape
from onnx_relusv.graph.reference import runnable
from onnx_relusv.graph.writing import check_places
from onnx_relusv.measuring.case import facts_of
from onnx_relusv.measuring.provenance import provenance
from onnx_relusv.measuring.ready import made_ready
from onnx_relusv.report.files import write_report
from onnx_relusv.runtime.providers import choose_provider, warn_of_cpu_nodes
from onnx_relusv.runtime.session import Session
from onnx_relusv.samples.sources import SamplesLike, SampleSource, as_source
from onnx_relusv.work.executors import Progress, Silent
from onnx_relusv.work.files import check_utf8


def compare(
    before: ModelLike,
    after: ModelLike,
    samples: SamplesLike,
    *,
    measuring: MeasureOptions | None = None,
    metric: Metric | None = None,
    limits: ComparisonLimits | None = None,
    report: StrPath | None = None,
    json: StrPath | None = None,
    force: bool = False,
    command: str = "onnx_relusv.compare",
    progress: Progress | None = None,
) -> Comparison:
    """Puts two models with the same inputs and outputs side by side on samples.

    With a metric, labels are for it, and no accuracy is counted. Limits are checked no further than
    whether what they limit can be told; `check_limits` holds the comparison to them.

    Args:
        before: The path of an ONNX file or of its folder, or a ModelProto.
        after: Another one.
        samples: What both are run on, as of `inspect`.
        measuring: Provider, seed, and how many samples are drawn.
        metric: What outputs are judged by in place of top-1.
        limits: What the comparison has to keep.
        report: Folder for report.json and report.html.
        json: File for what is in report.json.
        force: Overwrite existing outputs.
        command: Goes into the provenance.
        progress: Shown the samples.

    Raises:
        InputError: Something cannot be read, or the models or the samples do not fit, or what is
            limited cannot be told.
        UsageError: The provider does not work, an output exists or cannot be written, or a drop of
            accuracy is limited and there are no labels.
    """
    one, other = as_model("before", before), as_model("after", after)
    source, options = (
        as_source("samples", samples, progress),
        as_record("measuring", measuring, MeasureOptions),
    )
    check_type("metric", metric, (Metric, type(None)), "a Metric, or None")
    report, json = as_optional_path("report", report), as_optional_path("json", json)
    with model_file("before", one) as first, model_file("after", other) as second:
        check_places(
            {"--json": json},
            report,
            models=[first.path, second.path],
            read=[source.path, None if metric is None else metric.path],
            force=force,
        )
        for file in (first, second):
            check_utf8(file.path, InputError)
        found = _compared(first, second, source, options, metric, limits, command, progress)
        write_report(found, report, json, force=force)
    return found


def _compared(
    before: ModelFile,
    after: ModelFile,
    source: SampleSource,
    options: MeasureOptions,
    metric: Metric | None,
    limits: ComparisonLimits | None,
    command: str,
    progress: Progress | None,
) -> Comparison:
    """Two models side by side; arguments and errors as of `compare`."""
    progress = progress or Silent()
    provider = choose_provider(options.provider)
    first, second = (read_model(file.path, name=file.name) for file in (before, after))
    _check_alike(first, second)
    ready = made_ready(
        first,
        lambda: Session(first.path, provider),
        source,
        options,
        any_labels=metric is not None,
    )
    opened = ready.samples
    if opened is None:
        raise UsageError("compare takes --samples.")
    if limits is not None and limits.drop is not None and metric is None and opened.labels is None:
        raise UsageError(
            f"--fail-above-drop counts right answers, and {opened.name} has no labels. Add them, "
            "give a --metric, or use --fail-below-agreement or --fail-above-change."
        )
    warn_of_cpu_nodes(runnable(ready.model), provider, ready.example)
    facts = [facts_of(model, provider, ready.example, ready.batch) for model in (first, second)]
    sessions = [Session(model.path, provider) for model in (first, second)]
    with progress.stage("Comparison", opened.count) as advance:
        names, (one, two) = first.output_names, sessions
        lists = value_lengths(first)
        evaluation = evaluate(one, two, opened, names, advance=advance, metric=metric, lists=lists)
    if limits is not None:
        _check_limits_tell(evaluation, limits)
    return Comparison(
        before=facts[0],
        after=facts[1],
        evaluation=evaluation,
        provenance=provenance(provider, options, opened, command),
        warnings=opened.source.notes,
    )


def _check_alike(first: Model, second: Model) -> None:
    """Checks that two models are fed and read alike.

    Raises:
        InputError: Names, types or fixed lengths differ.
    """
    pair = f"{first.name} and {second.name} cannot be compared"
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


def _check_limits_tell(evaluation: Evaluation, limits: ComparisonLimits) -> None:
    """Checks that what is limited was measured.

    Raises:
        InputError: There are no answers that could agree, or no accuracy that could drop.
    """
    if limits.agreement is not None and evaluation.agreement is None:
        raise InputError(
            "--fail-below-agreement counts equal answers, but no output has one answer a sample "
            "in both models. Use --fail-above-change, or --metric with --fail-above-drop."
        )
    if limits.drop is not None and _drop(evaluation) is None:
        raise InputError(
            "--fail-above-drop counts right answers, but no output has answers that the samples' "
            "labels could be compared with. Give a --metric, or use --fail-above-change."
        )


def check_limits(comparison: Comparison, limits: ComparisonLimits) -> None:
    """Holds a comparison to its limits.

    Raises:
        LimitExceededError: Some are exceeded; the message names all of them.
        InputError: What is limited was not measured.
    """
    evaluation = comparison.evaluation
    _check_limits_tell(evaluation, limits)
    found = []
    agreement, drop = evaluation.agreement, _drop(evaluation)
    # A figure that is no number exceeds every limit.
    if limits.agreement is not None and agreement is not None and not agreement >= limits.agreement:
        found.append(
            f"the answers agree in {agreement:.4g}, at least {limits.agreement:g} is asked"
        )
    for one in evaluation.outputs:
        if limits.change is not None and not one.change <= limits.change:
            much = "to what is not finite" if math.isinf(one.change) else f"by {one.change:.3g}"
            found.append(f"output {one.name} changes {much}, at most {limits.change:g} is allowed")
    if limits.drop is not None and drop is not None and not drop <= limits.drop:
        unit = "points of accuracy" if evaluation.metric is None else evaluation.metric.name
        found.append(f"{drop:.4g} {unit} are lost, at most {limits.drop:g} are allowed")
    if found:
        raise LimitExceededError(f"{'; '.join(found)}.")


def _drop(evaluation: Evaluation) -> float | None:
    return evaluation.drop if evaluation.metric is None else evaluation.metric.loss
