"""Feature vectors of images in memory, without files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from crkd.core.errors import InputError
from crkd.data.encoded.listing import find_encoded
from crkd.data.sources.base import UnreadableImageError
from crkd.data.sources.decode import upright_rgb
from crkd.data.storage.resize import fit_square
from crkd.data.storage.workers import threads_of_a_process
from crkd.data.vectors.table import Vectors
from crkd.embedding.pipeline import pixels_of
from crkd.models.pretrained.base import Preprocessing
from crkd.models.pretrained.choose_form import AUTO, choose_form
from crkd.models.pretrained.embedder import Pixels, one_thread_each
from crkd.models.pretrained.open import DEFAULT, open_pretrained

if TYPE_CHECKING:
    from PIL.Image import Image

_CHUNK: Final = 512


def embed_images(
    images: str | Path | Sequence[str | Path | Image | npt.NDArray[np.uint8]],
    *,
    backbone: str = DEFAULT,
    image_size: int | None = None,
    runtime: str = AUTO,
) -> Vectors:
    """Return the feature vectors of images, ``(N, D)`` float32.

    Args:
        images: a folder, tar file or table of images; or a sequence of image files, images of
            Pillow and ``(H, W, 3)`` uint8 arrays. An opened image has the vector of its file; that
            of a JPEG of more than twice ``image_size`` may differ a little, because the file is
            decoded at a smaller size.
        backbone: name of a pretrained backbone.
        image_size: side of the input in pixels; None takes that of the backbone.
        runtime: "auto", "torch", "torch-bf16" or "onnx".

    Raises:
        InputError: an argument is unusable, such as a generator, or an image cannot be read.

    >>> from PIL import Image
    >>> embed_images([Image.new("RGB", (40, 30))]).shape
    (1, 1280)
    """
    opened = open_pretrained(backbone, image_size=image_size)
    shape = opened.preprocessing
    given: Sequence[Any]
    if isinstance(images, str | Path):
        listing = find_encoded([images])
        given = range(len(listing))

        def prepared(row: Any) -> Pixels:
            return pixels_of(listing.read(row), listing.image_id(row), shape)

    else:
        # Images are taken by position, and some of them again.
        if not (hasattr(images, "__len__") and hasattr(images, "__getitem__")):
            raise InputError(
                f"images is a {type(images).__name__}; give a folder, or a list of image files, "
                "images of Pillow or arrays"
            )
        given = images

        def prepared(row: Any) -> Pixels:
            return _prepared(row, shape)

    if not len(given):
        return np.empty((0, opened.num_features), np.float32)
    with _errors_for_python():
        first = prepared(given[0])
    embedder = choose_form(opened, first[None], runtime=runtime, trial=False).embedder
    size, found = embedder.form.batch_size, []
    with (
        _errors_for_python(),
        one_thread_each(),
        ThreadPoolExecutor(threads_of_a_process()) as pool,
    ):
        for start in range(0, len(given), _CHUNK):
            pixels = _each(prepared, list(given[start : start + _CHUNK]), pool)
            batches = [np.stack(pixels[at : at + size]) for at in range(0, len(pixels), size)]
            found += list(pool.map(embedder, batches))
    return np.concatenate(found)


def _each(
    prepared: Callable[[Any], Pixels], rows: list[Any], pool: ThreadPoolExecutor
) -> list[Pixels]:
    """Return the pixels of each row; one that comes several times is prepared once.

    Two threads must not decode one image of Pillow at the same time.
    """
    once = {id(row): row for row in rows}
    made = dict(zip(once, pool.map(prepared, once.values()), strict=True))
    return [made[id(row)] for row in rows]


@contextmanager
def _errors_for_python() -> Iterator[None]:
    """Name no flag of a command as the remedy for an image that cannot be read."""
    try:
        yield
    except UnreadableImageError as error:
        raise InputError(
            f"the image {error.path!r} cannot be read: {error.reason}; repair it or leave it out"
        ) from None


def _opened(image: Image) -> Pixels:
    """Return an image of Pillow as ``(H, W, 3)`` uint8, as its file would be decoded."""
    if not hasattr(image, "getexif"):
        raise InputError(
            f"an image is a {type(image).__name__}; give a file, an image of Pillow or an "
            "(H, W, 3) uint8 array"
        )
    try:
        return np.asarray(upright_rgb(image, ""))
    except UnreadableImageError as error:
        raise InputError(
            f"an image of Pillow cannot be embedded: {error.reason}; convert it to mode 'RGB'"
        ) from None


def _prepared(image: Any, preprocessing: Preprocessing) -> Pixels:
    """Return one image as ``(S, S, 3)`` uint8."""
    if isinstance(image, str | Path):
        from crkd.data.encoded.folder import read_regular

        return pixels_of(read_regular(Path(image)), str(image), preprocessing)
    if not isinstance(image, np.ndarray):
        image = _opened(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(
            f"an image of shape {image.shape} and type {image.dtype} is not (H, W, 3) uint8; "
            "convert it"
        )
    square = fit_square(image, preprocessing.image_size, preprocessing.interpolation)
    return square.transpose(1, 2, 0)
