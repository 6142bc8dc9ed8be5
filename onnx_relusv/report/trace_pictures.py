"""The pictures of a trace's page; a section with nothing to show is left out."""

from onnx_relusv.report.formatting import percent_text, printable
from onnx_relusv.report.page import MOST_OPEN, Picture, PictureRow, Section
from onnx_relusv.report.trace_plots import TAIL, areas_svg, distribution_svg
from onnx_relusv.report.trace_sections import QUANTITIES
from onnx_relusv.traces import BlockTrace, Separation, Trace


def areas_picture_section(separation: Separation | None) -> tuple[Section, ...]:
    """The chart of all AUROCs."""
    if separation is None:
        return ()
    text = (
        "The chance that a wrong answer lies on the wrong answers' side of a right one. Lines are "
        "95 % bootstrap intervals; the dashed line is max softmax, with its own interval in grey."
    )
    if separation.scores:
        text += f" The lines of a block are, from the top: {', '.join(QUANTITIES)}."
    legend = [(name, name) for name in QUANTITIES] if separation.scores else []
    return (
        Section(
            title="What tells wrong answers",
            text=text,
            pictures=(Picture(areas_svg(separation, name="areas"), wide=True),),
            legend=(*legend, ("ink", "the output, and all blocks"), ("level", "max softmax")),
        ),
    )


def distributions_section(trace: Trace) -> tuple[Section, ...]:
    """How every quantity is distributed, layer by layer."""
    if not trace.blocks:
        return ()
    both = trace.separation is not None
    legend = (("right", "right answers"), ("wrong", "wrong answers"))
    text = "In the order in which the model computes the blocks. "
    if both:
        text += "Right and wrong answers are drawn with equal areas. "
    text += f"The outermost {percent_text(TAIL)} on either side are left out."
    return (
        Section(
            title="Inputs, layer by layer",
            text=text,
            picture_rows=tuple(
                PictureRow(printable(block.key), _distributions(block, trace, f"block-{number}"))
                for number, block in enumerate(trace.blocks)
            ),
            legend=legend if both else (("every", "all inputs"),),
            folded=len(trace.blocks) > MOST_OPEN,
        ),
    )


def _distributions(block: BlockTrace, trace: Trace, name: str) -> tuple[Picture, ...]:
    correct = trace.correct if trace.separation is not None else None
    steps = {"active": 1 / block.positions}
    return tuple(
        Picture(
            distribution_svg(
                values,
                correct,
                step=steps.get(quantity, 0.0),
                title=quantity,
                name=f"{name}-{quantity}",
                label=f"Distribution of {quantity} in {printable(block.key)}",
            )
        )
        for quantity, values in block.quantities.items()
    )
