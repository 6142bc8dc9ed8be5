"""Sweeps made by hand: curves of known shape, and what a report has to say of them."""

from dataclasses import replace
from pathlib import Path

from traced import MODEL, PROVENANCE

from onnx_relusv.core.measures import Latency, OutputChange
from onnx_relusv.core.results import Evaluation
from onnx_relusv.core.sweeps import Judges, MissedPoint, PairedDrop, PeerPoint, Sweep, SweepPoint

SIZES = (0.5, 0.25, 0.125, 0.0625)
# Points that each method loses; the level's lie on a line over the sizes.
LOSSES = {"damage": (0.0, 0.1, 0.4, 6.0), "level": (0.5, 3.0, 4.25, 4.875)}
SAMPLES = 1000


def point(method: str, size: float, loss: float) -> SweepPoint:
    return SweepPoint(
        method=method,
        size=size,
        before=MODEL,
        after=replace(
            MODEL,
            path=Path(f"report/models/net-{method}-{size}.onnx"),
            bytes=round(size * MODEL.bytes),
            macs=round(size * MODEL.macs),
        ),
        level=1 - size,
        damage=loss / 100 if method == "damage" else None,
        evaluation=Evaluation(
            samples=SAMPLES,
            agreement=1 - loss / 50,
            accuracy_before=0.9,
            accuracy_after=0.9 - loss / 100,
            outputs=(
                OutputChange(
                    name="logits", kind="scores", relative=loss / 10, mean=0.01, largest=0.1
                ),
                OutputChange(
                    name="<b>embedding</b>",
                    kind="values",
                    relative=loss / 20,
                    mean=0.02,
                    largest=0.2,
                ),
            ),
            latencies=(
                Latency(batch=1, before=1e-3, after=(0.4 + 1.5 * size) * 1e-3),
                Latency(batch=32, before=1e-2, after=(0.2 + size) * 1e-2),
            ),
            provider="CPUExecutionProvider",
        ),
        drop=PairedDrop(
            lost=round(10 * loss) + 5, gained=5, points=loss, lower=loss - 1, upper=loss + 2
        ),
        command=f"onnx-relusv compress models/net.onnx --size {size} --output '<{method}>.onnx'",
    )


def swept() -> Sweep:
    """A sweep of two methods judged by accuracy; one of them bends at an eighth of the bytes."""
    return Sweep(
        model=MODEL,
        judged_by="accuracy",
        judges=Judges(
            path="test.npz",
            sha256="ef" * 32,
            count=SAMPLES,
            labelled=True,
            set_aside=False,
            fit_samples=400,
            select_samples=100,
        ),
        meanings={"damage": "the least damage", "level": "one common level"},
        points=tuple(
            point(method, size, loss)
            for method, losses in LOSSES.items()
            for size, loss in zip(SIZES, losses, strict=True)
        ),
        knees={"damage": 0.125, "level": None},
        missed=(
            MissedPoint(method="damage", size=0.01, failed=False, reason="<b>too small</b>"),
            MissedPoint(method="level", size=0.02, failed=True, reason="[b]y[/b] is off by 3"),
        ),
        kept=True,
        peers=(
            PeerPoint(name="<b>theirs</b>", bytes=0.25, accuracy=0.885, macs=0.4),
            PeerPoint(name="other", bytes=0.125, drop=3.25, latency=0.7),
        ),
        provenance=replace(PROVENANCE, sample_count=500),
    )


def unlabelled(sweep: Sweep) -> Sweep:
    """The same, judged by agreement."""
    return replace(
        sweep,
        peers=sweep.peers[1:],
        judged_by="agreement",
        judges=replace(sweep.judges, labelled=False, set_aside=True),
        points=tuple(
            replace(
                one,
                evaluation=replace(one.evaluation, accuracy_before=None, accuracy_after=None),
                drop=None if one.drop is None else replace(one.drop, gained=None),
            )
            for one in sweep.points
        ),
    )


def without_scores(sweep: Sweep) -> Sweep:
    """The same of a model without class scores."""
    return replace(
        sweep,
        peers=sweep.peers[1:],
        judged_by="error",
        points=tuple(
            replace(
                one,
                evaluation=replace(
                    one.evaluation, agreement=None, accuracy_before=None, accuracy_after=None
                ),
                drop=None,
            )
            for one in sweep.points
        ),
    )
