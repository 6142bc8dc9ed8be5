"""The blocks of docs/from-python.md run, one after the other, as they stand there."""

import re
import subprocess
import sys
from pathlib import Path

import onnx

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "from-python.md"


def test_the_blocks_run(tmp_path: Path) -> None:
    (tmp_path / "models").symlink_to(ROOT / "models")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 7
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    share, conclusion, accuracies, _, measured, widths, beyond, refused = done.stdout.splitlines()
    assert float(share) <= 0.25
    assert "of the bytes" in conclusion
    for shown in (measured, beyond):
        *_, lower, estimate, upper = map(float, shown.split())
        assert lower <= estimate <= upper
    assert 1.128 < float(beyond.split()[0]) < 1.129  # of GELU
    width, relu_width = map(float, widths.split())
    assert width / 2 <= relu_width <= width
    assert all(float(one) > 0.8 for one in accuracies.split())
    assert refused.startswith("3 samples: holds picture, but the model's inputs are image")
    small, whole = (
        path.stat().st_size
        for path in (tmp_path / "quarter.onnx", ROOT / "models" / "lenet_300_100.onnx")
    )
    assert small <= 0.25 * whole
    onnx.checker.check_model(str(tmp_path / "quarter.onnx"))
