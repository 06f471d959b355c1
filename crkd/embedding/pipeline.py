"""One pass over images: read, decode, scale and embed, each batch in a thread of its own."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from crkd.data.encoded.listing import Listing
from crkd.data.sources.base import UnreadableImageError
from crkd.data.sources.decode import decode_image
from crkd.data.storage.resize import fit_square
from crkd.data.storage.workers import ahead_of, threads_of_a_process
from crkd.data.vectors.table import Vectors
from crkd.embedding.items import EMBEDDED, REUSED, Items
from crkd.embedding.parts import KnownVectors, PartWriter
from crkd.models.pretrained.base import Preprocessing
from crkd.models.pretrained.embedder import Embedder, Pixels, one_thread_each

BLOCK: Final = 16
"""Images that a thread reads at once, at least."""


@dataclass
class Block:
    """Some images, read.

    Attributes:
        rows: their positions in the listing.
        digests: of each image that can be read, by its position.
        new: positions of the images whose vectors are not known.
        pixels: ``(S, S, 3)`` uint8 for each of ``new``.
        reasons: of each image that cannot be read, by its position.
    """

    rows: range
    digests: dict[int, bytes] = field(default_factory=dict)
    new: list[int] = field(default_factory=list)
    pixels: list[Pixels] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)


def pixels_of(content: bytes, where: str, preprocessing: Preprocessing) -> Pixels:
    """Return an encoded image as ``(S, S, 3)`` uint8, decoded, scaled and cut out.

    Raises:
        UnreadableImageError: the image cannot be decoded.
    """
    size = preprocessing.image_size
    # A JPEG of twice the size has all that the scaling can keep.
    decoded = decode_image(content, where, at_least=2 * size)
    return fit_square(decoded, size, preprocessing.interpolation).transpose(1, 2, 0)


class Pipeline:
    """Embeds the images of a listing.

    Args:
        listing: the images.
        embedder: the backbone in its form.
        known: vectors that need not be computed.
        parts: takes the vectors that are computed.
        workers: number of threads; None is one for each processor of the process.
    """

    def __init__(
        self,
        listing: Listing,
        embedder: Embedder,
        known: KnownVectors,
        parts: PartWriter,
        workers: int | None = None,
    ) -> None:
        self._listing, self._embedder, self._known, self._parts = listing, embedder, known, parts
        self._workers = workers or threads_of_a_process()
        self._size = embedder.form.batch_size
        self._reading: deque[Future[Block]] = deque()
        self._computing: deque[tuple[list[bytes], Future[Vectors]]] = deque()
        self._waiting: list[tuple[bytes, Pixels]] = []

    def run(
        self, rows: range, *, stopped: Callable[[], bool], show: Callable[[int], None]
    ) -> Items | None:
        """Embed some images of the listing, in order.

        Args:
            rows: positions in the listing.
            stopped: says whether to end early.
            show: takes the number of images that are done.

        Returns:
            What became of each image; None if it ended early. All vectors are in the parts.

        Raises:
            InputError: a part cannot be written.
        """
        items = Items(rows.start, rows.stop)
        step = max(self._size, BLOCK)
        blocks = deque(range(s, min(s + step, rows.stop)) for s in rows[::step])
        done, early = 0, False
        with one_thread_each(), ThreadPoolExecutor(self._workers) as pool:
            try:
                while blocks or self._reading or self._waiting or self._computing:
                    if early := stopped():
                        break
                    self._submit(blocks, pool)
                    done += self._take_blocks(items, pool, last=not blocks)
                    self._take_vectors()
                    show(done)
                    self._wait()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
        self._take_vectors()
        self._parts.flush()
        return None if early else items

    def _submit(self, blocks: deque[range], pool: ThreadPoolExecutor) -> None:
        # Enough for all threads and no more: pixels wait in memory.
        while blocks and len(self._reading) + len(self._computing) < ahead_of(self._workers):
            self._reading.append(pool.submit(self._read, blocks.popleft()))

    def _read(self, rows: range) -> Block:
        block = Block(rows)
        for row in rows:
            try:
                content = self._listing.read(row)
                digest = hashlib.sha256(content).digest()
                if self._known.find(digest) < 0:
                    where = self._listing.image_id(row)
                    preprocessing = self._embedder.backbone.preprocessing
                    block.pixels.append(pixels_of(content, where, preprocessing))
                    block.new.append(row)
                block.digests[row] = digest
            except UnreadableImageError as error:
                block.reasons[row] = error.reason
        return block

    def _take_blocks(self, items: Items, pool: ThreadPoolExecutor, *, last: bool) -> int:
        """Take the blocks that are read, and begin to compute; return how many images came."""
        count = 0
        while self._reading and self._reading[0].done():
            block = self._reading.popleft().result()
            new = set(block.new)
            for row, digest in block.digests.items():
                items.enter(row, digest, EMBEDDED if row in new else REUSED)
            items.reasons |= block.reasons
            self._waiting += [
                (block.digests[row], pixels)
                for row, pixels in zip(block.new, block.pixels, strict=True)
            ]
            count += len(block.rows)
        while len(self._waiting) >= self._size or (last and not self._reading and self._waiting):
            batch, self._waiting = self._waiting[: self._size], self._waiting[self._size :]
            self._compute(batch, pool)
        return count

    def _compute(self, batch: Sequence[tuple[bytes, Pixels]], pool: ThreadPoolExecutor) -> None:
        pixels = np.stack([image for _, image in batch])
        future = pool.submit(self._embedder, pixels)
        self._computing.append(([digest for digest, _ in batch], future))

    def _take_vectors(self) -> None:
        while self._computing and self._computing[0][1].done():
            digests, future = self._computing.popleft()
            if not future.cancelled():
                self._parts.add(digests, future.result())

    def _wait(self) -> None:
        """Wait for the next block or batch, and now and then look whether a signal came."""
        heads: list[Future[Any]] = [future for _, future in list(self._computing)[:1]]
        heads += list(self._reading)[:1]
        if heads:
            wait(heads, timeout=0.5, return_when=FIRST_COMPLETED)
