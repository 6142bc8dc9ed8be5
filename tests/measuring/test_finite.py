"""Numbers that cannot be worked with: which they are, where from, and what becomes of a block."""

from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from graphs import model_proto, normal, normalization, run
from onnx import numpy_helper

from onnx_relusv import Budgets, MeasureOptions, PlanOptions, compress, inspect, trace
from onnx_relusv.core.errors import InputError
from onnx_relusv.core.linear_algebra import LARGEST, problem_of, problems
from onnx_relusv.core.results import Compression

CPU = MeasureOptions(provider="cpu")
SAMPLES = 60
# Two heads behind one layer, of which each can be ruined by itself.
TEXT = """(float[N,8] x) => (float[N,4] y, float[N,3] z) {
    g1 = Gemm(x, W1, b1)
    a1 = Relu(g1)
    g2 = MatMul(a1, W2)
    a2 = Relu(g2)
    y = MatMul(a2, W3)
    g3 = MatMul(a1, W4)
    a3 = Relu(g3)
    z = MatMul(a3, W5)
}"""


def arrays() -> dict[str, np.ndarray]:
    shapes = {"W1": (8, 40), "W2": (40, 64), "W3": (64, 4), "W4": (40, 12), "W5": (12, 3)}
    found = {name: normal(*shape, scale=0.4) for name, shape in shapes.items()}
    return {**found, "b1": normal(40)}


def written(
    folder: Path,
    text: str = TEXT,
    changes: Mapping[str, np.ndarray] | None = None,
    x: np.ndarray | None = None,
) -> tuple[Path, Path]:
    """A model, some of whose constants are others, and samples."""
    constants = {**arrays(), **(changes or {})}
    model, samples = folder / "model.onnx", folder / "samples.npz"
    onnx.save(model_proto(text, constants), model)
    np.savez(samples, x=normal(SAMPLES, 8) if x is None else x)
    return model, samples


def smaller(files: tuple[Path, Path], method: str = "auto", size: float = 0.8) -> Compression:
    planning = PlanOptions(budgets=Budgets(size=size), method=method)  # type: ignore[arg-type]
    output = files[0].with_name(f"{method}.onnx")
    return compress(files[0], output, samples=files[1], planning=planning, measuring=CPU)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_what_is_wrong_with_numbers(dtype: type) -> None:
    fine = np.array([[1, -2], [0, 3]], dtype)
    assert problem_of(fine) is None
    assert problem_of(fine[:0]) is None
    for value, words in (
        (np.nan, "NaN"),
        (np.inf, "infinite values"),
        (-np.inf, "infinite values"),
    ):
        wrong = fine.copy()
        wrong[1, 0] = value
        assert problem_of(wrong) == words
        assert problems(wrong, 2, 2) == {1: words}
        # A sample that only pads is nobody's.
        assert problems(wrong, 1, 2) == {}


def test_what_is_too_large() -> None:
    assert problem_of(np.array([LARGEST, -LARGEST])) is None
    assert problem_of(np.array([1, -2 * LARGEST])) == "numbers up to 2e+13"
    assert problem_of(np.array([1 << 60])) is None
    # Rows of one sample follow each other; where they do not, all samples have a part in it.
    assert problems(np.array([1, 1, np.nan, 1]), 2, 2) == {1: "NaN"}
    assert problems(np.array([1, np.nan, 1]), 2, 2) == {0: "NaN", 1: "NaN"}


def test_a_model_that_answers_nothing_but_nan(tmp_path: Path) -> None:
    files = written(tmp_path, changes={"b1": np.full(40, np.nan, np.float32)})
    begins = "begins at the operator Gemm that makes g1, whose constant b1 holds NaN"
    for method in ("auto", "double-layer", "harmonic"):
        with pytest.raises(InputError, match=f"no output holds one finite number.*{begins}"):
            smaller(files, method)
    inspected = inspect(files[0], samples=files[1], measuring=CPU)
    refusals = {refusal.key: refusal.reason for refusal in inspected.refusals}
    assert refusals["g1"] == "its bias contains NaN or infinite values"
    assert begins in refusals["a2"]
    assert begins in refusals["y"]


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_a_ruined_head_stays_and_the_other_becomes_smaller(value: float, tmp_path: Path) -> None:
    ruined = np.full((40, 12), value, np.float32)
    files = written(tmp_path, changes={"W4": ruined})
    for method in ("double-layer", "harmonic"):
        done = smaller(files, method, 0.95)
        kept = {refusal.key: refusal.reason for refusal in done.refusals}
        assert kept.keys() == {"g3", "z"}
        assert "the operator MatMul that makes g3, whose constant W4 holds" in kept["z"]
        after = {
            tensor.name: tensor
            for tensor in onnx.load(files[0].with_name(f"{method}.onnx")).graph.initializer
        }
        assert np.array_equal(numpy_helper.to_array(after["W4"]), ruined, equal_nan=True)


