"""Trains a network on the training images and measures it on the validation images."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from data import Images
from networks import PixelStatistics
from torch import nn

# Larger than a training batch, since no gradients are kept while measuring.
MEASURING_BATCH = 1_000


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    A recipe is kept once it reaches `least_accuracy` on the validation images; the test images
    have no say.

    Attributes:
        epochs: passes over the training images.
        least_accuracy: the validation accuracy below which the network is given up: it is then
            neither measured on the test images nor written.
        learning_rate: the highest rate of the schedule.
        weight_decay: the decoupled decay of AdamW, for weight matrices and kernels alone.
        batch: images a step.
        shift: the most pixels that an image is moved by, in each direction.
        flip: whether images are mirrored at random.
        momentum: of stochastic gradient descent, which then replaces AdamW: it decays all
            parameters, and its rate falls to a tenth after each quarter of the epochs.
    """

    epochs: int
    least_accuracy: float
    learning_rate: float
    weight_decay: float
    batch: int = 128
    shift: int = 2
    flip: bool = True
    momentum: float | None = None


RECIPES: dict[str, Recipe] = {
    "lenet_300_100": Recipe(
        epochs=40, least_accuracy=0.895, learning_rate=1.5e-3, weight_decay=0.05, shift=1
    ),
    # As Kim et al. train it, "Neuron Merging: Compensating for Pruned Neurons", NeurIPS 2020.
    "lenet_300_100_sgd": Recipe(
        epochs=60,
        least_accuracy=0.895,
        learning_rate=0.1,
        weight_decay=1e-4,
        shift=0,
        flip=False,
        momentum=0.9,
    ),
    "fashion_mlp": Recipe(
        epochs=20, least_accuracy=0.9, learning_rate=2e-3, weight_decay=0.05, shift=1
    ),
    "fashion_vgg": Recipe(epochs=14, least_accuracy=0.93, learning_rate=3e-3, weight_decay=0.05),
    "fashion_resnet": Recipe(
        epochs=10, least_accuracy=0.925, learning_rate=4e-3, weight_decay=0.05
    ),
}


def pixel_statistics(images: Images) -> PixelStatistics:
    """Returns the mean and the standard deviation of all pixels of `images`."""
    return PixelStatistics(float(images.image.mean()), float(images.image.std()))


def _augment(image: torch.Tensor, recipe: Recipe, generator: torch.Generator) -> torch.Tensor:
    """Moves and mirrors each image of a batch by itself, filling with black.

    Args:
        image: uint8 images of shape (batch, 1, height, width).
        recipe: says how far to move and whether to mirror.
        generator: the source of randomness.

    Returns:
        New images of the same shape.
    """
    count, _, height, width = image.shape
    shift = recipe.shift
    padded = nn.functional.pad(image[:, 0], (shift, shift, shift, shift))
    offsets = torch.randint(0, 2 * shift + 1, (2, count, 1), generator=generator)
    rows = offsets[0] + torch.arange(height)
    columns = offsets[1] + torch.arange(width)
    if recipe.flip:
        mirrored = torch.rand((count, 1), generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    # One gather for the whole batch: advanced indices broadcast to (batch, height, width).
    moved = padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved[:, None]


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW that decays weights of two or more dimensions, not biases or normalisations; or SGD."""
    if recipe.momentum is not None:
        return torch.optim.SGD(
            network.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    undecayed = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": undecayed, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)


def _schedule(
    optimizer: torch.optim.Optimizer, recipe: Recipe, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if recipe.momentum is not None:
        return torch.optim.lr_scheduler.StepLR(optimizer, steps // 4, 0.1)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=steps, pct_start=0.2
    )


def predict(network: nn.Module, image: np.ndarray) -> np.ndarray:
    """Returns the logits of `network`, in evaluation mode, for raw images."""
    network.eval()
    with torch.inference_mode():
        pieces = [
            network(piece.float()) for piece in torch.from_numpy(image).split(MEASURING_BATCH)
        ]
    return torch.cat(pieces).numpy()


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the share of rows of `logits` whose largest entry is the label's."""
    return float((logits.argmax(axis=1) == labels).mean())


def train(
    network: nn.Module, training: Images, validation: Images, recipe: Recipe, seed: int
) -> float:
    """Trains `network` in place.

    Args:
        network: the network, freshly initialised.
        training: the images to train on.
        validation: the images to measure on after each epoch.
        recipe: the settings.
        seed: seeds the order of the images and their augmentation.

    Returns:
        The accuracy on the validation images after the last epoch.
    """
    generator = torch.Generator().manual_seed(seed)
    image = torch.from_numpy(training.image)
    labels = torch.from_numpy(training.labels).long()
    # The last, incomplete batch of an epoch is left out: its batch statistics would be poorer.
    steps = len(labels) // recipe.batch
    # Convolutions run faster on processors with the channels innermost.
    network.to(memory_format=torch.channels_last)
    optimizer = _optimizer(network, recipe)
    schedule = _schedule(optimizer, recipe, recipe.epochs * steps)
    loss_function = nn.CrossEntropyLoss()
    validation_accuracy = 0.0
    for epoch in range(1, recipe.epochs + 1):
        started = time.monotonic()
        network.train()
        order = torch.randperm(len(labels), generator=generator)[: steps * recipe.batch]
        loss_sum = 0.0
        for indices in order.split(recipe.batch):
            moved = _augment(image[indices], recipe, generator).float()
            loss = loss_function(network(moved), labels[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            loss_sum += loss.item()
        validation_accuracy = accuracy(predict(network, validation.image), validation.labels)
        print(
            f"  epoch {epoch}/{recipe.epochs}: loss {loss_sum / steps:.4f}, "
            f"validation {validation_accuracy:.2%}, {time.monotonic() - started:.0f} s",
            flush=True,
        )
    return validation_accuracy
