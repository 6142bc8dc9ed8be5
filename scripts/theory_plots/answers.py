"""How well what single inputs do in a model tells its right from its wrong answers."""

from bundled import FOLDER, MEASURING, MODELS
from page import markdown_table

from onnx_relusv import trace
from onnx_relusv.core.traces import Interval, Score

_HEADS = (
    "model",
    "wrong of 10,000",
    "best block and quantity",
    "its AUROC",
    "all blocks combined",
    "max softmax",
    "entropy",
    "combined with output",
    "its gain on max softmax",
)


def table() -> str:
    """AUROC by model, with 95 % intervals."""
    rows = []
    for name in MODELS:
        print(f"  {name}", flush=True)
        found = trace(
            FOLDER / f"{name}.onnx", samples=FOLDER / "fashion_test.npz", measuring=MEASURING
        )
        separation = found.separation
        assert separation is not None  # the test images have labels, and no model knows all
        assert separation.combined is not None
        assert separation.combined_with_output is not None
        softmax, entropy = separation.baselines
        best = max(separation.scores, key=lambda score: score.auroc.value)
        together = separation.combined_with_output
        assert together.gain is not None  # only max softmax has none
        rows.append(
            [
                name,
                str(separation.wrong),
                f"{best.block}, {best.quantity}",
                *map(_auroc, (best, separation.combined, softmax, entropy, together)),
                _text(together.gain, "+.3f"),
            ]
        )
    return markdown_table(_HEADS, rows)


def _auroc(score: Score) -> str:
    return _text(score.auroc, ".3f")


def _text(interval: Interval, form: str) -> str:
    return f"{interval.value:{form}} [{interval.lower:{form}}, {interval.upper:{form}}]"
