"""Image source of a folder with one folder for each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crkd.core.errors import InputError
from crkd.data.sources.files import FileSource, image_files, readable_id


def class_folders(folder: Path, names: Sequence[str], *, complete: bool = True) -> FileSource:
    """Return the images of some class folders; other folders are not read.

    The ids are the paths from the name of ``folder`` on ("val/n01443537/0001.JPEG").

    Args:
        folder: holds a folder of the name of each class.
        names: the classes in label order.
        complete: whether every class must have an image.

    Raises:
        InputError: no class has an image, one has none although all must, or a folder cannot be
            read.
    """
    places = [folder / name for name in names]
    images = [list(image_files(place)) if place.is_dir() else [] for place in places]
    empty = [name for name, found in zip(names, images, strict=True) if not found]
    if len(empty) == len(names):
        raise InputError(
            f"{str(folder)!r} holds no image in the folder of a class, such as {names[0]!r}; sort "
            "its images into one folder for each class"
        )
    if complete and empty:
        raise InputError(
            f"{str(folder)!r} has no image of the class {empty[0]!r} ({len(empty)} of "
            f"{len(names)} classes are without images); fetch the set again"
        )
    return FileSource(
        [path for found in images for path in found],
        [label for label, found in enumerate(images) for _ in found],
        names,
        [readable_id(path, folder.parent) for found in images for path in found],
    )
