"""Encoded images in a fixed order, for passes that read every image once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

MAX_IMAGE_BYTES: Final = 256 * 1024 * 1024
_CHUNK: Final = 65536


class EncodedImages(ABC):
    """N encoded images of one folder, tar file or table.

    Names and classes of millions of images are kept in a few bytes each.

    Attributes:
        place: the folder or file.
        class_names: the classes that occur.
    """

    def __init__(self, place: Path, names: Names, classes: Sequence[str | None]) -> None:
        self.place = place
        self._names = names
        self.class_names: tuple[str, ...] = tuple(dict.fromkeys(c for c in classes if c))
        number = {name: label for label, name in enumerate(self.class_names)}
        self._classes: npt.NDArray[np.int32] = np.array(
            [number.get(name or "", -1) for name in classes], dtype=np.int32
        )

    def __len__(self) -> int:
        """Return N."""
        return len(self._names)

    def name(self, index: int) -> str:
        """Return the name of an image: unique within ``place``, valid Unicode."""
        return self._names[index]

    def class_of(self, index: int) -> str | None:
        """Return the class of an image; None where nothing gives one."""
        label = int(self._classes[index])
        return None if label < 0 else self.class_names[label]

    def path(self, index: int) -> Path | None:
        """Return the file of an image; None if it has none of its own."""
        del index
        return None

    @abstractmethod
    def read(self, index: int) -> bytes:
        """Return the encoded image. Safe to call from many threads.

        Raises:
            UnreadableImageError: there is none, or it cannot be read.
        """


class Names:
    """Texts in compact arrays: 1,000,000 paths take some 60 MB instead of 150 MB."""

    def __init__(self) -> None:
        self._chunks: list[Any] = []
        self._last: list[str] = []

    def append(self, name: str) -> None:
        """Add a text at the end."""
        self._last.append(name)
        if len(self._last) == _CHUNK:
            import pyarrow

            self._chunks.append(pyarrow.array(self._last, pyarrow.string()))
            self._last = []

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self._chunks) * _CHUNK + len(self._last)

    def __getitem__(self, index: int) -> str:
        """Return one text."""
        chunk, row = divmod(index, _CHUNK)
        if chunk < len(self._chunks):
            name: str = self._chunks[chunk][row].as_py()
            return name
        return self._last[row]