def test_a_sample_that_the_model_makes_nan_of_is_named(tmp_path: Path) -> None:
    text = TEXT.replace("g1 = Gemm(x", "ones = ReduceSum(x) d = Div(x, ones) g1 = Gemm(d")
    text = text.replace("ReduceSum(x)", "ReduceSum(x, axis)")
    x = normal(SAMPLES, 8)
    x[[41, 17]] = 0
    files = written(tmp_path, text, {"axis": np.array([1])}, x)
    words = (
        "for sample 17 and 1 more the model computes NaN in the tensor .* operator Div that makes d"
    )
    with pytest.raises(InputError, match=words):
        inspect(files[0], samples=files[1], measuring=CPU)
    with pytest.raises(InputError, match=r"for sample 17 and 1 more .* Div that makes d"):
        trace(files[0], samples=files[1], measuring=CPU)
    # The part that is fitted to may hold one of the two alone, and the other part the other.
    with pytest.raises(InputError, match=r"for sample (17|41) .* Div that makes d"):
        smaller(files)
    # Without samples nothing says that such inputs come.
    inspect(files[0], measuring=CPU)


def test_scores_of_minus_infinity_are_no_fault(tmp_path: Path) -> None:
    mask = np.array([0, -np.inf, 0, 0], np.float32)
    text = TEXT.replace("y = MatMul(a2, W3)", "m = MatMul(a2, W3) y = Add(m, mask)")
    done = smaller(written(tmp_path, text, {"mask": mask}))
    assert not done.refusals
    answers = run(tmp_path / "auto.onnx", {"x": normal(5, 8)}, ["y"])["y"]
    assert np.isneginf(answers[:, 1]).all()
    assert np.isfinite(answers[:, [0, 2, 3]]).all()


def test_samples_too_large_to_be_squared(tmp_path: Path) -> None:
    x = normal(SAMPLES, 8)
    files = written(tmp_path, x=x * np.float32(1e20))
    with pytest.raises(InputError, match=r"its input x holds numbers up to .*e\+20 for each of"):
        smaller(files)
    x[30] *= np.float32(1e20)
    files = written(tmp_path, x=x)
    with pytest.raises(InputError, match=r"for sample 30 .* the sample itself holds .*e\+20 in x"):
        inspect(files[0], samples=files[1], measuring=CPU)


def test_samples_beyond_a_half(tmp_path: Path) -> None:
    constants = {name: values.astype(np.float16) for name, values in arrays().items()}
    x = normal(SAMPLES, 8)
    x[7, 2] = 7e4
    files = written(tmp_path, TEXT.replace("float[", "float16["), constants, x)
    with pytest.raises(InputError, match=r"sample 7, holds numbers up to 7e\+04, .* float16"):
        inspect(files[0], samples=files[1], measuring=CPU)
    # In its range, but not what the first layer makes of it.
    x[7, 2] = 6e4
    files = written(tmp_path, TEXT.replace("float[", "float16["), constants, x)
    with pytest.raises(InputError, match="for sample 7 the model computes infinite values"):
        smaller((files[0], files[1]), "double-layer")


@pytest.mark.parametrize(
    ("line", "constants"),
    [
        ("a1 = LeakyRelu<alpha = 1e30>(g1)", {}),
        ("a1 = PRelu(g1, slope)", {"slope": np.array([np.nan], np.float32)}),
    ],
)
def test_slopes_that_cannot_be_worked_with_are_no_activation(
    line: str, constants: dict[str, np.ndarray], tmp_path: Path
) -> None:
    files = written(tmp_path, TEXT.replace("a1 = Relu(g1)", line), constants)
    (first, *_) = inspect(files[0], measuring=CPU).rows
    assert first.block.key == "g1"
    assert first.block.activation.kind == "none"


def test_a_normalisation_that_makes_weights_too_large(tmp_path: Path) -> None:
    text = """(float[N,3,4,4] x) => (float[N,5,4,4] y) {
        c = Conv<pads = [1, 1, 1, 1]>(x, K)
        n = BatchNormalization<epsilon = 0.0>(c, gamma, beta, mean, variance)
        y = Relu(n)
    }"""
    vectors = {**normalization(5), "K": normal(5, 3, 3, 3)}
    vectors["variance"][2] = 1e-36
    onnx.save(model_proto(text, vectors), tmp_path / "model.onnx")
    found = inspect(tmp_path / "model.onnx", measuring=CPU)
    (refusal,) = found.refusals
    assert "folded, reach" in refusal.reason
