"""Pseudo-labels whose class sizes you choose, by ``crkd.ot.sinkhorn``.

Two images of each digit have a label; the others take the one whose prototype is near. Taken alone,
each image follows a crude prototype, and some digits get too many. Assigned together, the images
also follow the class sizes, if these are right: equal sizes are wrong here and lower the accuracy.

    python examples/sinkhorn_pseudo_labels.py
"""

import argparse

import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch import Tensor
from torch.nn import functional as F

from crkd.ot import sinkhorn

SIZES = (160, 140, 120, 100, 80, 60, 50, 40, 30, 20)
"""Number of images of each digit to label, known approximately."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-iters", type=int, default=50)
    parser.add_argument("--epsilon", type=float, default=0.05)
    options = parser.parse_args()
    pixels, digits = load_digits(return_X_y=True)
    features = F.normalize(torch.tensor(PCA(16, random_state=0).fit_transform(pixels)).float())
    labels = torch.tensor(digits)
    rows = [torch.nonzero(labels == digit).flatten() for digit in range(10)]

    # Two labeled images of each digit make its prototype; others are to be labeled.
    prototypes = F.normalize(torch.stack([features[own[-2:]].mean(dim=0) for own in rows]))
    unlabeled = torch.cat([own[:size] for own, size in zip(rows, SIZES, strict=True)])
    scores = features[unlabeled] @ prototypes.T
    hidden = labels[unlabeled]  # for the printed score

    sizes = torch.tensor(SIZES).float()
    settings = {"epsilon": options.epsilon, "num_iters": options.num_iters}
    found = {
        "nearest prototype": scores,
        "equal class sizes": sinkhorn(scores, **settings),
        "given class sizes": sinkhorn(scores, class_marginal=sizes, **settings),
    }
    print(f"{'pseudo-labels':<20}{'accuracy':>9}   images in each class")
    for name, assignment in found.items():
        print(f"{name:<20}{share_right(assignment, hidden):>9.1%}   {in_each_class(assignment)}")
    print(f"{'(truth)':<20}{'':>9}   {' '.join(f'{size:>3}' for size in SIZES)}")


def share_right(assignment: Tensor, hidden: Tensor) -> float:
    return float((assignment.argmax(dim=1) == hidden).float().mean())


def in_each_class(assignment: Tensor) -> str:
    counts = assignment.argmax(dim=1).bincount(minlength=assignment.shape[1])
    return " ".join(f"{count:>3}" for count in counts.tolist())


if __name__ == "__main__":
    main()
