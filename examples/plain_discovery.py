"""The whole discovery step in plain torch: nothing of crkd but the final score.

Five digits have labels, the other five have none. A small network learns the first five, then
sorts the others into five classes while a frozen copy of it keeps the first five in place.

    python examples/plain_discovery.py --epochs 60
"""

import argparse
import copy

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from crkd.clustering import kmeans
from crkd.evaluation import clustering_accuracy

KNOWN, NOVEL, TEMPERATURE = 5, 5, 0.1


class CosineHead(nn.Embedding):  # whose weights are drawn as unit normals
    """Class prototypes on the unit sphere; logits are cosines over a temperature."""

    def forward(self, features: Tensor) -> Tensor:
        return F.linear(F.normalize(features), F.normalize(self.weight)) / TEMPERATURE


class Network(nn.Module):
    """Images (B, 1, 8, 8) to logits of the known and of the novel classes."""

    def __init__(self) -> None:
        super().__init__()
        first = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)
        second = nn.Conv2d(16, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.Flatten()
        self.backbone = nn.Sequential(*first, *second, nn.Linear(64 * 16, 128), nn.ReLU())
        self.known = CosineHead(KNOWN, 128)
        self.novel = nn.Sequential(nn.Linear(128, 128), nn.ReLU(), CosineHead(NOVEL, 128))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(images)
        return self.known(features), self.novel(features)


def view(images: Tensor) -> Tensor:
    """Turn, scale and shift each image a little."""
    angle, scale, x, y = torch.rand(4, len(images)) * 0.4 - 0.2
    cos, sin = (1 + scale) * angle.cos(), (1 + scale) * angle.sin()
    affine = torch.stack([cos, -sin, x, sin, cos, y], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


@torch.no_grad()
def balanced_labels(logits: Tensor, epsilon: float = 0.05) -> Tensor:
    """Sinkhorn's iterations: every novel class receives the same number of images."""
    plan = (logits * TEMPERATURE / epsilon).exp()
    for _ in range(3):
        plan = plan / plan.sum(dim=0, keepdim=True)
        plan = plan / plan.sum(dim=1, keepdim=True)
    return plan


def class_relation(known: Tensor, novel: Tensor, taught: Tensor, t: float = 4.0) -> Tensor:
    """The known classes that the teacher sees in novel images, weighted by their known mass."""
    error = F.cross_entropy(known / t, (taught / t).softmax(dim=1), reduction="none")
    mass = (torch.cat([known, novel], dim=1) / t).softmax(dim=1)[:, :KNOWN].sum(dim=1)
    return t**2 * (error * mass / mass.mean()).mean()


def discovery_loss(student: Network, teacher: Network, images: Tensor, labels: Tensor) -> Tensor:
    """Two views of a batch, the labeled images first: each predicts the target of the other."""
    views, n = [view(images), view(images)], len(labels)
    outputs = [student(v) for v in views]
    loss = torch.zeros(())
    for shown, (known, novel), other in zip(views, outputs, outputs[::-1], strict=True):
        target = torch.zeros(len(images), KNOWN + NOVEL)
        target[:n, :KNOWN] = F.one_hot(labels, KNOWN)
        target[n:, KNOWN:] = balanced_labels(novel[n:])
        taught = teacher(shown[n:])[0].detach()
        loss = loss + F.cross_entropy(torch.cat(other, dim=1), target) / 2
        loss = loss + 0.1 * class_relation(known[n:], novel[n:], taught) / 2
    return loss


def main(epochs: int) -> None:
    torch.manual_seed(0)
    pixels, digits = load_digits(return_X_y=True)
    images, classes = torch.tensor(pixels / 16).float().view(-1, 1, 8, 8), torch.tensor(digits)
    labeled, labels = images[classes < KNOWN], classes[classes < KNOWN]
    unlabeled, hidden = images[classes >= KNOWN], classes[classes >= KNOWN]  # hidden: for the score

    student = Network()
    for stage in ("pretrain", "discover"):
        teacher = copy.deepcopy(student).eval()
        optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3)
        for _ in range(epochs):
            rows = [torch.randperm(len(part)).split(128) for part in (labeled, unlabeled)]
            for a, b in zip(*rows, strict=False):
                if stage == "pretrain":
                    loss = F.cross_entropy(student(view(labeled[a]))[0], labels[a])
                else:
                    both = torch.cat([labeled[a], unlabeled[b]])
                    loss = discovery_loss(student, teacher, both, labels[a])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    found = student.eval()(unlabeled)[1].argmax(dim=1)
    clusters = kmeans(unlabeled.flatten(1).numpy(), NOVEL, seed=0).assignment
    print(f"k-means on pixels:  {clustering_accuracy(clusters, hidden):.1%}")
    print(f"discovered classes: {clustering_accuracy(found, hidden):.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=60)
    main(parser.parse_args().epochs)
