"""Decoding of one image file to RGB bytes."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from crkd.core.paths import irregular
from crkd.data.sources.base import Pixels, UnreadableImageError

MAX_PIXELS: Final = 8192 * 8192
"""Largest width times height that is decoded: 67 million pixels, 200 MB as RGB."""

# A closed list, because other readers of Pillow can start external programs (EPS) or follow
# references to other files. Untrusted images must not be able to do so.
FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"}
)


_ENDINGS: Final = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
_UP_TO_16_BITS: Final = ("PNG", "PPM")
"""Formats whose pixels in mode "I" have 16 bits.

A PNG has that mode before Pillow 11, and a PGM is scaled to 65,535 from any largest value.
"""


def decode_image(data: Path | bytes, where: str, *, at_least: int | None = None) -> Pixels:
    """Decode one image to ``(H, W, 3)`` uint8, RGB.

    EXIF orientation is applied; gray, palette and CMYK images become RGB; transparency is drawn on
    white; 16-bit gray keeps its upper eight bits; an animation gives its first frame.

    Args:
        data: a file, or its content.
        where: name of the image for messages.
        at_least: allows a JPEG to come smaller, by 2, 4 or 8, as long as both sides keep so many
            pixels; that takes a fraction of the time. None keeps every size.

    Raises:
        UnreadableImageError: not a regular file, not one of ``FORMATS``, truncated or damaged, more
            than ``MAX_PIXELS`` pixels, or pixels without a defined range (float and 32-bit images).
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns about large images and odd metadata; only the limit below counts.
            warnings.simplefilter("ignore")
            with _stream(data, where) as file, Image.open(file, formats=FORMATS) as image:
                _check_size(image, where)
                if at_least is not None:
                    image.draft(None, (at_least, at_least))
                image.load()
                return np.asarray(upright_rgb(image, where))
    except UnreadableImageError:
        raise
    except Exception as error:
        raise UnreadableImageError(where, _reason(error)) from error


class Header(NamedTuple):
    """Header information of an image file.

    Attributes:
        width: in pixels, before any rotation.
        height: in pixels, before any rotation.
        ends_well: whether the file ends as its format requires. False means "undecided": the file
            may still be valid, and only decoding can tell.
    """

    width: int
    height: int
    ends_well: bool


def read_header(data: Path | bytes, where: str) -> Header:
    """Read the header of an image without decoding it.

    Args:
        data: a file, or its content.
        where: name of the image for messages.

    Raises:
        UnreadableImageError: not a regular file, not one of ``FORMATS``, or more than
            ``MAX_PIXELS`` pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # One file for the begin and the end: each opening takes time on a network drive.
            with _stream(data, where) as file:
                with Image.open(file, formats=FORMATS) as image:
                    _check_size(image, where)
                    width, height = image.size
                    ending = _ENDINGS.get(image.format or "")
                if ending is None:
                    return Header(width, height, ends_well=False)
                file.seek(-len(ending), io.SEEK_END)
                return Header(width, height, ends_well=file.read() == ending)
    except UnreadableImageError:
        raise
    except Exception as error:
        raise UnreadableImageError(where, _reason(error)) from error


def _stream(data: Path | bytes, where: str) -> BinaryIO:
    """Return the bytes of an image, open for reading."""
    if isinstance(data, bytes):
        return io.BytesIO(data)
    kind = irregular(data)
    if kind is not None:
        raise UnreadableImageError(where, f"{kind}, not a regular file")
    return data.open("rb")


def _check_size(image: Image.Image, where: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UnreadableImageError(
            where, f"{width} x {height} pixels are more than the {MAX_PIXELS:,} allowed"
        )


def upright_rgb(image: Image.Image, where: str) -> Image.Image:
    """Return an opened image in mode "RGB", as :func:`decode_image` describes; it may be itself.

    Args:
        image: any image of Pillow.
        where: name of the image for messages.

    Raises:
        UnreadableImageError: a float or 32-bit image.
    """
    # Turning loses the format.
    return _to_rgb(_upright(image), image.format, where)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - damaged metadata must not make the image unreadable
        return image


def _to_rgb(image: Image.Image, kind: str | None, where: str) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or (image.mode == "I" and kind in _UP_TO_16_BITS):
        # A plain convert() would clip it to white.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise UnreadableImageError(
            where, f"a {image.mode!r} image (32 bits a pixel) has no defined range of brightness"
        )
    if image.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in image.info:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layered).convert("RGB")
    return image.convert("RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "the file does not exist"
    if isinstance(error, UnidentifiedImageError):
        return f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image"
    return " ".join(str(error).split()) or type(error).__name__
