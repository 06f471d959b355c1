"""Vectors of made-up classes as ``crkd embed`` writes them, and tar files of their images."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Final

import numpy as np

from crkd.data.sources.base import Pixels
from crkd.data.vectors.embedding_file import (
    ROW_GROUP,
    EmbeddingInfo,
    RootEntry,
    writing_embeddings,
)

WIDTH: Final = 1280
CLASSES: Final = 10
"""Known classes, and as many novel ones."""
SPREAD: Final = 0.1
"""Standard deviation of the class means; that of the rows of a class is 1."""


def write(place: Path, name: str, count: int, first: int) -> None:
    """Write a tar file of images, and a file of vectors as if they had been embedded.

    Args:
        place: the folder.
        name: of both files; "known" rows have a label.
        count: of rows.
        first: number of the first of ``CLASSES`` classes.
    """
    draw = np.random.default_rng([count, first])
    centers = np.random.default_rng(0).normal(0, SPREAD, (2 * CLASSES, WIDTH)).astype(np.float32)
    archive = place / f"{name}.tar"
    info = EmbeddingInfo(
        crkd="0",
        backbone="made up",
        weights_sha256="0" * 64,
        num_features=WIDTH,
        preprocessing={"image_size": 32},
        form={"runtime": "torch"},
        roots=(RootEntry(archive.name, str(archive), count),),
    )
    with (
        tarfile.open(archive, "w", format=tarfile.USTAR_FORMAT) as tar,
        writing_embeddings(place / f"{name}.parquet", info) as writer,
    ):
        for start in range(0, count, ROW_GROUP):
            numbers = range(start, min(start + ROW_GROUP, count))
            classes = first + np.array(numbers) % CLASSES
            paths = [
                f"c{label:02d}/{number:07d}.png"
                for label, number in zip(classes, numbers, strict=True)
            ]
            images = draw.integers(0, 256, (len(paths), 4, 4, 3), dtype=np.uint8)
            digests = [_added(tar, path, one) for path, one in zip(paths, images, strict=True)]
            vectors = draw.standard_normal((len(paths), WIDTH), dtype=np.float32)
            vectors += centers[classes]
            labels = [path[:3] if name == "known" else None for path in paths]
            ids = [f"{archive.name}/{path}" for path in paths]
            writer.write(
                ids, labels, np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32), vectors
            )


def _added(tar: tarfile.TarFile, path: str, pixels: Pixels) -> bytes:
    """Add an image to a tar file; return the digest of the file in it."""
    content = png(pixels)
    entry = tarfile.TarInfo(path)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
    return hashlib.sha256(content).digest()


def png(pixels: Pixels) -> bytes:
    """Return ``(H, W, 3)`` uint8 pixels as a PNG file, in a tenth of the time of Pillow."""
    height, width = pixels.shape[:2]
    # Each row begins with its filter, 0 for none.
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
