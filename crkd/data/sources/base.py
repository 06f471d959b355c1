"""Image source interface."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, overload

import numpy as np
import numpy.typing as npt

from crkd.core.errors import InputError

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

SAMPLED: Final = 1024
"""Largest number of images whose stored bytes enter the digest of a source of files."""


class UnreadableImageError(InputError):
    """One image cannot be decoded.

    Attributes:
        path: location of the image (a file, or a file and a row).
        reason: why it cannot be decoded.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"cannot read the image {path!r}: {reason}; repair or remove it "
            "(own image folders: --skip-unreadable leaves such files out)"
        )
        self.path = path
        self.reason = reason


class ImageSource(ABC):
    """N images with labels, in a fixed order.

    Attributes:
        labels: ``(N,)`` int64, position of each image's class in ``class_names``, -1 for an
            unknown label. Read-only.
        class_names: the classes in label order.
        ids: N unique names that do not change between runs ("train/00012", or a relative path).
        digests: ``(N, 16)`` uint8 of the stored images, for sources that a person can change; None
            where nothing has computed them.
    """

    digests: npt.NDArray[np.uint8] | None = None

    def __init__(
        self, labels: npt.ArrayLike, class_names: Sequence[str], ids: Sequence[str]
    ) -> None:
        """Check and store the attributes of every source.

        Raises:
            InputError: a label that is neither -1 nor in ``[0, len(class_names))``, class names
                that repeat, or a number of ids that differs from the number of labels.
        """
        values = np.array(labels, dtype=np.int64)
        if values.ndim != 1 or len(ids) != len(values):
            raise InputError(
                f"labels of shape {values.shape} do not fit {len(ids)} images; give one label a row"
            )
        if values.size and not (values.min() >= -1 and values.max() < len(class_names)):
            raise InputError(
                f"labels span {values.min()} to {values.max()}, but {len(class_names)} class names "
                f"allow -1 (unlabeled) to {len(class_names) - 1}; name every class"
            )
        if len(set(class_names)) != len(class_names):
            raise InputError(
                f"class names repeat among {len(class_names)} names; give each class its own name"
            )
        values.flags.writeable = False
        self.labels: Labels = values
        self.class_names: tuple[str, ...] = tuple(class_names)
        self.ids: Sequence[str] = ids

    def __len__(self) -> int:
        """Return N."""
        return len(self.labels)

    def fingerprint(self, index: int) -> bytes:
        """Return bytes that change with the stored image ``index``: its size, begin and end.

        Sources of images that a person cannot change return nothing.
        """
        del index
        return b""

    def content_digest(self) -> bytes:
        """Return a SHA-256 of the names and of what :meth:`_content` gives of the images.

        Labels are not part of it, because most of them are hidden.
        """
        found = hashlib.sha256()
        for name in self.ids:
            found.update(name.encode("utf-8", "surrogateescape") + b"\0")
        for block in self._content():
            found.update(block)
        return found.digest()

    def _content(self) -> Iterator[bytes | memoryview]:
        """Yield the fingerprints of at most ``SAMPLED`` images, evenly spaced."""
        for index in range(0, len(self), max(1, -(-len(self) // SAMPLED))):
            yield self.fingerprint(index)

    def file(self, index: int) -> Path | None:
        """Return the file of image ``index``; None if it has none of its own."""
        del index
        return None

    @abstractmethod
    def read(self, index: int) -> Pixels:
        """Return image ``index`` as ``(H, W, 3)`` uint8, RGB. Safe to call from many threads.

        Raises:
            UnreadableImageError: the image cannot be decoded.
        """

    def read_small(self, index: int, at_least: int) -> Pixels:
        """Return image ``index`` as :meth:`read`, or smaller where that is faster to decode.

        Args:
            index: of the image.
            at_least: both sides of a smaller image keep so many pixels.

        Raises:
            UnreadableImageError: the image cannot be decoded.
        """
        del at_least
        return self.read(index)

    def pixels(self) -> Pixels | None:
        """Return all images as ``(N, 3, S, S)`` uint8 if they are square, equal-sized and cheap.

        "Cheap" means that they certainly fit into main memory, as 32-pixel images do. None means
        that images have to be read one by one.

        Raises:
            UnreadableImageError: an image cannot be decoded.
        """
        return None


class RowIds(Sequence[str]):
    """Ids of a source whose images have a position but no name: "train/00012".

    >>> RowIds("train", 3)[2], RowIds("test", 20)[5:7]
    ('train/00002', ['test/00005', 'test/00006'])
    """

    def __init__(self, part: str, length: int) -> None:
        self._part = part
        self._range = range(length)

    def __len__(self) -> int:
        """Return the number of ids."""
        return len(self._range)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        """Return one id, or a list of them for a slice."""
        if isinstance(index, slice):
            return [f"{self._part}/{row:05d}" for row in self._range[index]]
        return f"{self._part}/{self._range[index]:05d}"
