"""Two models side by side, and a whole curve of them."""

from onnx_relusv.arguments import StrPath, as_optional_path, as_path, as_record, check_type
from onnx_relusv.comparison_limits import ComparisonLimits, check_limits_tell
from onnx_relusv.errors import InputError, UsageError
from onnx_relusv.evaluate import evaluate
from onnx_relusv.graph.model import Model, data_files, read_model
from onnx_relusv.graph.value_lengths import declared_shape, value_lengths
from onnx_relusv.metric import Metric
from onnx_relusv.model_coverage import saying_where_bytes_are
from onnx_relusv.opened import (
    facts_of,
    open_model,
    provenance,
    selected,
)
from onnx_relusv.options import MeasureOptions, PlanOptions
from onnx_relusv.outputs import check_utf8
from onnx_relusv.progress import Progress, Silent
from onnx_relusv.publishing import leftover_places
from onnx_relusv.ready import made_ready
from onnx_relusv.repeatability import check_repeatable
from onnx_relusv.results import Comparison
from onnx_relusv.runtime.session import Session, choose_provider
from onnx_relusv.sweeping.folder import MODELS, check_sweep_folder, publish, workplace
from onnx_relusv.sweeping.judging import judging
from onnx_relusv.sweeping.methods import out_of_reach, ways
from onnx_relusv.sweeping.options import DEFAULT_METHODS, DEFAULT_SIZES, SweepOptions
from onnx_relusv.sweeping.running import Sweeping, check_any_reached
from onnx_relusv.sweeps import Sweep
from onnx_relusv.temporary_files import remove_leftovers


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


def sweep(
    model: StrPath,
    *,
    samples: StrPath,
    test: StrPath | None = None,
    sizes: tuple[float, ...] = DEFAULT_SIZES,
    methods: tuple[str, ...] = DEFAULT_METHODS,
    include: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
    measuring: MeasureOptions | None = None,
    report: StrPath | None = None,
    keep: bool = False,
    force: bool = False,
    command: str = "onnx_relusv.sweep",
    progress: Progress | None = None,
) -> Sweep:
    """Makes a model smaller at many sizes by several methods and judges every file.

    What plans rest on is measured once, for all of them.

    Args:
        model: An ONNX file.
        samples: What is measured and fitted on.
        test: What files are judged on; if None, a part of the samples that is set aside for it.
        sizes: Shares of the model's bytes.
        methods: Some of damage, level and blind.
        include: Patterns of the blocks that may change, as in `PlanOptions`; all if empty.
        exclude: Patterns of what is kept.
        measuring: Provider, seed and memory.
        report: Folder for report.json and report.html.
        keep: Whether the files stay, in the report's folder `models`.
        force: Overwrite existing outputs.
        command: Goes into the provenance.
        progress: Shown the stages.

    Raises:
        UsageError: A setting is out of range, or an output exists or cannot be written.
        InputError: Something cannot be read or does not fit.
        BudgetError: No method reaches any of the sizes.
        ValidationError: None does, and a file failed its validation.
    """
    model, samples = as_path("model", model), as_path("samples", samples)
    test, report = as_optional_path("test", test), as_optional_path("report", report)
    measuring, progress = as_record("measuring", measuring, MeasureOptions), progress or Silent()
    asked = SweepOptions(
        model=model,
        samples=samples,
        test=test,
        sizes=sizes,
        methods=methods,
        include=include,
        exclude=exclude,
        measuring=measuring,
    )
    check_utf8(model, InputError)
    check_utf8(report or model, UsageError)
    check_sweep_folder(
        report,
        keep=keep,
        force=force,
        inputs=[model, *data_files(model), samples, *([] if test is None else [test])],
        cache=measuring.cache,
    )
    remove_leftovers(*leftover_places(report))
    opened = open_model(model, samples, measuring)
    check_repeatable(opened)
    planning = selected(opened, PlanOptions(include=include, exclude=exclude))
    judged = judging(opened, test)
    missed = out_of_reach(methods, asked.ladder, judged.opened, planning)
    with saying_where_bytes_are(opened, planning):
        check_any_reached(asked, missed)
    reaching = [name for name in methods if any((name, size) not in missed for size in sizes)]
    with (
        saying_where_bytes_are(opened, planning),
        workplace(report) as place,
        ways(reaching, judged.opened, model, planning, progress) as ready,
    ):
        models = place / MODELS
        models.mkdir()
        kept = report / MODELS if report is not None and keep else None
        found = Sweeping(asked, judged, ready, missed, models, kept, command).run(progress)
        if report is not None:
            publish(found, report, models, place, force=force)
    return found


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
