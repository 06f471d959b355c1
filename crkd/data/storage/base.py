"""Interface of image stores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Rows = npt.NDArray[np.int64]


class ImageStore(ABC):
    """The n images of a subset as square uint8 tensors.

    Attributes:
        size: side of an image in pixels.
        device: device of the returned images.
    """

    size: int
    device: torch.device

    @abstractmethod
    def __len__(self) -> int:
        """Return n."""

    @abstractmethod
    def get(self, index: Tensor) -> Tensor:
        """Return the images at some positions of the subset.

        Args:
            index: ``(b,)`` int64 in ``[0, n)``, on the store's device.

        Returns:
            ``(b, 3, size, size)`` uint8 on the store's device.

        Raises:
            UnreadableImageError: an image cannot be decoded.
        """

    @abstractmethod
    def batches(self, order: Iterable[Rows]) -> Iterator[Tensor]:
        """Yield the images of successive batches, prepared in advance.

        Args:
            order: the positions of each batch, ``(b,)`` int64 in ``[0, n)``, on the host. It is
                read in advance, so it must not depend on the yielded images.

        Yields:
            ``(b, 3, size, size)`` uint8 on the store's device.

        Raises:
            UnreadableImageError: an image cannot be decoded.
        """
