"""The ways in which novel classes can be found on vectors; one of them is chosen by a contest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crkd.clustering.consensus import consensus
from crkd.clustering.kmeans import Floats, kmeans
from crkd.clustering.logistic import logistic_regression
from crkd.clustering.merging import merged_kmeans
from crkd.clustering.whitening import WhitenedSpace
from crkd.stages.vectors.discovery_input import DiscoveryInput, Rows
from crkd.stages.vectors.heads import Heads, HeadSettings, train_heads

TEMI: Final = HeadSettings()
UNEVEN: Final = HeadSettings(exponent=0.9)
"""The nearer the exponent is to 1, the less the classes are spread evenly."""
SINKHORN: Final = HeadSettings(objective="sinkhorn", num_heads=6)
REFINING_RATE: Final = 1e-2
REFINING_STEPS: Final = 200
BEST_HEADS: Final = 3


@dataclass(frozen=True, eq=False)
class NovelHead:
    """A linear head in a space that separates M novel classes.

    Attributes:
        space: of the vectors.
        weights: ``(k, M)`` float32.
        biases: ``(M,)`` float32.
    """

    space: WhitenedSpace
    weights: Floats
    biases: Floats

    def logits(self, vectors: Floats) -> Floats:
        """Return the logits of ``(N, D)`` vectors, ``(N, M)`` float32."""
        found: Floats = self.space.rows(vectors) @ self.weights + self.biases
        return found


Candidate = Callable[[DiscoveryInput, int], NovelHead]


def by_kmeans(inputs: DiscoveryInput, seed: int) -> NovelHead:
    """K-means on principal components at unit length: the floor."""
    return _nearest_centroid(inputs.plain, inputs.num_novel, seed)


def by_whitened_kmeans(inputs: DiscoveryInput, seed: int) -> NovelHead:
    """K-means in the space whitened by the known classes."""
    return _nearest_centroid(inputs.whitened, inputs.num_novel, seed)


def by_heads(inputs: DiscoveryInput, seed: int) -> NovelHead:
    """TEMI heads in the whitened space, and a last head from what they agree on."""
    return _widened(inputs, _heads(inputs.whitened, inputs.num_novel, TEMI, seed), seed)


def by_plain_heads(inputs: DiscoveryInput, seed: int) -> NovelHead:
    """TEMI heads on principal components: no label shapes their space."""
    return _heads(inputs.plain, inputs.num_novel, TEMI, seed)


def by_sinkhorn_heads(inputs: DiscoveryInput, seed: int) -> NovelHead:
    """Heads trained on balanced pseudo-labels in the whitened space, from whitened k-means."""
    return _heads(inputs.whitened, inputs.num_novel, SINKHORN, seed)


def by_merging(inputs: DiscoveryInput, seed: int) -> NovelHead:
    """Refine merged clusters by TEMI that lets classes differ in size."""
    clusters = merged_kmeans(inputs.whitened.values, inputs.num_novel, seed=seed)
    return _refined(inputs.wide, [clusters], inputs.num_novel, UNEVEN, seed + 1)


def by_consensus(inputs: DiscoveryInput, seed: int) -> NovelHead:
    """Return what heads, whitened k-means and k-means agree on, for want of a clear winner."""
    heads = [way(inputs, seed) for way in (by_heads, by_whitened_kmeans, by_kmeans)]
    logits = [torch.from_numpy(head.logits(inputs.novel)) for head in heads]
    votes = [part.softmax(dim=1).numpy() for part in logits]
    clusters = consensus(votes, inputs.num_novel, seed=seed)
    return _learned(inputs, clusters)


CANDIDATES: Final[dict[str, Candidate]] = {
    "heads": by_heads,
    "plain_heads": by_plain_heads,
    "sinkhorn_heads": by_sinkhorn_heads,
    "merging": by_merging,
    "whitened_kmeans": by_whitened_kmeans,
    "kmeans": by_kmeans,
}
"""Name to candidate of the contest; of equally good ones the first is taken."""

METHODS: Final[dict[str, Candidate]] = {**CANDIDATES, "consensus": by_consensus}
"""All that can be asked for."""

FLOOR: Final = "kmeans"
UNDECIDED: Final = "consensus"


def _nearest_centroid(rows: Rows, num_novel: int, seed: int) -> NovelHead:
    """Return k-means as a linear head: half the squared distance, less what all classes share."""
    centroids = kmeans(rows.values, num_novel, seed=seed).centroids
    biases = -0.5 * np.square(centroids).sum(axis=1)
    scale = np.float32(1 / TEMI.temperature)
    return NovelHead(rows.space, scale * centroids.T, scale * biases)


def _heads(rows: Rows, num_novel: int, settings: HeadSettings, seed: int) -> NovelHead:
    """Train heads, refine the best and what they agree on, and return the one of least loss."""
    values, neighbors = rows.tensors()
    heads = train_heads(values, neighbors, num_novel, settings, seed=seed)
    clusterings = _starts(heads, rows, num_novel, seed)
    return _refined(rows, clusterings, num_novel, settings, seed + 1)


def _widened(inputs: DiscoveryInput, head: NovelHead, seed: int) -> NovelHead:
    """Refine a head in the wide space, and learn its clusters there.

    The regression corrects single vectors; the wide space holds more of what separates classes.
    """
    wide = inputs.wide
    clusters = head.logits(inputs.novel).argmax(axis=1)
    head = _refined(wide, [clusters], inputs.num_novel, TEMI, seed + 2)
    return _learned(inputs, (wide.values @ head.weights).argmax(axis=1))


def _learned(inputs: DiscoveryInput, clusters: NDArray[np.int64]) -> NovelHead:
    """Return a head that is learned from clusters in the wide space as if they were labels."""
    wide = inputs.wide
    return NovelHead(wide.space, *logistic_regression(wide.values, clusters, inputs.num_novel))


def _refined(
    rows: Rows,
    clusterings: list[NDArray[np.int64]],
    num_novel: int,
    settings: HeadSettings,
    seed: int,
) -> NovelHead:
    """Train heads from clusterings at a low rate, and return the one of least loss."""
    values, neighbors = rows.tensors()
    start = torch.stack([_directions(values, found, num_novel) for found in clusterings])
    refining = dataclasses.replace(
        settings, learning_rate=REFINING_RATE, steps=min(REFINING_STEPS, settings.steps)
    )
    heads = train_heads(values, neighbors, num_novel, refining, seed=seed, start=start)
    best = heads.weights[int(heads.losses.argmin())]
    return NovelHead(rows.space, best.numpy(), np.zeros(num_novel, np.float32))


def _starts(heads: Heads, rows: Rows, num_novel: int, seed: int) -> list[NDArray[np.int64]]:
    """Return clusterings to refine: good heads, consensus of all and of the better half, k-means.

    A consensus corrects what single heads merge or divide, but the merging of most heads remains in
    it. So some of the heads themselves stay in the choice.
    """
    logits = heads.logits(torch.from_numpy(rows.values))
    # Of very many rows and classes, a second tensor of this size would not fit into the memory.
    for head in logits:
        head.copy_(head.softmax(dim=-1))
    order = heads.losses.argsort().tolist()
    ranked = [logits[head].numpy() for head in order]
    return [
        *(part.argmax(axis=1) for part in ranked[:BEST_HEADS]),
        consensus(ranked, num_novel, seed=seed),
        consensus(ranked[: -(-len(ranked) // 2)], num_novel, seed=seed),
        kmeans(rows.values, num_novel, seed=seed).assignment,
    ]


def _directions(values: Tensor, clusters: NDArray[np.int64], num_novel: int) -> Tensor:
    """Return the mean of every cluster at unit length, ``(k, M)``; zeros for an empty one."""
    sums = torch.zeros(num_novel, values.shape[1])
    sums.index_add_(0, torch.from_numpy(clusters), values)
    return torch.nn.functional.normalize(sums, dim=1).T
