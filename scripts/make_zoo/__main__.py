"""Makes models and samples for the benchmarks from what scripts/zoo has unpacked."""

import argparse
from pathlib import Path

import numpy as np
import onnx
from keras_to_onnx import INPUT_NAME, keras_to_onnx
from pictures import read_pictures

from onnx_relusv.runtime.session import CPU, Session


def main() -> None:
    """Writes the samples and the model, and prints how many pictures the model gets right."""
    parser = argparse.ArgumentParser(prog="python scripts/make_zoo", description=__doc__)
    parser.add_argument("network", type=Path, help="model.json of ResNet-50, its shards beside it")
    parser.add_argument("pictures", type=Path, help="folder of files imagenet_NUMBER_LABEL.jpg")
    parser.add_argument("output", type=Path, help="folder to write into")
    arguments = parser.parse_args()
    images, labels = read_pictures(arguments.pictures)
    np.savez(arguments.output / "imagenet_pictures.npz", image=images, labels=labels)
    model = arguments.output / "resnet50.onnx"
    onnx.save(keras_to_onnx(arguments.network, "resnet50"), model)
    outputs = Session(model, CPU).run({INPUT_NAME: images})
    (probabilities,) = outputs.values()
    right = int(np.sum(probabilities.argmax(axis=1) == labels))
    print(f"{model}: {right} of {len(labels)} pictures right, top-1")


if __name__ == "__main__":
    main()
