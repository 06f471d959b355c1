"""Image source of arrays in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from crkd.core.errors import InputError
from crkd.data.sources.base import ImageSource, Pixels, RowIds


class ArraySource(ImageSource):
    """Equal-sized images in one array.

    Args:
        images: ``(N, H, W, 3)`` or ``(N, 3, H, W)`` uint8, RGB; if both readings are possible, the
            last axis holds the colors.
        labels: ``(N,)`` integers, -1 for unlabeled images.
        class_names: the classes in label order.
        part: prefix of the ids ("train/00012"); not used if ``ids`` are given.
        ids: N unique names.

    Raises:
        InputError: the array has another shape or type, or the labels do not match.
    """

    def __init__(
        self,
        images: npt.NDArray[np.generic],
        labels: npt.ArrayLike,
        class_names: Sequence[str],
        *,
        part: str = "train",
        ids: Sequence[str] | None = None,
    ) -> None:
        if images.ndim != 4 or 3 not in (images.shape[1], images.shape[3]):
            raise InputError(
                f"images of shape {images.shape} are not (N, H, W, 3) or (N, 3, H, W); "
                "bring the colors to the second or last axis"
            )
        super().__init__(labels, class_names, RowIds(part, len(images)) if ids is None else ids)
        if len(images) != len(self):
            raise InputError(f"{len(images)} images have {len(self)} labels; give one an image")
        self._images = _as_bytes(images if images.shape[3] == 3 else images.transpose(0, 2, 3, 1))

    def read(self, index: int) -> Pixels:
        """Return image ``index`` as ``(H, W, 3)`` uint8."""
        image: Pixels = self._images[index]
        return image

    def _content(self) -> Iterator[bytes | memoryview]:
        """Yield all pixels."""
        yield np.ascontiguousarray(self._images).reshape(-1).data

    def pixels(self) -> Pixels | None:
        """Return ``(N, 3, S, S)`` uint8 for square images, else None."""
        if self._images.shape[1] != self._images.shape[2]:
            return None
        return np.ascontiguousarray(self._images.transpose(0, 3, 1, 2))


def _as_bytes(images: npt.NDArray[np.generic]) -> Pixels:
    """Return ``images`` unchanged if uint8; raise an error that names the problem otherwise."""
    if images.dtype == np.uint8:
        return np.asarray(images, dtype=np.uint8)
    if np.issubdtype(images.dtype, np.floating) and not np.isfinite(images).all():
        bad = int(np.argmin(np.isfinite(images).reshape(len(images), -1).all(axis=1)))
        raise InputError(
            f"images hold a NaN or infinite value, first in image {bad}; remove or correct it and "
            "give uint8 values from 0 to 255"
        )
    raise InputError(
        f"images of type {images.dtype} are not uint8; scale them to 0..255 and convert with "
        ".astype(numpy.uint8)"
    )
