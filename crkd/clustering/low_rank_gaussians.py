"""One Gaussian for each class; each covariance is of low rank plus a diagonal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crkd.core.errors import InputError


@dataclass(frozen=True)
class ClassStatistics:
    """One Gaussian for each of C classes in the space of D features, each with its own covariance.

    The covariance is ``F F^T + diag(residual)``. The r columns of F are the directions of the
    largest variance of a class, and the residual is the remaining variance of each feature. A
    class takes ``4 D (r + 2)`` bytes.

    Attributes:
        means: ``(C, D)`` float32.
        factors: ``(C, D, r)`` float32; F.
        residual: ``(C, D)`` float32, 0 or above.
    """

    means: Tensor
    factors: Tensor
    residual: Tensor

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.means)

    @property
    def num_draws(self) -> int:
        """Number of standard normal numbers that one sample takes: r + D."""
        return self.factors.shape[-1] + self.means.shape[-1]

    def sample(self, classes: Tensor, normals: Tensor) -> Tensor:
        """Return one feature vector for each given class; ``normals`` are the only randomness.

        Features are averages of maps after a ReLU, so negative values are set to 0.

        Args:
            classes: ``(n,)`` int64 in ``[0, C)``.
            normals: ``(n, r + D)`` standard normal numbers.

        Returns:
            ``(n, D)`` float32.
        """
        rank = self.factors.shape[-1]
        along = torch.einsum("ndr,nr->nd", self.factors[classes], normals[:, :rank])
        apart = self.residual[classes].sqrt() * normals[:, rank:]
        return (self.means[classes] + along + apart).clamp(min=0.0)

    def followed_by(self, others: ClassStatistics) -> ClassStatistics:
        """Return the statistics of these classes, followed by those of ``others``.

        Raises:
            InputError: the features are of another length or the factors of another rank.
        """
        self._check_alike(others)
        new = others.tensors()
        return ClassStatistics(**{n: torch.cat([t, new[n]]) for n, t in self.tensors().items()})

    def with_rows(self, classes: Sequence[int], others: ClassStatistics) -> ClassStatistics:
        """Return these statistics with the given classes replaced by those of ``others``.

        Raises:
            InputError: the features are of another length or the factors of another rank.
        """
        self._check_alike(others)
        theirs = others.tensors()
        rows = torch.tensor(list(classes), dtype=torch.int64)
        taken = {n: t.index_copy(0, rows, theirs[n][rows]) for n, t in self.tensors().items()}
        return ClassStatistics(**taken)

    def _check_alike(self, others: ClassStatistics) -> None:
        if self.factors.shape[1:] != others.factors.shape[1:]:
            raise InputError(
                f"the class statistics hold {tuple(self.factors.shape[1:])} numbers a class and "
                f"{tuple(others.factors.shape[1:])} for other classes; do not change "
                "discover.replay.rank"
            )

    def tensors(self) -> dict[str, Tensor]:
        """Return the three tensors by name, to save them in a file."""
        return {"means": self.means, "factors": self.factors, "residual": self.residual}


def class_statistics(
    features: Tensor, labels: Tensor, num_classes: int, *, rank: int
) -> ClassStatistics:
    """Fit a Gaussian to the features of every class.

    Args:
        features: ``(N, D)``.
        labels: ``(N,)`` int64 in ``[0, num_classes)``, or -1 for rows to leave out.
        num_classes: C.
        rank: r, at least 0 and at most D; directions beyond the number of a class's images are 0.

    Returns:
        Statistics with the maximum-likelihood variances. A class without an image gets the mean
        and the variance of all features.

    Raises:
        InputError: no row has a label, or the rank is out of range.
    """
    width = features.shape[1]
    if not 0 <= rank <= width:
        raise InputError(f"rank is {rank}; it must be between 0 and the {width} features")
    kept = labels >= 0
    if not kept.any():
        raise InputError("no feature has a class; class statistics need at least one")
    rows, classes = features[kept].double(), labels[kept]
    means, factors, residual = [], [], []
    for number in range(num_classes):
        members = rows[classes == number]
        members = members if len(members) else rows
        mean = members.mean(dim=0)
        centered = (members - mean) / len(members) ** 0.5
        _, strengths, directions = torch.linalg.svd(centered, full_matrices=False)
        top = (strengths[:rank, None] * directions[:rank]).T
        factor = torch.nn.functional.pad(top, (0, rank - top.shape[1]))
        means.append(mean)
        factors.append(factor)
        left = centered.square().sum(dim=0) - factor.square().sum(dim=1)
        residual.append(left.clamp(min=0.0))
    parts = (torch.stack(part).float() for part in (means, factors, residual))
    return ClassStatistics(*parts)
