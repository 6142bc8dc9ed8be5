"""A model whose data lies in other files, and what of it lies in a folder."""

from pathlib import Path

from graphs import model_proto, normal, saved
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_relusv.graph.model import Model
from onnx_relusv.graph.writing import publish, write_staged
from onnx_relusv.work.files import Publication, staged

VECTORS = {"x": normal(3, 40)}
TEXT = (
    "(float[N,40] x) => (float[N,30] y) { h = Gemm(x, w, b) f = Relu(h) g = MatMul(f, v)"
    " e = Relu(g) d = Mul(e, c) y = Add(d, small) }"
)
ARRAYS = {
    "w": normal(40, 50),
    "b": normal(50),
    "v": normal(50, 30),
    "small": normal(30),
}


def proto() -> ModelProto:
    model = model_proto(TEXT, ARRAYS)
    value = numpy_helper.from_array(normal(30, seed=1))
    model.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=value))
    return model


def put_outside(tensor: TensorProto, file: Path, offset: int) -> None:
    """Moves a tensor's data into a file, `offset` bytes from its beginning."""
    with file.open("r+b" if file.exists() else "w+b") as stream:
        stream.seek(offset)
        length = stream.write(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", file.name), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def external(folder: Path) -> Model:
    """A model with data in two files, at odd places, of a Constant's attribute too."""
    model = proto()
    w, b, v, _ = model.graph.initializer
    put_outside(w, folder / "one.bin", 5000)
    put_outside(v, folder / "two.bin", 12)
    put_outside(b, folder / "one.bin", 200)
    put_outside(model.graph.node[0].attribute[0].t, folder / "one.bin", 4)
    return saved(model, folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def published(model: Model, target: Path) -> str | None:
    """Publishes a model as it is; the name of its data file, if any."""
    with staged(target) as folder:
        path = write_staged(model.proto, model, folder, target.name)
        names = {file.name for file in folder.glob("[!.]*")} - {target.name}
        publish(path, target, Publication(force=True))
    return names.pop() if names else None
