"""Which blocks share their moments."""

from examples import LINEAR, block, conv, gemm, matmul

from onnx_relusv.core.blocks import Block, Geometry
from onnx_relusv.spectra.moments import moments_key


def of(geometry: Geometry, *, source: str = "x") -> Block:
    return block(geometry, (9, 9), source=source)


BASE = conv(4, 6, (3, 3), groups=2, pads=(1, 1, 1, 1))


def test_what_comes_behind_the_patches_is_of_no_matter() -> None:
    wider = conv(4, 10, (3, 3), groups=2, pads=(1, 1, 1, 1))
    same = block(wider, (9, 9), key="other", activation=LINEAR, element_type=10)
    assert moments_key(same) == moments_key(of(BASE))
    assert len({moments_key(same), moments_key(of(BASE))}) == 1
    # Rows are rows, however many axes are in front of them.
    assert moments_key(block(gemm(5, 3))) == moments_key(block(matmul(5, 7), (4,)))


def test_whatever_changes_the_patches_counts() -> None:
    for other in (
        of(BASE, source="elsewhere"),
        of(conv(6, 6, (3, 3), groups=2, pads=(1, 1, 1, 1))),
        of(conv(4, 6, (3, 3), groups=1, pads=(1, 1, 1, 1))),
        # As many columns from other places.
        of(conv(4, 6, (9, 1), groups=2, pads=(1, 1, 1, 1))),
        of(conv(4, 6, (3, 3), groups=2, pads=(1, 1, 1, 1), strides=(2, 1))),
        of(conv(4, 6, (3, 3), groups=2, pads=(1, 1, 1, 1), dilations=(1, 2))),
        of(conv(4, 6, (3, 3), groups=2, pads=(1, 1, 0, 1))),
        of(conv(4, 6, (3, 3), groups=2, auto_pad="SAME_UPPER")),
    ):
        assert moments_key(other) != moments_key(of(BASE))
