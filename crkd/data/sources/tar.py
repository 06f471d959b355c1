"""Image source of tar files, for own image sets that are too large for folders or for memory.

The archives are never unpacked. Their headers are read once, and every image is read at its
position. A process can read the images of its own rows in any order, and stores only their
positions. Only images and class names are interpreted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from crkd.core.counted import counted
from crkd.core.errors import InputError, listed
from crkd.data.datasets.base import IMAGENET_MEAN, IMAGENET_STD, Dataset
from crkd.data.sources.base import ImageSource, Pixels
from crkd.data.sources.decode import SUFFIXES, decode_image
from crkd.data.sources.files import ends
from crkd.data.sources.folder import SAMPLED_SIZES, hidden_classes, training_size
from crkd.data.sources.tar_members import Member, read_member, tar_members
from crkd.data.splits.class_split import ClassSplit


class TarSource(ImageSource):
    """Images inside tar files, read and decoded on demand.

    Args:
        members: the images.
        labels: ``(N,)`` integers, -1 for unlabeled images.
        class_names: the classes in label order.
        ids: N unique names.

    Raises:
        InputError: the labels do not match, or two images have one name.
    """

    def __init__(
        self,
        members: Sequence[Member],
        labels: npt.ArrayLike,
        class_names: Sequence[str],
        ids: Sequence[str],
    ) -> None:
        super().__init__(labels, class_names, ids)
        if len(set(ids)) != len(ids):
            twice = next(name for name, count in Counter(ids).items() if count > 1)
            raise InputError(f"two images are called {twice!r}; rename or remove one of them")
        archives = list(dict.fromkeys(member.archive for member in members))
        number = {archive: place for place, archive in enumerate(archives)}
        self._archives = archives
        # For millions of images, arrays of numbers take much less memory than objects.
        self._places = np.array(
            [(number[m.archive], m.offset, m.size) for m in members], dtype=np.int64
        ).reshape(-1, 3)

    def fingerprint(self, index: int) -> bytes:
        """Return size, begin and end of the member; a missing archive or member has none."""
        number, offset, size = self._places[index].tolist()
        if size < 0:
            return b""
        try:
            with self._archives[number].open("rb") as file:
                return ends(file, offset, size)
        except OSError:
            return b""

    def read(self, index: int) -> Pixels:
        """Return image ``index`` as ``(H, W, 3)`` uint8, RGB."""
        return self._decoded(index, None)

    def read_small(self, index: int, at_least: int) -> Pixels:
        """Return image ``index`` as :meth:`read`; a JPEG may be smaller."""
        return self._decoded(index, at_least)

    def _decoded(self, index: int, at_least: int | None) -> Pixels:
        number, offset, size = self._places[index].tolist()
        archive = self._archives[number]
        where = f"{archive}: {self.ids[index]}"
        return decode_image(read_member(archive, offset, size, where), where, at_least=at_least)


def tar_files(path: Path) -> list[Path]:
    """Return the archives of a path: itself, or all tar files directly in a folder, not hidden."""
    files = path.iterdir() if path.is_dir() else [path]
    return sorted(f for f in files if f.suffix.lower() == ".tar" and not f.name.startswith("."))


def tar_dataset(
    known: Path | None,
    novel: Path | None = None,
    *,
    classes_so_far: Sequence[str] = (),
    image_size: int | None = None,
    mixed: bool = False,
    log: Callable[[str], None] = lambda line: None,
) -> tuple[Dataset, ClassSplit]:
    """Return own images in tar files as a data set called "folder", and its split.

    The class of an image is the content of its file ``NAME.cls``, as in WebDataset, or else the
    outermost folder of its path. Classes of ``novel`` are hidden labels, under the rules of
    :func:`crkd.data.sources.folder.folder_dataset`.

    Args:
        known: a tar file, or a folder of them; None is allowed only with ``classes_so_far``.
        novel: the same for unlabeled images.
        classes_so_far: class names of an earlier run.
        image_size: side in pixels for training; None chooses it from some of the images.
        mixed: whether images of ``novel`` may be of known classes.
        log: receives messages for the user.

    Raises:
        InputError: an archive is missing, damaged or compressed, has no image or one without a
            class, or there are fewer than two known classes.
    """
    labeled = [] if known is None else list(_members(known, "--known"))
    loose = next((member for member in labeled if member.class_name is None), None)
    if loose is not None:
        raise InputError(
            f"the image {loose.name!r} in --known {loose.archive} has no class; put it into the "
            "folder of its class, or add a file NAME.cls with the class"
        )
    present = sorted({member.class_name for member in labeled if member.class_name is not None})
    foreign = sorted(set(present) - set(classes_so_far))
    if classes_so_far and foreign:
        raise InputError(
            f"--known {known} holds classes that the run does not know: {listed(foreign)}; name "
            f"them as the run does ({listed(list(classes_so_far))}), or leave them out"
        )
    known_names = tuple(classes_so_far) or tuple(present)
    if len(known_names) < 2:
        raise InputError(
            f"--known {known} holds {counted(len(known_names), 'class', 'classes')}; at least two "
            "are needed to tell classes apart"
        )
    unlabeled = [] if novel is None else list(_members(novel, "--novel"))
    folders = [member.class_name for member in unlabeled]
    hidden = hidden_classes(folders, known_names, log, mixed=mixed) if novel else []
    others = {name for name in hidden if name is not None} - set(known_names)
    classes = (*known_names, *sorted(others))
    number: dict[str | None, int] = {name: label for label, name in enumerate(classes)}
    members = labeled + unlabeled
    names = [member.class_name for member in labeled] + hidden
    source = TarSource(
        members,
        [number.get(name, -1) for name in names],
        classes,
        [f"known/{m.name}" for m in labeled] + [f"novel/{m.name}" for m in unlabeled],
    )
    size = image_size or training_size(_sides(source), log)
    rows, statistics = np.arange(len(members)) >= len(labeled), (IMAGENET_MEAN, IMAGENET_STD)
    dataset = Dataset("folder", source, None, classes, size, *statistics, hidden=rows)
    split = ClassSplit(
        dataset="folder",
        name="folders",
        class_names=classes,
        known=tuple(range(len(known_names))),
        novel=tuple(range(len(known_names), len(classes))),
        source=f"the archives of {known} and {novel}",
    )
    return dataset, split


def _members(place: Path, flag: str) -> Iterator[Member]:
    archives = tar_files(place)
    if not archives:
        raise InputError(
            f"{flag} {str(place)!r} is not a tar file and has none; give --known and --novel in "
            "the same form, both as tar files or both as folders of images"
        )
    found = 0
    for archive in archives:
        for member in tar_members(archive):
            found += 1
            yield member
    if not found:
        raise InputError(
            f"{flag} {str(place)!r} holds no image; add some ({listed(sorted(SUFFIXES))})"
        )


def _sides(source: TarSource) -> list[int]:
    """Return the shorter sides of some images."""
    rows = range(0, len(source), max(1, len(source) // SAMPLED_SIZES))
    return [min(source.read(row).shape[:2]) for row in rows]
