"""Check of a data set before training."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from crkd.core.counted import counted
from crkd.core.errors import InputError, listed
from crkd.data.datasets.base import Dataset
from crkd.data.sources.base import ImageSource, UnreadableImageError
from crkd.data.splits.class_split import ClassSplit
from crkd.data.splits.smaller import class_fraction_mask
from crkd.data.storage.workers import parallel

OWN = "folder"
"""Data set of own images, whose classes the command names before the check."""
_BLOCK_ROWS = 64
"""Images that a thread takes at once; small ones take no longer than a transfer of each."""
_DARK = 15
"""Largest value of an almost black image: that of 12 bits stored in 16, after decoding to 8."""


@dataclass(frozen=True)
class PartCheck:
    """Findings for one subset.

    Attributes:
        name: "train" or "test".
        images: number of images.
        unlabeled: number of images without a label.
        smallest: number of images of the smallest nonempty class.
        largest: number of images of the largest class.
        missing_classes: names of the classes without an image.
        unreadable: one line for each image that cannot be decoded.
        duplicates: ids of each image whose pixels equal those of an earlier image of the subset,
            and of the first such image.
        dark: ids of the images that are almost black.
    """

    name: str
    images: int
    unlabeled: int
    smallest: int
    largest: int
    missing_classes: tuple[str, ...]
    unreadable: tuple[str, ...]
    duplicates: tuple[tuple[str, str], ...]
    dark: tuple[str, ...]


@dataclass(frozen=True)
class DatasetCheck:
    """Findings for a data set.

    Attributes:
        parts: the training subset and, if there is one, the test subset.
        shared_pixels: ids of test images whose pixels equal those of a training image.
        split_problem: why the split does not match, or "" (also without a split).
        lines: the findings as sentences.
    """

    parts: tuple[PartCheck, ...]
    shared_pixels: tuple[str, ...]
    split_problem: str
    lines: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """Whether a run can start: all images readable, no class empty, the split matches."""
        return self.usable_as_features and not any(part.unreadable for part in self.parts)

    @property
    def usable_as_features(self) -> bool:
        """Whether a discovery on features can start, which leaves out unreadable images."""
        return not self.split_problem and not any(part.missing_classes for part in self.parts)


def check_dataset(
    dataset: Dataset, split: ClassSplit | None = None, *, subset: float = 1.0
) -> DatasetCheck:
    """Decode every image of a data set that a run would use, and count the problems.

    Args:
        dataset: the images.
        split: checked against the whole data set if given.
        subset: fraction of the images of each class that are used, in (0, 1], see
            :func:`~crkd.data.splits.partition.partition`.

    Returns:
        The findings; problems are reported, not raised.

    Raises:
        InputError: the fraction is out of range.
    """
    train_hashes, train, _ = _check_part("train", dataset.train, subset)
    parts = [train]
    shared: tuple[str, ...] = ()
    if dataset.test is not None:
        test_hashes, test, rows = _check_part("test", dataset.test, subset)
        parts.append(test)
        seen = set(train_hashes) - {None}
        pairs = zip(rows, test_hashes, strict=True)
        shared = tuple(dataset.test.ids[row] for row, found in pairs if found in seen)
    problem = ""
    if split is not None:
        try:
            split.check(dataset)
        except InputError as error:
            problem = str(error)
    lines = (*_lines(dataset, parts, shared, subset), *_split_lines(split, problem))
    return DatasetCheck(tuple(parts), shared, problem, lines)


def _check_part(
    name: str, source: ImageSource, subset: float
) -> tuple[list[bytes | None], PartCheck, list[int]]:
    """Return pixel hashes of the used images, None if unreadable, the findings, and the rows."""
    rows = np.flatnonzero(class_fraction_mask(source.labels, subset))
    labels, used = source.labels[rows], rows.tolist()
    hashes: list[bytes | None] = []
    unreadable: list[str] = []
    dark: list[str] = []
    for row, result in zip(used, _summaries(source, used), strict=True):
        if isinstance(result, UnreadableImageError):
            unreadable.append(f"{result.path}: {result.reason}")
            hashes.append(None)
            continue
        digest, brightest = result
        hashes.append(digest)
        if brightest <= _DARK:
            dark.append(source.ids[row])
    counts = np.bincount(labels[labels >= 0], minlength=len(source.class_names))
    filled = counts[counts > 0]
    first: dict[bytes, int] = {}
    repeated = []
    for row, value in zip(used, hashes, strict=True):
        if value is not None and first.setdefault(value, row) != row:
            repeated.append((source.ids[row], source.ids[first[value]]))
    check = PartCheck(
        name=name,
        images=len(used),
        unlabeled=int((labels < 0).sum()),
        smallest=int(filled.min()) if len(filled) else 0,
        largest=int(filled.max()) if len(filled) else 0,
        missing_classes=tuple(source.class_names[label] for label in np.flatnonzero(counts == 0)),
        unreadable=tuple(unreadable),
        duplicates=tuple(repeated),
        dark=tuple(dark),
    )
    return hashes, check, used


def _summaries(
    source: ImageSource, rows: Sequence[int]
) -> Iterator[tuple[bytes, int] | UnreadableImageError]:
    """Yield for every row a hash of size and pixels and the largest value, or its error."""

    def one(index: int) -> tuple[bytes, int] | UnreadableImageError:
        try:
            image = source.read(index)
        except UnreadableImageError as error:
            return error
        content = hashlib.blake2b(np.ascontiguousarray(image), digest_size=16)
        content.update(repr(image.shape).encode())
        return content.digest(), int(image.max())

    blocks = [rows[start : start + _BLOCK_ROWS] for start in range(0, len(rows), _BLOCK_ROWS)]
    for block in parallel(lambda block: [one(row) for row in block], blocks):
        yield from block


def _lines(
    dataset: Dataset, parts: list[PartCheck], shared: tuple[str, ...], subset: float
) -> Iterator[str]:
    if dataset.name != OWN:
        yield f"data set {dataset.name}: {len(dataset.class_names)} classes"
    if subset < 1:
        yield f"only the images of data.subset are checked: {100 * subset:g} % of each class"
    if dataset.note:
        yield f"note: {dataset.note}"
    for part in parts:
        smallest = "" if part.smallest == part.largest else f"{part.smallest:,} to "
        images = counted(part.images, "image")
        line = f"{part.name}: {images}, {smallest}{part.largest:,} a class"
        if part.unlabeled:
            line += f", {part.unlabeled:,} without a label"
        yield line
        pairs = listed((f"{image} = {earlier}" for image, earlier in part.duplicates), limit=5)
        sentence = f"{len(part.duplicates)} of {images} have the same pixels as another one"
        yield f"{part.name}: {sentence}{': ' if pairs else ''}{pairs}"
        if part.missing_classes:
            yield f"{part.name}: no image of {listed(part.missing_classes)}"
        if part.unreadable:
            shown = listed(part.unreadable, limit=5)
            yield f"{part.name}: {len(part.unreadable)} of {images} cannot be read: {shown}"
        else:
            yield f"{part.name}: every image can be read"
        if part.dark:
            shown = listed(part.dark, limit=5)
            yield (
                f"{part.name}: {len(part.dark)} of {images} are almost black (no value above "
                f"{_DARK} of 255): {shown}; of 16 bits the upper eight are used, so scale images "
                "of 10 or 12 bits to the whole range"
            )
    if dataset.test is not None:
        named = f": {listed(shared, limit=5)}" if shared else ""
        yield f"{len(shared)} test images have the same pixels as a training image{named}"


def _split_lines(split: ClassSplit | None, problem: str) -> Iterator[str]:
    if problem:
        yield f"split: {problem}"
    elif split is not None:
        parts = (
            listed(sorted(split.label_hash)) if split.label_hash else "none, the split has no hash"
        )
        yield f"split {split.name}: class names agree; parts whose labels match its hash: {parts}"
