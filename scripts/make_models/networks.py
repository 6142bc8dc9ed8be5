"""The networks, as torch modules.

Every network takes raw pixel values (0 to 255) of shape (batch, 1, 28, 28) and gives ten logits.
Each operation is a module of its own, so that `to_onnx` can translate a network module by module
and name each ONNX node after the module it came from.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

CLASS_COUNT = 10
PIXEL_COUNT = 28 * 28
PIXEL_RANGE = 255


@dataclass(frozen=True)
class PixelStatistics:
    """Mean and standard deviation of the training images' raw pixel values."""

    mean: float
    deviation: float


class Normalise(nn.Module):
    """Subtracts the mean of the training pixels and divides by their standard deviation."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, pixels: PixelStatistics) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(pixels.mean))
        self.register_buffer("deviation", torch.tensor(pixels.deviation))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Normalises raw pixels."""
        return (image - self.mean) / self.deviation


class Add(nn.Module):
    """Adds two tensors; a module so that the sum has a name."""

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Returns the sum."""
        return left + right


class ResidualBlock(nn.Module):
    """Two convolutions with a shortcut around them.

    Where the block changes the channels or the resolution, the shortcut is a 1x1 convolution;
    elsewhere it is the input itself.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(channels_in, channels_out, stride)
        self.conv1_bn = nn.BatchNorm2d(channels_out)
        self.conv1_relu = nn.ReLU()
        self.conv2 = _convolution(channels_out, channels_out)
        self.conv2_bn = nn.BatchNorm2d(channels_out)
        self.has_projection = stride != 1 or channels_in != channels_out
        if self.has_projection:
            self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
            self.shortcut_bn = nn.BatchNorm2d(channels_out)
        self.add = Add()
        self.relu = nn.ReLU()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Adds the shortcut to the two convolutions' result, before the last ReLU."""
        inner = self.conv1_relu(self.conv1_bn(self.conv1(features)))
        inner = self.conv2_bn(self.conv2(inner))
        if self.has_projection:
            features = self.shortcut_bn(self.shortcut(features))
        return self.relu(self.add(inner, features))


def _convolution(channels_in: int, channels_out: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution; the batch normalisation that follows it makes a bias needless."""
    return nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)


def lenet_300_100(pixels: PixelStatistics) -> nn.Sequential:
    """784-300-100-10 fully connected network, without batch normalisation."""
    network = nn.Sequential()
    network.add_module("normalise", Normalise(pixels))
    network.add_module("flatten", nn.Flatten())
    network.add_module("fc1", nn.Linear(PIXEL_COUNT, 300))
    network.add_module("fc1_relu", nn.ReLU())
    network.add_module("fc2", nn.Linear(300, 100))
    network.add_module("fc2_relu", nn.ReLU())
    network.add_module("fc3", nn.Linear(100, CLASS_COUNT))
    return network


def lenet_300_100_sgd(_: PixelStatistics) -> nn.Sequential:
    """The same network on pixels from -1 to 1, as Kim et al. (2020) give them to it."""
    return lenet_300_100(PixelStatistics(PIXEL_RANGE / 2, PIXEL_RANGE / 2))


def fashion_mlp(pixels: PixelStatistics) -> nn.Sequential:
    """784-1024-1024-512-10 fully connected network with batch normalisation."""
    network = nn.Sequential()
    network.add_module("normalise", Normalise(pixels))
    network.add_module("flatten", nn.Flatten())
    width_in = PIXEL_COUNT
    for number, width_out in enumerate((1024, 1024, 512), start=1):
        network.add_module(f"fc{number}", nn.Linear(width_in, width_out, bias=False))
        network.add_module(f"fc{number}_bn", nn.BatchNorm1d(width_out))
        network.add_module(f"fc{number}_relu", nn.ReLU())
        network.add_module(f"fc{number}_dropout", nn.Dropout(0.2))
        width_in = width_out
    network.add_module("fc4", nn.Linear(width_in, CLASS_COUNT))
    return network


def fashion_vgg(pixels: PixelStatistics) -> nn.Sequential:
    """Five 3x3 convolutions, the first three followed by pooling, and two dense layers."""
    network = nn.Sequential()
    network.add_module("normalise", Normalise(pixels))
    channels_in = 1
    for number, channels_out in enumerate((32, 64, 128, 256, 256), start=1):
        network.add_module(f"conv{number}", _convolution(channels_in, channels_out))
        network.add_module(f"conv{number}_bn", nn.BatchNorm2d(channels_out))
        network.add_module(f"conv{number}_relu", nn.ReLU())
        if number <= 3:
            network.add_module(f"pool{number}", nn.MaxPool2d(2))
        channels_in = channels_out
    network.add_module("flatten", nn.Flatten())
    network.add_module("flatten_dropout", nn.Dropout(0.3))
    network.add_module("fc1", nn.Linear(channels_in * 3 * 3, 256))
    network.add_module("fc1_relu", nn.ReLU())
    network.add_module("fc1_dropout", nn.Dropout(0.3))
    network.add_module("fc2", nn.Linear(256, CLASS_COUNT))
    return network


def fashion_resnet(pixels: PixelStatistics) -> nn.Sequential:
    """A stem and three stages of two residual blocks, at 14x14, 7x7 and 4x4 pixels.

    The pooling after the stem keeps the work at about 33 million multiplications an image.
    """
    network = nn.Sequential()
    network.add_module("normalise", Normalise(pixels))
    network.add_module("stem", _convolution(1, 32))
    network.add_module("stem_bn", nn.BatchNorm2d(32))
    network.add_module("stem_relu", nn.ReLU())
    network.add_module("stem_pool", nn.MaxPool2d(2))
    channels_in = 32
    for stage, (channels_out, stride) in enumerate(((32, 1), (80, 2), (176, 2)), start=1):
        first = ResidualBlock(channels_in, channels_out, stride)
        network.add_module(f"stage{stage}_block1", first)
        network.add_module(f"stage{stage}_block2", ResidualBlock(channels_out, channels_out, 1))
        channels_in = channels_out
    network.add_module("pool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    network.add_module("fc", nn.Linear(channels_in, CLASS_COUNT))
    return network


NETWORKS: dict[str, Callable[[PixelStatistics], nn.Sequential]] = {
    "lenet_300_100": lenet_300_100,
    "lenet_300_100_sgd": lenet_300_100_sgd,
    "fashion_mlp": fashion_mlp,
    "fashion_vgg": fashion_vgg,
    "fashion_resnet": fashion_resnet,
}
