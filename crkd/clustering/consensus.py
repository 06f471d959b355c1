"""One clustering out of many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats, kmeans
from crkd.core.errors import InputError


def consensus(
    probabilities: list[Floats], num_clusters: int, *, seed: int, num_restarts: int = 10
) -> NDArray[np.int64]:
    """Return the clustering that agrees best with several soft ones.

    K-means on the square roots of all memberships, one column for each cluster of each clustering
    (Wu, Liu, Xiong, Cao and Chen, "K-Means-Based Consensus Clustering", TKDE 2015). Two rows are
    near in these columns where most of the clusterings keep them together, so that no cluster of
    one has to be matched to a cluster of another, and classes that one of them merges and another
    divides are found.

    Args:
        probabilities: H arrays ``(N, M_h)`` whose rows sum to one; hard ones are allowed.
        num_clusters: M.
        seed: of the k-means.
        num_restarts: of the k-means.

    Returns:
        ``(N,)`` in [0, M).

    Raises:
        InputError: there is no clustering, or they are not of the same rows.

    >>> first = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    >>> len(set(consensus([first, first[:, ::-1]], 2, seed=0)[:2].tolist()))
    1
    """
    if not probabilities or len({len(part) for part in probabilities}) != 1:
        raise InputError(
            f"the clusterings have {[len(part) for part in probabilities]} rows; give one or more "
            "clusterings of the same rows"
        )
    widths = [part.shape[1] for part in probabilities]
    # Filled part by part: besides the probabilities, only the columns are in memory.
    columns = np.empty((len(probabilities[0]), sum(widths)), np.float32)
    for part, end in zip(probabilities, np.cumsum(widths).tolist(), strict=True):
        np.sqrt(part, out=columns[:, end - part.shape[1] : end], dtype=np.float32)
    return kmeans(columns, num_clusters, seed=seed, num_restarts=num_restarts).assignment
