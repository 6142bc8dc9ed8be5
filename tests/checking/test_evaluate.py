"""Two models side by side: outputs of every kind, and numbers that are not finite."""

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from command_line import run as command
from graphs import model_proto, normal, saved
from sample_arrays import archive

from onnx_relusv import ComparisonLimits, ReluSvError, check_limits, compare
from onnx_relusv.checking.evaluate import evaluate
from onnx_relusv.core.errors import InputError, LimitExceededError, UsageError
from onnx_relusv.core.measures import OutputChange
from onnx_relusv.core.results import Comparison, Evaluation
from onnx_relusv.graph.deciding import value_lengths
from onnx_relusv.runtime.session import CPU, Session

COUNT = 70
W = normal(6, 4)
MOVED = W + normal(6, 4, seed=1, scale=0.3)
X = normal(COUNT, 6, seed=2)
# Sums of tens of float32 products, beside numpy's.
FLOAT32 = 1e-5

ML = {"ai.onnx.ml": 3}
LOGITS = "(float[N,6] x) => (float[N,4] y) { y = MatMul(x, W) }"
LABELS = "(float[N,6] x) => (int64[N] k) { y = MatMul(x, W) k = ArgMax<axis = 1, keepdims = 0>(y) }"
TEXT = """(float[N,6] x) => (string[N] t) {
  y = MatMul(x, W)
  k = ArgMax<axis = 1, keepdims = 0>(y)
  t = ai.onnx.ml.LabelEncoder<keys_int64s = [0, 1, 2, 3], values_strings = ["a", "b", "c", "d"]>(k)
}"""
MAPS = """(float[N,6] x) => (seq(map(int64, float)) m) {
  y = MatMul(x, W)
  p = Softmax<axis = 1>(y)
  m = ai.onnx.ml.ZipMap<classlabels_int64s = [3, 5, 7, 9]>(p)
}"""
PLACES = """(float[N,6] x) => (int64[2,M] z) { y = MatMul(x, W) r = Relu(y) z = NonZero(r) }"""
MEMBERS = """(float[N,6] x) => (seq(float[N,1]) s) {
  y = MatMul(x, W) s = SplitToSequence<axis = 1>(y)
}"""


def pair(
    text: str, folder: Path, after: np.ndarray = MOVED, before: np.ndarray = W
) -> tuple[Path, Path]:
    """Two models that differ in a weight alone."""
    domains = ML if "ai.onnx.ml" in text else None
    return tuple(  # type: ignore[return-value]
        saved(model_proto(text, {"W": weight}, domains=domains), folder, name).path
        for name, weight in (("before.onnx", before), ("after.onnx", after))
    )


def side_by_side(
    text: str,
    folder: Path,
    after: np.ndarray = MOVED,
    before: np.ndarray = W,
    x: np.ndarray = X,
    **options: object,
) -> Comparison:
    first, second = pair(text, folder, after, before)
    labels = options.pop("labels", None)
    arrays = {"x": x} | ({} if labels is None else {"labels": np.asarray(labels)})
    return compare(first, second, archive(folder, **arrays), **options)  # type: ignore[arg-type]


def only(found: Comparison | Evaluation) -> OutputChange:
    evaluation = found.evaluation if isinstance(found, Comparison) else found
    (one,) = evaluation.outputs
    return one


def answers(weight: np.ndarray) -> np.ndarray:
    return np.asarray((X @ weight).argmax(axis=1))


def test_scores(tmp_path: Path) -> None:
    found = side_by_side(LOGITS, tmp_path, labels=answers(W))
    gap, exact = X @ MOVED - X @ W, X @ W
    one = only(found)
    assert (one.kind, one.form, one.entries, one.runs) == ("scores", "tensor", 4 * COUNT, 2)
    agreement = float(np.mean(answers(W) == answers(MOVED)))
    assert one.agreement == found.evaluation.agreement == agreement < 1
    assert one.relative == pytest.approx(np.linalg.norm(gap) / np.linalg.norm(exact), rel=FLOAT32)
    assert one.change == one.relative
    assert one.mean == pytest.approx(np.abs(gap).mean(), rel=FLOAT32)
    assert one.largest == pytest.approx(np.abs(gap).max(), rel=FLOAT32)
    assert found.evaluation.accuracy_before == 1
    assert found.evaluation.accuracy_after == agreement


