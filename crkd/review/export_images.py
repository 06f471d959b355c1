"""Export of reviewed images with their labels, as a table or as folders."""

from __future__ import annotations

import csv
import io
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crkd.core.atomic_write import UNFINISHED, failed_write, share, write_bytes
from crkd.core.errors import InputError
from crkd.core.paths import readable
from crkd.data.sources.base import UnreadableImageError
from crkd.data.splits.partition import Subset
from crkd.runs.csv_cells import escape_formula

FORMS: Final = ("csv", "folder")
# A separator or a name reserved by Windows cannot be a folder name.
_UNFIT: Final = re.compile(r'[\x00-\x1f<>:"/\\|?*]')
_RESERVED: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_LONGEST: Final = 120
_PIECE: Final = 1024 * 1024


def write_images(
    folder: Path,
    form: str,
    images: Subset,
    labels: NDArray[np.int64],
    names: Sequence[str],
    by_person: Collection[str],
    disputed: Mapping[str, str],
) -> None:
    """Write ``labels.csv``, or copies in ``images/CLASS/``, of all images that have a class.

    Either is complete or absent. Copies are not forced to the disk one by one.

    Args:
        folder: the run folder.
        form: "csv" or "folder".
        images: the N images.
        labels: ``(N,)`` class of each, or -1.
        names: names of the classes.
        by_person: ids of the images that the user moved.
        disputed: known class that the joint prediction gives to an image, by id. In the table,
            images that the user moved are not disputed.

    Raises:
        InputError: a file cannot be read or written, or there are copies already.
    """
    if form == "csv":
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(("path", "class", "decided_by", "disputed"))
        for row in np.flatnonzero(labels >= 0).tolist():
            path = images.source.file(int(images.indices[row]))
            shown = images.ids[row] if path is None else readable(path)
            by_model = images.ids[row] not in by_person
            writer.writerow(
                (
                    escape_formula(shown),
                    escape_formula(names[labels[row]]),
                    "model" if by_model else "person",
                    escape_formula(disputed.get(images.ids[row], "") if by_model else ""),
                )
            )
        write_bytes(folder / "labels.csv", text.getvalue().encode())
    else:
        _write_copies(folder, images, labels, names)


def _write_copies(
    folder: Path, images: Subset, labels: NDArray[np.int64], names: Sequence[str]
) -> None:
    rows, places = np.flatnonzero(labels >= 0).tolist(), safe_folder_names(names)
    copies = folder / "images"
    if copies.exists():
        raise InputError(f"{copies} exists already; remove it or choose another folder")
    try:
        temporary = Path(tempfile.mkdtemp(prefix=".images.", suffix=UNFINISHED, dir=folder))
    except OSError as error:
        raise failed_write(copies, error) from error
    try:
        for label in set(labels[rows].tolist()):
            (temporary / places[label]).mkdir()
        for row in rows:
            # Ids are unique, but file names below several folders need not be.
            name = f"{row:06d}-{safe_folder_names([PurePosixPath(images.ids[row]).name])[0]}"
            _copy(images, row, temporary / places[labels[row]] / name)
        share(temporary, 0o777)
        temporary.replace(copies)
    except OSError as error:
        raise failed_write(copies, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _copy(images: Subset, row: int, target: Path) -> None:
    """Copy the file of an image, or write its pixels as PNG if it has none of its own.

    Raises:
        OSError: the target cannot be written.
        InputError: the image cannot be read.
    """
    path = images.source.file(int(images.indices[row]))
    if path is None:
        picture = Image.fromarray(images.source.read(int(images.indices[row])))
        picture.save(target.with_name(f"{target.name}.png"), "PNG")
        return
    try:
        original = path.open("rb")
    except OSError as error:
        raise UnreadableImageError(readable(path), error.strerror or str(error)) from error
    with original, target.open("wb") as copy:
        shutil.copyfileobj(original, copy, _PIECE)


def check_files(images: Subset, labels: NDArray[np.int64]) -> None:
    """Check that the files of all images that have a class are there to be copied.

    Args:
        images: the N images.
        labels: ``(N,)`` class of each, or -1.

    Raises:
        InputError: a file is missing.
    """
    for row in np.flatnonzero(labels >= 0).tolist():
        path = images.source.file(int(images.indices[row]))
        if path is not None and not path.is_file():
            raise InputError(
                f"--images folder copies {readable(path)}, which does not exist; restore it, or "
                "use --images csv"
            )


def safe_folder_names(names: Sequence[str]) -> list[str]:
    """Return names that are valid folders on all systems, different even without case.

    >>> safe_folder_names(["cat", "a/b", "Cat", "..", "con"])
    ['cat', 'a_b', 'Cat (2)', '_', 'con_']
    """
    taken: set[str] = set()
    places = []
    for name in names:
        place = _UNFIT.sub("_", name).strip(". ") or "_"
        place = f"{place}_" if _RESERVED.fullmatch(place) else place
        while len(place.encode()) > _LONGEST:
            place = place[:-1]
        fit, number = place, 1
        while unicodedata.normalize("NFKC", fit).casefold() in taken:
            number += 1
            fit = f"{place} ({number})"
        taken.add(unicodedata.normalize("NFKC", fit).casefold())
        places.append(fit)
    return places
