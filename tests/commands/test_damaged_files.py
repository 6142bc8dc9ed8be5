"""Files with some of their bytes changed: read, or refused as an input is; nothing else happens."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import model_proto, normal
from plan_files import PLAN
from sample_arrays import spec

from onnx_relusv.core.errors import InputError
from onnx_relusv.graph.model import read_model
from onnx_relusv.planning.plan_file import plan_text, read_plan
from onnx_relusv.samples.samples import open_samples

TRIES = 120
INPUTS = [spec("x", np.float32, None, 6)]
TEXT = "(float[N,6] x) => (float[N,4] y) { g = Gemm<alpha = 0.5>(x, w, b) y = Relu(g) }"


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """One to three changes: of a bit or a byte, bytes gone or put in, or the end cut off."""
    found = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        place, kind = int(rng.integers(len(found))), rng.integers(5)
        if kind == 0:
            found[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            found[place] = int(rng.integers(256))
        elif kind == 2:
            del found[place : place + int(rng.integers(1, 9))]
        elif kind == 3:
            found[place:place] = rng.bytes(int(rng.integers(1, 9)))
        else:
            del found[max(place, 1) :]
        found = found or bytearray(b"\0")
    return bytes(found)


def samples(path: Path) -> None:
    found = open_samples(path, INPUTS)
    for batch in found.batches(4):
        assert np.isfinite(batch.feeds["x"]).all()


@pytest.mark.parametrize("name", ["model.onnx", "samples.npz", "samples.npy", "plan.json"])
def test_damaged_files(name: str, tmp_path: Path) -> None:
    path, x = tmp_path / name, normal(9, 6)
    read: Callable[[Path], object] = samples
    if name == "model.onnx":
        onnx.save(model_proto(TEXT, {"w": normal(6, 4), "b": normal(4)}), path)
        read = read_model
    elif name == "plan.json":
        path.write_text(plan_text(PLAN), encoding="utf-8")
        read = read_plan
    elif name == "samples.npz":
        np.savez(path, x=x, labels=np.arange(9))
    else:
        np.save(path, x)
    content, rng = path.read_bytes(), np.random.default_rng(5)
    read(path)
    said: list[str] = []
    for _ in range(TRIES):
        path.write_bytes(damaged(content, rng))
        try:
            read(path)
        except InputError as error:
            said.append(str(error))
    assert all(str(path) in text for text in said)
    # Values may be others, and most of the bytes of these small files are no values.
    assert 0.3 * TRIES < len(said) < TRIES