def test_intervals_are_exact_and_of_samples_by_themselves(tmp_path: Path) -> None:
    evaluation = side_by_side(LOGITS, tmp_path, labels=answers(MOVED)).evaluation
    same, drop = evaluation.agreement_interval, evaluation.drop_interval
    assert same is not None
    assert drop is not None
    equal = int(np.sum(answers(W) == answers(MOVED)))
    exact = scipy.stats.binomtest(equal, COUNT).proportion_ci(0.95, method="exact")
    assert (same.lower, same.upper) == pytest.approx((exact.low, exact.high))
    # All that the second model has right beyond the first is gained: the drop is negative.
    assert evaluation.drop is not None
    assert drop.lower < evaluation.drop < 0
    assert drop.lower < evaluation.drop < drop.upper
    (tmp_path / "grouped").mkdir()
    first, second = pair(LOGITS, tmp_path / "grouped")
    arrays = {"x": X, "groups": np.arange(COUNT) // 4}
    grouped = compare(first, second, archive(tmp_path / "grouped", **arrays)).evaluation
    assert grouped.agreement == evaluation.agreement
    assert grouped.agreement_interval is None


@pytest.mark.parametrize("text", [LABELS, TEXT])
def test_labels_and_text_are_equal_or_not(text: str, tmp_path: Path) -> None:
    found = side_by_side(text, tmp_path, labels=answers(W))
    one, agreement = only(found), float(np.mean(answers(W) == answers(MOVED)))
    assert one.kind == ("labels" if text is LABELS else "text")
    assert one.agreement == found.evaluation.agreement == agreement
    assert one.change == pytest.approx(1 - agreement)
    assert one.relative is one.mean is one.largest is None
    # No label equals a text, so nothing is said of right and wrong.
    assert found.evaluation.accuracy_after == (agreement if text is LABELS else None)


def test_maps_are_compared_by_their_keys(tmp_path: Path) -> None:
    classes = np.array([3, 5, 7, 9])
    found = side_by_side(MAPS, tmp_path, labels=classes[answers(MOVED)])
    one = only(found)
    assert (one.kind, one.form) == ("scores", "map")
    assert found.evaluation.accuracy_after == 1
    assert found.evaluation.accuracy_before == one.agreement < 1
    # The same map with its keys in another order is the same map.
    first, _ = pair(MAPS, tmp_path)
    order = [2, 0, 3, 1]
    turned = MAPS.replace("[3, 5, 7, 9]", str(classes[order].tolist()))
    second = saved(model_proto(turned, {"W": W[:, order]}, domains=ML), tmp_path, "turned.onnx")
    same = only(compare(first, second.path, archive(tmp_path, x=X)))
    assert same.agreement == 1
    assert same.change < FLOAT32


def test_sequences_are_compared_tensor_by_tensor(tmp_path: Path) -> None:
    tensor, sequence = (only(side_by_side(text, tmp_path)) for text in (LOGITS, MEMBERS))
    assert (sequence.kind, sequence.form) == ("values", "sequence")
    assert sequence.relative == pytest.approx(tensor.relative, rel=FLOAT32)
    assert sequence.largest == pytest.approx(tensor.largest, rel=FLOAT32)


def test_lists_are_compared_by_what_is_in_them(tmp_path: Path) -> None:
    found = side_by_side(PLACES, tmp_path)
    (one,) = found.evaluation.outputs
    assert (one.kind, one.other_shape) == ("list", 2)
    # Places of two batches, of 64 samples and of the others.
    common = union = 0
    for part in (X[:64], X[64:]):
        first, second = (set(map(tuple, np.argwhere(part @ w > 0).tolist())) for w in (W, MOVED))
        common, union = common + len(first & second), union + len(first | second)
    assert one.agreement == common / union < 1
    assert found.evaluation.agreement is None


def test_lists_of_numbers_are_compared_where_they_are_equally_long(tmp_path: Path) -> None:
    text = """(float[N,6] x) => (float[M] z) {
      y = MatMul(x, W) b = Less(zero, y) f = Reshape(b, all) z = Compress(y, f)
    }"""
    arrays = {"zero": np.float32([0.0]), "all": np.array([-1])}
    paths = [
        saved(model_proto(text, arrays | {"W": w}), tmp_path, name).path
        for name, w in (("before.onnx", W), ("longer.onnx", 1.1 * W), ("other.onnx", MOVED))
    ]
    samples = archive(tmp_path, x=X)
    # The same are positive, all of them a tenth larger.
    larger, other = (only(compare(paths[0], path, samples)) for path in paths[1:])
    assert (larger.kind, larger.agreement, larger.other_shape) == ("list", 1, 0)
    assert larger.relative == pytest.approx(0.1, rel=FLOAT32)
    counts = [[np.sum(part @ w > 0) for w in (W, MOVED)] for part in (X[:64], X[64:])]
    shares = sum(map(min, counts)) / sum(map(max, counts))
    assert other.agreement == pytest.approx(shares)
    assert other.change >= 1 - shares > 0


def test_labels_of_other_samples_are_not_taken_for_a_list(tmp_path: Path) -> None:
    # As often as before, every class is the answer, but to other samples.
    found = side_by_side(LABELS, tmp_path, after=W[:, [1, 0, 2, 3]])
    assert only(found).agreement < 0.9


def test_an_output_with_a_row_a_sample_by_chance_has_no_answers(tmp_path: Path) -> None:
    text = "(float[N,6] x) => (float[4,N] y) { z = MatMul(x, W) y = Transpose(z) }"
    found = side_by_side(text, tmp_path, x=X[:4])
    assert found.evaluation.agreement is None
    assert only(found).kind == "values"


def nan_model(rows: slice) -> np.ndarray:
    weight = MOVED.copy()
    weight[:, rows] = np.nan
    return weight


def test_what_is_not_finite_is_counted_and_the_rest_compared(tmp_path: Path) -> None:
    text = LOGITS.replace("y = MatMul(x, W)", "z = MatMul(x, W) y = Add(z, mask)")
    mask = np.array([0, 0, 0, -np.inf], np.float32)
    paths = [
        saved(model_proto(text, {"W": w, "mask": mask}), tmp_path, name).path
        for name, w in (("before.onnx", W), ("after.onnx", nan_model(slice(0, 1))))
    ]
    found = compare(paths[0], paths[1], archive(tmp_path, x=X))
    one = only(found)
    assert (one.before.nan, one.before.infinite) == (0, COUNT)
    assert (one.after.nan, one.after.infinite) == (COUNT, COUNT)
    # The same infinity in both is no difference, a NaN is one.
    assert one.mismatched == COUNT
    gap = (X @ (MOVED - W))[:, 1:3]
    assert one.largest == pytest.approx(np.abs(gap).max(), rel=FLOAT32)
    assert one.change == math.inf
    # A NaN is no answer, whatever argmax says of it.
    assert found.evaluation.agreement == 0


def test_a_model_that_answers_nan_is_not_told_to_be_equal(tmp_path: Path) -> None:
    first, second = pair(LOGITS, tmp_path, after=nan_model(slice(None)))
    result = command("compare", first, second, "--samples", archive(tmp_path, x=X))
    assert result.exit_code == 0
    (line,) = (line for line in result.output.splitlines() if line.startswith("y "))
    assert line.split() == ["y", "NaN", "NaN", "NaN"]
    assert f"{4 * COUNT} entries of the second model {4 * COUNT} are NaN" in " ".join(
        result.output.split()
    )


def test_both_models_nan_is_not_agreement(tmp_path: Path) -> None:
    weight = nan_model(slice(None))
    found = side_by_side(LOGITS, tmp_path, before=weight, after=weight)
    assert found.evaluation.agreement == 0
    assert only(found).change == math.inf


def test_outputs_of_other_lengths_cannot_be_compared(tmp_path: Path) -> None:
    first, _ = pair(LOGITS, tmp_path)
    other = saved(
        model_proto(LOGITS.replace("[N,4]", "[N,5]"), {"W": normal(6, 5)}), tmp_path, "other.onnx"
    )
    with pytest.raises(InputError, match=r"output y has the shape \(any, 4\) .* \(any, 5\)"):
        compare(first, other.path, archive(tmp_path, x=X))


def test_undeclared_lengths_are_compared_as_far_as_they_go(tmp_path: Path) -> None:
    text = LOGITS.replace("[N,4]", "[N,M]")
    first = saved(model_proto(text, {"W": W}), tmp_path, "first.onnx").path
    longer = np.concatenate([W, normal(6, 1, seed=3)], axis=1)
    second = saved(model_proto(text, {"W": longer}), tmp_path, "second.onnx").path
    found = compare(first, second, archive(tmp_path, x=X))
    one = only(found)
    assert (one.other_shape, found.evaluation.agreement) == (2, None)
    extra = np.linalg.norm(X @ longer[:, 4:])
    assert one.relative == pytest.approx(extra / np.linalg.norm(X @ W), rel=FLOAT32)


def test_synthetic_feeds_of_several_lengths(tmp_path: Path) -> None:
    before, after = (Session(path, CPU) for path in pair(LOGITS, tmp_path))
    feeds = [{"x": X[:3]}, {"x": X[3:]}]
    found = evaluate(before, after, feeds, ("y",), advance=lambda steps: None, latency=False)
    whole = side_by_side(LOGITS, tmp_path)
    assert (found.samples, found.latencies) == (COUNT, ())
    assert only(found).relative == pytest.approx(only(whole).relative, rel=FLOAT32)
    assert found.agreement == whole.evaluation.agreement


@pytest.mark.parametrize(
    ("limits", "exceeded"),
    [
        (ComparisonLimits(agreement=1.0), "agree in"),
        (ComparisonLimits(change=1e-3), "output y changes by"),
        (ComparisonLimits(drop=0.1), "points of accuracy are lost"),
        (ComparisonLimits(agreement=0.01, change=9.0, drop=99.0), ""),
        (ComparisonLimits(), ""),
    ],
)
def test_limits(limits: ComparisonLimits, exceeded: str, tmp_path: Path) -> None:
    found = side_by_side(LOGITS, tmp_path, labels=answers(W), limits=limits)
    if not exceeded:
        check_limits(found, limits)
        return
    with pytest.raises(LimitExceededError, match=exceeded) as raised:
        check_limits(found, limits)
    assert raised.value.exit_code == 6


def test_a_nan_exceeds_every_limit(tmp_path: Path) -> None:
    found = side_by_side(LOGITS, tmp_path, after=nan_model(slice(0, 1)), labels=answers(W))
    for limits in (ComparisonLimits(change=1e30), ComparisonLimits(agreement=1e-9)):
        with pytest.raises(LimitExceededError):
            check_limits(found, limits)


@pytest.mark.parametrize(
    ("text", "limits", "error"),
    [
        (LOGITS, {"drop": 1.0}, UsageError),
        (PLACES, {"agreement": 0.9}, InputError),
        (LOGITS, {"agreement": 1.1}, UsageError),
        (LOGITS, {"change": math.nan}, UsageError),
        (LOGITS, {"drop": -1.0}, UsageError),
    ],
)
def test_a_limit_that_nothing_tells_of_is_refused(
    text: str, limits: dict[str, float], error: type[ReluSvError], tmp_path: Path
) -> None:
    with pytest.raises(error, match="--fail-"):
        side_by_side(text, tmp_path, limits=ComparisonLimits(**limits))


def test_the_report_is_written_before_the_command_fails(tmp_path: Path) -> None:
    first, second = pair(LOGITS, tmp_path)
    figures = tmp_path / "figures.json"
    wanted = ("compare", first, second, "--samples", archive(tmp_path, x=X), "--json", figures)
    result = command(*wanted, "--fail-above-change", 0.001)
    assert result.exit_code == 6
    assert figures.exists()
    assert "Difference of the outputs" in result.output
    assert "output y changes by" in result.output


@pytest.mark.parametrize(
    ("nodes", "outputs", "found"),
    [
        ("r = Relu(y) z = NonZero(r)", "int64[2,M] z", {"z": 1}),
        ("z = NonZero(y)", "int64[M,N] z", {"z": 0}),
        ("s = Shape(y) c = ConstantOfShape(s) z = NonZero(c)", "int64[2,M] z", {}),
        ("b = Greater(y, W0) z = Compress(y, b)", "float[M] z", {"z": 0}),
        ("z, i, j, k = Unique(y)", "float[M] z, int64[K] i", {"z": 0, "i": 0}),
        ("z = ArgMax<axis = 1>(y)", "int64[N,1] z", {}),
        ("r = NonZero(y) t = Transpose(r) z = Cast<to = 1>(t)", "float[M,2] z", {"z": 0}),
    ],
)
def test_outputs_whose_length_depends_on_values(
    nodes: str, outputs: str, found: dict[str, int], tmp_path: Path
) -> None:
    text = f"(float[N,6] x) => ({outputs}) {{ y = MatMul(x, W) {nodes} }}"
    model = saved(model_proto(text, {"W": W, "W0": np.zeros((1, 4), np.float32)}), tmp_path)
    assert value_lengths(model) == found
