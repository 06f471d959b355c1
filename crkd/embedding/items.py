"""State of each image of one process: its digest, and whether it could be read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

import numpy as np

from crkd.core.atomic_write import write_bytes
from crkd.data.vectors.embedding_file import Digests
from crkd.runs.atomic_files import MAX_JSON_OF_IMAGES, read_json, write_json

DAMAGED, REUSED, EMBEDDED = range(3)
"""States of an image: it cannot be read, its vector was known, its vector was computed."""

_NAME: Final = "items-{:04d}"


class Items:
    """Digests and states of the images from ``start`` to ``stop`` of a listing.

    Attributes:
        start: first image.
        digests: ``(n, 32)`` uint8; zeros where an image cannot be read.
        states: ``(n,)`` uint8, DAMAGED, REUSED or EMBEDDED.
        reasons: of each damaged image the reason, by its position in the listing.
    """

    def __init__(self, start: int, stop: int) -> None:
        self.start = start
        self.digests: Digests = np.zeros((stop - start, 32), np.uint8)
        self.states = np.zeros(stop - start, np.uint8)
        self.reasons: dict[int, str] = {}

    def enter(self, index: int, digest: bytes, state: int) -> None:
        """Keep what became of an image that can be read."""
        self.digests[index - self.start] = np.frombuffer(digest, np.uint8)
        self.states[index - self.start] = state

    def save(self, folder: Path, rank: int) -> None:
        """Write the items of a process, for the process that makes the final file."""
        content = io.BytesIO()
        np.save(content, np.column_stack([self.digests, self.states]), allow_pickle=False)
        write_json(folder / f"{_NAME.format(rank)}.json", list(self.reasons.items()))
        write_bytes(folder / f"{_NAME.format(rank)}.npy", content.getvalue())

    @classmethod
    def load(cls, folder: Path, size: int) -> Items:
        """Return the items of all processes, in their order."""
        blocks = [
            np.load(folder / f"{_NAME.format(rank)}.npy", allow_pickle=False)
            for rank in range(size)
        ]
        joined = np.concatenate(blocks)
        items = cls(0, len(joined))
        items.digests[:], items.states[:] = joined[:, :32], joined[:, 32]
        for rank in range(size):
            reasons = read_json(folder / f"{_NAME.format(rank)}.json", MAX_JSON_OF_IMAGES)
            items.reasons |= dict(reasons)
        return items
