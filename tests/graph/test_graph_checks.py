"""Checks of a file without a run: the checker's answer, operands, and what a caller sees."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import model_proto, normal, normalization, saved
from onnx import ModelProto, TensorProto, helper, numpy_helper, parser
from patterns import PATTERNS, REPRESENTATIVES

from onnx_relusv.graph.checks import (
    PROVENANCE_KEY,
    checker_problem,
    operand_problems,
    signature_differences,
)

VECTORS = "(float[N,6] x) => (float[N,5] y)"
IMAGES = "(float[N,4,8,8] x) => (float[N,6,I,J] y)"


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_no_pattern_has_a_problem(name: str, tmp_path: Path) -> None:
    model = saved(PATTERNS[name].proto(), tmp_path)
    assert operand_problems(model.proto) == []
    assert checker_problem(model.path) is None
    assert signature_differences(model.proto, model.proto) == []


def test_the_checker_sees_a_wrong_type_and_a_wrong_shape(tmp_path: Path) -> None:
    for number, head in enumerate(("(float[N,6] x) => (double[N,5] y)", VECTORS[:-4] + "7] y)")):
        proto = model_proto(f"{head} {{ y = MatMul(x, w) }}", {"w": normal(6, 5)})
        problem = checker_problem(saved(proto, tmp_path, f"{number}.onnx").path)
        assert problem is not None
        assert "Inference error" in problem


def test_operands_of_a_wrong_length() -> None:
    for body, arrays, problem in (
        (
            f"{IMAGES} {{ y = Conv(x, w, b) }}",
            {"w": normal(6, 4, 3, 3), "b": normal(5)},
            "Conv y: b has shape (5,), but serves 6 channels",
        ),
        (
            f"{IMAGES} {{ y = Conv(x, w, b) }}",
            {"w": normal(6, 4, 3, 3), "b": normal(1)},
            "Conv y: b has shape (1,), but serves 6 channels",
        ),
        (
            f"{IMAGES} {{ c = Identity(b) y = Conv<group=2>(x, w, c) }}",
            {"w": normal(6, 2, 3, 3), "b": normal(7)},
            "Conv y: c has shape (7,), but serves 6 channels",
        ),
        (
            f"{IMAGES} {{ y = ConvTranspose<group=2>(x, w, b) }}",
            {"w": normal(4, 3, 3, 3), "b": normal(3)},
            "ConvTranspose y: b has shape (3,), but serves 6 channels",
        ),
        (
            f"{VECTORS} {{ b = Constant<value = float[4] {{1,2,3,4}}>() y = Gemm(x, w, b) }}",
            {"w": normal(6, 5)},
            "Gemm y: b has shape (4,), but serves 5 channels",
        ),
        (
            f"{VECTORS} {{ y = Gemm<transB=1>(x, w, b) }}",
            {"w": normal(5, 6), "b": normal(3, 6)},
            "Gemm y: b has shape (3, 6), but serves 5 channels",
        ),
        (
            f"{VECTORS} {{ h = MatMul(x, w)"
            " y = BatchNormalization(h, gamma, beta, mean, variance) }",
            {"w": normal(6, 5), **normalization(5), "mean": normal(4)},
            "BatchNormalization y: mean has shape (4,), but serves 5 channels",
        ),
        (
            f"{VECTORS} {{ h = MatMul(x, w) y = PRelu(h, s) }}",
            {"w": normal(6, 5), "s": normal(4)},
            "PRelu y: s has shape (4,), but serves 5 channels",
        ),
        (
            f"{IMAGES} {{ h = Conv(x, w) y = PRelu(h, s) }}",
            {"w": normal(6, 4, 3, 3), "s": normal(5, 1, 1)},
            "PRelu y: s has shape (5, 1, 1), but serves 6 channels",
        ),
    ):
        assert operand_problems(model_proto(body, arrays)) == [problem]


def test_operands_that_are_right() -> None:
    for text, arrays, opset in (
        (f"{VECTORS} {{ y = Gemm(x, w, b) }}", {"w": normal(6, 5), "b": normal(1)}, 17),
        (f"{VECTORS} {{ y = Gemm(x, w, b) }}", {"w": normal(6, 5), "b": normal(3, 1)}, 17),
        (f"{VECTORS} {{ y = Gemm(x, w, b) }}", {"w": normal(6, 5), "b": normal(1)[0, ...]}, 17),
        (
            f"{IMAGES} {{ h = Conv(x, w) y = PRelu(h, s) }}",
            {"w": normal(6, 4, 3, 3), "s": normal(1)},
            17,
        ),
        # Lengths that nobody knows are not complained about.
        (
            "(float[N,4,8,8] x, float[M] b) => (y) { y = Conv(x, w, b) }",
            {"w": normal(6, 4, 3, 3)},
            17,
        ),
        (
            "(float[N,4,8,8] x, float[4,C,3,3] w) => (y) { y = ConvTranspose(x, w, b) }",
            {"b": normal(3)},
            17,
        ),
        ("(float[N,6] x, float[M] b) => (y) { y = Gemm(x, w, b) }", {"w": normal(6, 5)}, 17),
        ("(float[N,6] x, float[M] s) => (y) { y = PRelu(x, s) }", {}, 17),
        # Before opset 9 a normalisation may have numbers for every value of a sample.
        (
            f"{IMAGES} {{ h = Conv(x, w)"
            " y = BatchNormalization<spatial=0>(h, gamma, beta, mean, variance) }",
            {"w": normal(6, 4, 3, 3)}
            | {
                name: np.broadcast_to(vector.reshape(6, 1, 1), (6, 6, 6)).copy()
                for name, vector in normalization(6).items()
            },
            7,
        ),
    ):
        arrays = {name: np.asarray(values) for name, values in arrays.items()}
        assert operand_problems(model_proto(text, arrays, opset=opset)) == []


def test_the_checker_is_content_with_a_short_bias(tmp_path: Path) -> None:
    """Why operands are checked at all."""
    proto = model_proto(
        f"{IMAGES} {{ y = Conv(x, w, b) }}", {"w": normal(6, 4, 3, 3), "b": normal(5)}
    )
    assert checker_problem(saved(proto, tmp_path).path) is None
    assert operand_problems(proto)


def original() -> ModelProto:
    proto = model_proto(
        "(float[batch,6] x, int64[batch] ids) => (float[batch,5] y, float[batch,5] z) {"
        " y = MatMul(x, w) z = mine.twice(y) }",
        {"w": normal(6, 5)},
        domains={"mine": 3},
    )
    function = '<domain: "mine", opset_import: ["" : 17]> twice (a) => (r) { r = Add(a, a) }'
    proto.functions.append(parser.parse_function(function))
    helper.set_model_props(proto, {"labels": "a,b"})
    return proto


def another_output_name(proto: ModelProto) -> None:
    proto.graph.output[0].name = "other"


def another_order_of_outputs(proto: ModelProto) -> None:
    first = proto.graph.output.pop(0)
    proto.graph.output.append(first)


def an_output_less(proto: ModelProto) -> None:
    del proto.graph.output[1]


def another_input_type(proto: ModelProto) -> None:
    proto.graph.input[1].type.tensor_type.elem_type = TensorProto.INT32


def a_fixed_batch(proto: ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def another_name_of_an_axis(proto: ModelProto) -> None:
    proto.graph.output[1].type.tensor_type.shape.dim[0].dim_param = "N"


def another_opset(proto: ModelProto) -> None:
    proto.opset_import[0].version = 18


def an_opset_more(proto: ModelProto) -> None:
    proto.opset_import.append(helper.make_opsetid("more", 1))


def another_ir_version(proto: ModelProto) -> None:
    proto.ir_version = 9


def another_function(proto: ModelProto) -> None:
    proto.functions[0].node[0].op_type = "Mul"


def no_function(proto: ModelProto) -> None:
    del proto.functions[:]


def lost_metadata(proto: ModelProto) -> None:
    del proto.metadata_props[:]


def changed_metadata(proto: ModelProto) -> None:
    proto.metadata_props[0].value = "b,a"


def new_metadata(proto: ModelProto) -> None:
    proto.metadata_props.add(key="made by", value="somebody")


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (another_output_name, "the outputs differ"),
        (another_order_of_outputs, "the outputs differ"),
        (an_output_less, "the outputs differ"),
        (another_input_type, "the inputs differ"),
        (a_fixed_batch, "the inputs differ"),
        (another_name_of_an_axis, "the outputs differ"),
        (another_opset, "the operator sets differ"),
        (an_opset_more, "the operator sets differ"),
        (another_ir_version, "the IR versions differ"),
        (another_function, "the functions differ"),
        (no_function, "the functions differ"),
        (lost_metadata, "metadata entries are lost"),
        (changed_metadata, "metadata entries are lost"),
        (new_metadata, "metadata entries are new"),
    ],
)
def test_what_a_caller_would_notice(
    change: Callable[[ModelProto], None], difference: str, tmp_path: Path
) -> None:
    model, proto = saved(original(), tmp_path), original()
    assert signature_differences(model.proto, proto) == []
    change(proto)
    assert signature_differences(model.proto, proto) == [difference]


def test_weights_and_the_provenance_are_nobodys_business(tmp_path: Path) -> None:
    model, proto = saved(original(), tmp_path), original()
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(normal(2, 5), "other"))
    proto.graph.node[0].op_type = "Gemm"
    proto.graph.node[0].input[1] = "other"
    proto.metadata_props.add(key=PROVENANCE_KEY, value="{}")
    assert signature_differences(model.proto, proto) == []
    # One rewriting on top of another has a provenance of its own.
    again = ModelProto()
    again.CopyFrom(proto)
    again.metadata_props[-1].value = "other"
    assert signature_differences(saved(proto, tmp_path).proto, again) == []


def test_initializers_of_old_files_are_no_inputs(tmp_path: Path) -> None:
    text = "(float[N,6] x) => (float[N,5] y) { y = MatMul(x, w) }"
    before = saved(model_proto(text, {"w": normal(6, 5)}, opset=7), tmp_path)
    after = model_proto(text.replace("w)", "v)"), {"v": normal(6, 5)}, opset=7)
    assert signature_differences(before.proto, after) == []
    onnx.checker.check_model(after)
