"""Trains the example networks on Fashion-MNIST and writes them as ONNX models."""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from data import DEFAULT_FOLDER, FashionMnist, read_fashion_mnist, write_data_files
from networks import NETWORKS
from onnx import helper
from to_onnx import INPUT_NAME, OUTPUT_NAME, to_onnx
from torch import nn
from training import MEASURING_BATCH, RECIPES, Recipe, accuracy, pixel_statistics, predict, train

DEFAULT_OUTPUT = Path(__file__).resolve().parents[2] / "models"

# The longest dot product of the networks has 2304 terms; its rounding error is at most about
# 2304 float32 roundoffs (6e-8), that is 1.4e-4 of the largest magnitude. torch and onnxruntime
# may each err so far, in different directions.
RELATIVE_TOLERANCE = 3e-4


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python scripts/make_models", description=__doc__)
    parser.add_argument(
        "networks",
        nargs="*",
        metavar="NETWORK",
        help=f"which networks to make, of: {', '.join(NETWORKS)} (default: all)",
    )
    parser.add_argument("--data", type=Path, default=DEFAULT_FOLDER, help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="default: models")
    parser.add_argument("--epochs", type=int, help="instead of each recipe's own number")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="of torch; default: %(default)s")
    parser.add_argument(
        "--validate",
        action="store_true",
        help="only train and print validation accuracies: to choose settings by, since the test "
        "images are for the finished models alone",
    )
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.networks) - set(NETWORKS))
    if unknown:
        parser.error(f"no such network: {', '.join(unknown)}; there are {', '.join(NETWORKS)}")
    return arguments


def _predict_by_onnxruntime(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    """Returns the logits that onnxruntime computes for raw images."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    pieces = [
        session.run([OUTPUT_NAME], {INPUT_NAME: image[start : start + MEASURING_BATCH]})[0]
        for start in range(0, len(image), MEASURING_BATCH)
    ]
    return np.concatenate(pieces)


def _train(name: str, data: FashionMnist, recipe: Recipe, seed: int) -> tuple[nn.Sequential, float]:
    """Makes and trains a network; returns it with its validation accuracy."""
    print(f"{name}: {recipe}, seed {seed}")
    torch.manual_seed(seed)
    network = NETWORKS[name](pixel_statistics(data.training))
    return network, train(network, data.training, data.validation, recipe, seed)


def _write_model(
    name: str, network: nn.Sequential, data: FashionMnist, facts: dict[str, str], output: Path
) -> None:
    """Translates a trained network, measures it once on the test images, and writes it.

    Args:
        name: of the network, and of the file.
        network: the trained network.
        data: the divided data set.
        facts: what the model's metadata says of its training.
        output: the folder to write into.
    """
    model = to_onnx(network, name)
    logits = _predict_by_onnxruntime(model, data.test.image.astype(np.float32))
    expected = predict(network, data.test.image)
    difference = float(np.abs(logits - expected).max())
    tolerance = RELATIVE_TOLERANCE * float(np.abs(expected).max())
    if difference > tolerance:
        raise AssertionError(
            f"{name}: onnxruntime differs from torch by {difference:.2e}, over {tolerance:.2e}"
        )
    test_accuracy = accuracy(logits, data.test.labels)
    helper.set_model_props(model, facts | {"test_accuracy": f"{test_accuracy:.4f}"})
    path = output / f"{name}.onnx"
    onnx.save(model, path)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(
        f"{path}: {parameters} parameters, {path.stat().st_size} bytes, test {test_accuracy:.2%}, "
        f"onnxruntime differs from torch by {difference:.1e} of at most {tolerance:.1e}",
        flush=True,
    )


def main() -> None:
    """Makes the data files and the networks that the command line names."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    try:
        data = read_fashion_mnist(arguments.data)
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from None
    if not arguments.validate:
        arguments.output.mkdir(parents=True, exist_ok=True)
        write_data_files(data, arguments.output)
    for name in arguments.networks or NETWORKS:
        recipe = RECIPES[name]
        if arguments.epochs is not None:
            recipe = dataclasses.replace(recipe, epochs=arguments.epochs)
        network, validation_accuracy = _train(name, data, recipe, arguments.seed)
        if arguments.validate:
            continue
        if validation_accuracy < recipe.least_accuracy:
            raise SystemExit(
                f"{name}: validation accuracy {validation_accuracy:.2%} is below "
                f"{recipe.least_accuracy:.2%}: not measured on the test images, not written"
            )
        facts = {
            "dataset": "Fashion-MNIST, 55,000 of the 60,000 training images",
            "epochs": str(recipe.epochs),
            "seed": str(arguments.seed),
            "validation_accuracy": f"{validation_accuracy:.4f}",
        }
        _write_model(name, network, data, facts, arguments.output)


if __name__ == "__main__":
    main()
