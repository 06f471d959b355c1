"""Memory that a discovery on vectors takes, about."""

from __future__ import annotations

from typing import Final

from crkd.clustering.kmeans import has_faiss
from crkd.data.storage.workers import threads_of_a_process
from crkd.stages.vectors.candidates import SINKHORN, TEMI
from crkd.stages.vectors.contest import DRAWS, MOST_ROWS

FIXED_BYTES: Final = 1 << 30
COPIES: Final = 4
"""Copies of the sample that are in memory at once, as float32."""
BYTES_OF_A_ROW: Final = 256
BYTES_OF_A_LOGIT: Final = 20
"""Memory of a discovery: for itself, for a vector in a file, and for each class of such a one."""
HELD: Final = 2
"""Numbers for each row, class and head: a probability, and its square root for the consensus."""
TRAINED_ROWS: Final = 8192
"""Rows whose memory the training of heads takes: several tensors of the rows of a batch."""

_HEADS: Final = {
    "auto": TEMI.num_heads,
    "heads": TEMI.num_heads,
    "plain_heads": TEMI.num_heads,
    "consensus": TEMI.num_heads,
    "sinkhorn_heads": SINKHORN.num_heads,
}
"""Heads that predict all rows at once; k-means and merging have none."""


def discovery_bytes(rows: int, length: int, sample: int, num_classes: int, heads: int) -> int:
    """Return the memory of a discovery on vectors in files.

    Heads predict the sample before all rows are predicted, so the larger of the two counts.

    Args:
        rows: N, all vectors.
        length: D.
        sample: number of vectors from which the discovery learns.
        num_classes: C, known and novel ones.
        heads: from :func:`head_bytes`.

    >>> discovery_bytes(1000, 10, 500, 5, 0) - FIXED_BYTES
    436000
    """
    logits = rows * BYTES_OF_A_LOGIT * num_classes
    return FIXED_BYTES + COPIES * 4 * sample * length + rows * BYTES_OF_A_ROW + max(logits, heads)


def head_bytes(method: str, rows: int, num_novel: int, known_rows: int, num_known: int) -> int:
    """Return the memory of the predictions of all heads of a method, in a discovery or contest.

    Args:
        method: of the discovery.
        rows: unlabeled vectors from which it learns.
        num_novel: M; 0 if it is not known.
        known_rows: labeled vectors from which it learns.
        num_known: K.

    >>> head_bytes("kmeans", 50_000, 100, 0, 0), head_bytes("merging", 50_000, 100, 0, 0)
    (0, 0)
    """
    # K-means of scikit-learn copies its rows.
    each = 4 * _HEADS.get(method, 0) * (HELD if has_faiss() else HELD + 1)
    needed = each * num_novel * (rows + TRAINED_ROWS)
    if method == "auto":
        # Draws run in threads.
        draws = min(DRAWS, threads_of_a_process())
        hidden = max(2, num_known // 2)
        contest = draws * each * hidden * (min(known_rows, MOST_ROWS) + TRAINED_ROWS)
        needed = max(needed, contest)
    return needed
