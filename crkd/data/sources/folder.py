"""Own images in folders: one folder per known class, and a folder of unlabeled images."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from crkd.core.counted import counted
from crkd.core.errors import InputError, listed
from crkd.data.datasets.base import IMAGENET_MEAN, IMAGENET_STD, Dataset
from crkd.data.sources.base import UnreadableImageError
from crkd.data.sources.decode import SUFFIXES, decode_image, read_header
from crkd.data.sources.files import FileSource, image_files, readable_id
from crkd.data.sources.walk import visible_files
from crkd.data.splits.class_split import ClassSplit
from crkd.data.storage.workers import parallel

TRAINING_SIZES: Final = (32, 64, 96, 128, 224)
SAMPLED_SIZES: Final = 200


class _File(NamedTuple):
    """One image file: its path, its id, its class or None, and whether training may see that."""

    path: Path
    image_id: str
    class_name: str | None
    is_labeled: bool


def folder_dataset(
    known: Path | None,
    novel: Path | None = None,
    *,
    classes_so_far: Sequence[str] = (),
    skip_unreadable: bool = False,
    verify: bool = True,
    image_size: int | None = None,
    mixed: bool = False,
    log: Callable[[str], None] = lambda line: None,
) -> tuple[Dataset, ClassSplit]:
    """Return the user's own images as a data set called "folder", and its split.

    The header of every image is checked before training, and its end if the format marks the end.
    Doubtful files are decoded. With ``skip_unreadable``, every image is decoded.

    The folders inside ``novel`` are used as hidden labels, for evaluation, only if every image is
    in one of them and there are at least two. Otherwise the images have no label, and the split
    lists no novel class. A folder of ``novel`` with the name of a known class counts as a separate
    class called "NAME (novel)"; in the mixed setting it is the known class.

    Args:
        known: one folder per class, at least two; deeper folders belong to their class. None and
            fewer folders are allowed only with ``classes_so_far``.
        novel: unlabeled images, flat or nested.
        classes_so_far: class names of an earlier run; they are then the known classes, and the
            folders of ``known`` must have their names.
        skip_unreadable: leave out unreadable images, and report how many, instead of raising.
        verify: False skips the check of the files, for a caller that reports every problem.
        image_size: side in pixels for training; None uses the largest of ``TRAINING_SIZES`` that
            half of the images reach.
        mixed: whether images of ``novel`` may be of known classes.
        log: receives messages for the user.

    Returns:
        The data set, without test images, and the split over its classes.

    Raises:
        InputError: a folder is missing, has no image or is inside the other one, there are fewer
            than two known classes, a class is empty or unknown, or an image cannot be read.
    """
    _check_folders(known, novel)
    names = {} if known is None else _class_folders(known, classes_so_far)
    known_names = tuple(classes_so_far) or tuple(names.values())
    files = [
        _File(path, f"known/{readable_id(path, folder.parent)}", name, is_labeled=True)
        for folder, name in names.items()
        for path in image_files(folder)
    ]
    if novel is not None:
        files += _novel_files(novel, set(known_names), log, mixed=mixed)
    sides = None
    if verify or skip_unreadable:
        files, sides = _readable(files, skip_unreadable, log)
    check_filled(known, names.values(), {file.class_name for file in files if file.is_labeled})
    others = {file.class_name for file in files if file.class_name} - set(known_names)
    classes = (*known_names, *sorted(others))
    number: dict[str | None, int] = {name: label for label, name in enumerate(classes)}
    source = FileSource(
        [file.path for file in files],
        [number.get(file.class_name, -1) for file in files],
        classes,
        [file.image_id for file in files],
    )
    some = slice(None, None, max(1, len(files) // SAMPLED_SIZES))
    size = image_size or training_size(
        _sides(source.paths[some]) if sides is None else sides[some], log
    )
    hidden = np.array([not file.is_labeled for file in files], np.bool_)
    statistics = IMAGENET_MEAN, IMAGENET_STD
    dataset = Dataset("folder", source, None, classes, size, *statistics, hidden=hidden)
    split = ClassSplit(
        dataset="folder",
        name="folders",
        class_names=classes,
        known=tuple(range(len(known_names))),
        novel=tuple(range(len(known_names), len(classes))),
        source=f"the folders of {known} and {novel}",
    )
    return dataset, split


def _check_folders(known: Path | None, novel: Path | None) -> None:
    for flag, folder in (("--known", known), ("--novel", novel)):
        if folder is not None and not folder.is_dir():
            raise InputError(f"{flag} {str(folder)!r} is not a folder; name a folder of images")
    if known is not None and novel is not None:
        check_separate(known, novel)


def check_separate(known: Path, novel: Path) -> None:
    """Refuse labeled and unlabeled images of which one folder contains the other.

    Raises:
        InputError: it does.
    """
    places = known.resolve(), novel.resolve()
    if places[0].is_relative_to(places[1]) or places[1].is_relative_to(places[0]):
        raise InputError(
            f"one of --known {str(known)!r} and --novel {str(novel)!r} contains the other; "
            "keep them separate, because an image is either labeled or not"
        )


def check_filled(
    known: str | Path | None, names: Iterable[str], classes: Collection[str | None]
) -> None:
    """Refuse class folders without an image.

    Args:
        known: the folder that contains them.
        names: their names.
        classes: names of the classes that have images.

    Raises:
        InputError: a name is not among ``classes``.
    """
    empty = [name for name in names if name not in classes]
    if empty:
        raise InputError(
            f"the class folders {listed(empty)} in --known {str(known)!r} hold no image; add some "
            f"({listed(sorted(SUFFIXES))}) or remove the folders"
        )


def class_folders_of(known: Path) -> dict[Path, str]:
    """Return the visible folders in a folder and their names, in the order of the paths."""
    folders = sorted(
        path for path in known.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    return {folder: readable_id(folder, known) for folder in folders}


def _class_folders(known: Path, classes_so_far: Sequence[str]) -> dict[Path, str]:
    """Return the class folders and their names, in the order of the names."""
    # The first step of the walk has the direct files: the class folders are walked later.
    direct = next(visible_files(known))[1]
    loose = next((name for name in direct if Path(name).suffix.lower() in SUFFIXES), None)
    if loose is not None:
        raise InputError(
            f"the image {loose!r} is directly in --known {str(known)!r}; put every image "
            "into the folder of its class"
        )
    names = class_folders_of(known)
    foreign = sorted(set(names.values()) - set(classes_so_far))
    if classes_so_far and foreign:
        raise InputError(
            f"--known {str(known)!r} holds folders of classes that the run does not know: "
            f"{listed(foreign)}; name them as the run does ({listed(list(classes_so_far))}), or "
            "move them out"
        )
    if len(names) < 2 and not classes_so_far:
        held = f"only the class folder {listed(names.values())!r}" if names else "no class folder"
        raise InputError(
            f"--known {str(known)!r} has {held}; give a folder of images for each of two known "
            "classes or more"
        )
    return names


def _novel_files(
    novel: Path, known: set[str], log: Callable[[str], None], *, mixed: bool
) -> list[_File]:
    """Return the unlabeled images, with hidden classes if the folders give them."""
    paths = list(image_files(novel))
    if not paths:
        raise InputError(
            f"--novel {str(novel)!r} holds no image; add some ({listed(sorted(SUFFIXES))})"
        )
    tops = [path.relative_to(novel).parts[:-1][:1] for path in paths]
    names = {top: readable_id(novel / top[0], novel) if top else None for top in set(tops)}
    hidden = hidden_classes([names[top] for top in tops], known, log, mixed=mixed)
    return [
        _File(path, f"novel/{readable_id(path, novel)}", class_name, is_labeled=False)
        for path, class_name in zip(paths, hidden, strict=True)
    ]


def hidden_classes(
    folders: Sequence[str | None],
    known: Collection[str],
    log: Callable[[str], None],
    *,
    mixed: bool,
) -> list[str | None]:
    """Return the hidden class of each unlabeled image, by its folder.

    Args:
        folders: for each image the outermost folder inside ``--novel``, None without a folder.
        known: names of the known classes.
        log: receives messages for the user.
        mixed: whether a folder with the name of a known class is that class; otherwise it is a
            class of its own.
    """
    names = set(folders)
    if None in names or len(names) < 2:
        images = counted(len(folders), "unlabeled image")
        log(f"{images} without class folders: no accuracy for them")
        return [None] * len(folders)
    clashes = sorted(name for name in names if name is not None and name in known)
    if clashes:
        treatment = "are scored as these classes" if mixed else "count separately"
        log(f"folders of --novel with names of known classes {treatment}: {listed(clashes)}")
    shown = listed(sorted(name for name in names if name is not None), limit=4)
    log(
        f"{len(names)} folders of --novel are used as hidden labels, only for evaluation: {shown}; "
        "if they are no classes, give --num-novel K and ignore the accuracy"
    )
    if mixed:
        return list(folders)
    return [f"{name} (novel)" if name in known else name for name in folders]


def _readable(
    files: Sequence[_File], skip_unreadable: bool, log: Callable[[str], None]
) -> tuple[list[_File], list[int]]:
    """Return the readable files and their shorter sides, or raise an error that names the others.

    The sides are in pixels.
    """

    def side(file: _File) -> int | UnreadableImageError:
        try:
            if skip_unreadable:
                height, width, _ = decode_image(file.path, str(file.path)).shape
                return int(min(height, width))
            header = read_header(file.path, str(file.path))
            if not header.ends_well:
                # A truncated JPEG can have a valid header.
                decode_image(file.path, str(file.path))
            return min(header.width, header.height)
        except UnreadableImageError as error:
            return error

    found = list(parallel(side, files))
    bad = [error for error in found if isinstance(error, UnreadableImageError)]
    if bad:
        shown = listed((f"{error.path} ({error.reason})" for error in bad), limit=5)
        if not skip_unreadable:
            raise InputError(
                f"{len(bad)} of {len(files)} images cannot be read: {shown}; repair or remove "
                "them, or give --skip-unreadable to leave them out"
            )
        log(f"left out {len(bad)} of {len(files)} images that cannot be read: {shown}")
    pairs = zip(files, found, strict=True)
    kept = [(file, value) for file, value in pairs if not isinstance(value, UnreadableImageError)]
    return [file for file, _ in kept], [value for _, value in kept]


def _sides(paths: Sequence[Path]) -> list[int]:
    """Return the shorter sides of image files in pixels, without the unreadable ones."""
    sides = []
    for path in paths:
        with contextlib.suppress(UnreadableImageError):
            header = read_header(path, str(path))
            sides.append(min(header.width, header.height))
    return sides


def training_size(
    sides: Sequence[int], log: Callable[[str], None], *, largest: int = TRAINING_SIZES[-1]
) -> int:
    """Return the largest training size that the shorter side of half of the images reaches.

    Args:
        sides: shorter sides of some images, in pixels.
        log: receives the size.
        largest: no larger size is returned.
    """
    median = float(np.median(sides)) if sides else 0.0
    reached = (size for size in TRAINING_SIZES if size <= min(median, largest))
    size = max(reached, default=TRAINING_SIZES[0])
    log(f"a training uses images of {size} px (median shorter side {median:.0f} px)")
    return size
