"""Writes the pictures of docs/theory.md and fills its tables, from models/."""

from pathlib import Path

import answers
import brackets
import convolutions
import spectra
import training
import widths
from bundled import MODELS, measured_blocks
from page import fill
from picture import write_picture

PAGE, IMAGES = Path("docs/theory.md"), Path("docs/images")


def main() -> None:
    """Measures all models once and makes everything of it."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    models = {}
    for name in MODELS:
        print(f"measuring {name}", flush=True)
        models[name] = measured_blocks(name)
        write_picture(
            spectra.figure(models[name]),
            IMAGES / f"spectra_{name}.svg",
            f"ReLU singular values of the blocks of {name}",
        )
    blocks = [block for found in models.values() for block in found]
    write_picture(
        brackets.figure(blocks),
        IMAGES / "brackets.svg",
        "Certified bounds of the first three ReLU singular values",
    )
    write_picture(
        convolutions.figure(blocks),
        IMAGES / "convolutions.svg",
        "Norms of convolutions on feature maps over those of their patch views",
    )
    tables = {
        "training": training.table(blocks),
        "brackets": brackets.table(models),
        "convolutions": convolutions.table(models),
        "widths": widths.table(blocks),
    }
    print("tracing the test images", flush=True)
    tables["answers"] = answers.table()
    text = PAGE.read_text(encoding="utf-8")
    for name, table in tables.items():
        print(f"\n{name}\n\n{table}")
        text = fill(text, name, table)
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
