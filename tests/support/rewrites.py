"""Rewritten models with what is claimed of them, and their validation."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from graphs import Searched, factors_of, model_proto, normal, normalization, search
from onnx import ModelProto, helper

from onnx_relusv.checking.validate import validate
from onnx_relusv.core.results import Verdict
from onnx_relusv.graph.writing import write_staged
from onnx_relusv.rewrites.apply import Claim
from onnx_relusv.rewrites.low_rank.factors import as_stored
from onnx_relusv.rewrites.low_rank.forms import available_forms
from onnx_relusv.rewrites.low_rank.surgery import rewrite
from onnx_relusv.runtime.session import CPU
from onnx_relusv.work.files import staged

IMAGES = {"x": normal(1, 3, 8, 8)}
# Large enough that three ranks are smaller than the dense weights, names and nodes included.
KERNELS = {
    "k": normal(16, 3, 3, 3),
    "b": normal(16),
    "l": normal(16, 16, 3, 3, scale=0.1),
    "w": normal(16, 40),
    "v": normal(40),
    "u": normal(40, 10),
}
NETWORK = (
    "(float[N,3,8,8] x) => (float[N,10] y) {"
    " a = Conv<pads=[1,1,1,1]>(x, k, b) n = BatchNormalization(a, gamma, beta, mean, variance)"
    " c = Relu(n) d = Conv<pads=[1,1,1,1], strides=[2,2]>(c, l, b) e = Relu(d)"
    " f = GlobalAveragePool(e) g = Flatten(f) h = Gemm(g, w, v) i = LeakyRelu(h)"
    " y = MatMul(i, u) }"
)


@dataclass(frozen=True, eq=False)
class Rewritten:
    """An original, what it was rewritten to, and what is claimed of that."""

    searched: Searched
    proto: ModelProto
    claim: Claim

    def validated(self, folder: Path, proto: ModelProto | None = None, **others: object) -> Verdict:
        """The verdict on the rewritten file, or on another one in its place."""
        with staged(folder / "out.onnx") as stage:
            path = write_staged(proto or self.proto, self.searched.model, stage, "out.onnx")
            arguments = {"original": self.searched.model, "claim": self.claim, "samples": None}
            return validate(
                staged=path,
                provider=CPU,
                rng=np.random.default_rng(0),
                **arguments | others,  # type: ignore[arg-type]
            )


def rewritten(
    searched: Searched,
    keys: set[str] | None = None,
    rank: int = 3,
    chosen: Mapping[str, str] | None = None,
) -> Rewritten:
    """All blocks, or those that are named, at a low rank in a chosen form or their last one."""
    blocks = {block.key: block for block in searched.blocks}
    factors = {
        key: factors_of(
            searched, block, (chosen or {}).get(key, available_forms(block.geometry)[-1]), rank
        )
        for key, block in blocks.items()
        if keys is None or key in keys
    }
    claim = Claim(
        searched.blocks,
        {key: as_stored(blocks[key], found) for key, found in factors.items()},
        dict.fromkeys(factors, 0.5),
    )
    return Rewritten(searched, rewrite(searched.model, searched.blocks, factors, "{}"), claim)


def compressed_network(folder: Path) -> Rewritten:
    """A convolutional network with four blocks, all of them rewritten."""
    proto = model_proto(NETWORK, KERNELS | normalization(16))
    helper.set_model_props(proto, {"labels": "a,b"})
    searched = search(proto, folder, IMAGES)
    assert [block.key for block in searched.blocks] == ["c", "e", "i", "y"]
    return rewritten(searched, chosen={"c": "spatial", "e": "spatial"})
