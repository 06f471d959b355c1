"""A distillation loss of crkd in a training loop of your own.

A large network learns the digits; a small one learns them from 10 labels a class and from what
the large one says of the other images. crkd gives the loss and nothing else.

    python examples/losses_in_your_own_loop.py --epochs 60
"""

import argparse
from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F

from crkd.losses import KDLoss


def mlp(width: int) -> nn.Sequential:
    """Pixels (B, 64) to logits (B, 10)."""
    return nn.Sequential(
        nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )


def train(network: nn.Module, epochs: int, num_rows: int, loss: Callable[[Tensor], Tensor]) -> None:
    """Minimize the loss of a batch, which is given as row numbers."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(num_rows).split(128):
            optimizer.zero_grad()
            loss(rows).backward()
            optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=60)
    epochs = parser.parse_args().epochs
    torch.manual_seed(0)
    pixels, digits = load_digits(return_X_y=True)
    parts = train_test_split(pixels / 16, digits, test_size=0.3, stratify=digits, random_state=0)
    images, test_images = (torch.tensor(part).float() for part in parts[:2])
    labels, test_labels = (torch.tensor(part) for part in parts[2:])

    def accuracy(network: nn.Module) -> str:
        with torch.no_grad():
            right = network(test_images).argmax(dim=1) == test_labels
        return f"{right.float().mean():.1%}"

    teacher = mlp(256)
    train(teacher, epochs, len(images), lambda b: F.cross_entropy(teacher(images[b]), labels[b]))
    teacher.requires_grad_(False).eval()

    # The students see ten labels of each digit.
    few = torch.cat([torch.nonzero(labels == digit).flatten()[:10] for digit in range(10)])
    alone, taught = mlp(16), mlp(16)

    def on_labels(network: nn.Module) -> Tensor:
        return F.cross_entropy(network(images[few]), labels[few])

    # Any loss of crkd.losses is an nn.Module on plain tensors.
    distillation = KDLoss(temperature=4.0)
    train(alone, epochs, len(images), lambda _: on_labels(alone))
    train(
        taught,
        epochs,
        len(images),
        lambda b: on_labels(taught) + distillation(taught(images[b]), teacher(images[b])),
    )
    print(f"teacher, every label:          {accuracy(teacher)}")
    print(f"student, 100 labels:           {accuracy(alone)}")
    print(f"student, 100 labels + teacher: {accuracy(taught)}")


if __name__ == "__main__":
    main()
