"""What depends on a tensor: directly, through others, and inside bodies."""

from pathlib import Path

from graphs import model_proto, normal, saved

from onnx_relusv.graph.blocks import dependents

BRANCHED = (
    "(float[N,4] x, bool q) => (float[N,4] y, float[N,4] z) {"
    " a = Relu(x) b = Gemm(a, w) c = Sigmoid(a) d = Add(b, c) e = Gemm(c, w)"
    " y = If(q) <then_branch = t () => (float[N,4] p) { p = Identity(d) },"
    " else_branch = f () => (float[N,4] r) { r = Identity(c) }> z = Tanh(e) }"
)


def test_what_is_behind_and_nothing_else(tmp_path: Path) -> None:
    model = saved(model_proto(BRANCHED, {"w": normal(4, 4)}), tmp_path)
    assert dependents(model, ["b"]) == {"b", "d", "y"}
    assert dependents(model, ["c"]) == {"c", "d", "e", "y", "z"}
    assert dependents(model, ["e", "b"]) == {"e", "z", "b", "d", "y"}
    assert dependents(model, ["y"]) == {"y"}
    assert dependents(model, ["w"]) == {"w", "b", "d", "e", "y", "z"}
    assert dependents(model, []) == set()


def test_an_output_that_is_left_out_leads_nowhere(tmp_path: Path) -> None:
    """Unnamed outputs and inputs have one and the same empty name, which is no tensor."""
    text = "(float[N,4] x) => (float[N,4] y) { a = Dropout(x) y = Clip(x, , high) }"
    proto = model_proto(text, {"high": normal()})
    proto.graph.node[0].output.append("")
    model = saved(proto, tmp_path)
    assert dependents(model, ["a"]) == {"a"}
