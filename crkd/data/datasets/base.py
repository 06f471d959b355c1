"""Named data sets: base types, registry and loading."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from crkd.core.errors import InputError
from crkd.core.paths import CHECKOUT, in_checkout
from crkd.core.registry import Registry
from crkd.data.sources.base import ImageSource

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Dataset:
    """Images of one origin with their classes.

    Attributes:
        name: the registered name, or "folder" for own images.
        train: training images.
        test: test images with labels, or None.
        class_names: the classes in label order, the same for training and test images.
        image_size: default side in pixels for training.
        mean: mean of the training pixels, red, green and blue, in [0, 1].
        std: standard deviation of the training pixels, likewise.
        note: a remark to print with every result on these files, or "".
        hidden: ``(N,)`` bool, training images that are unlabeled although ``train`` has a class for
            them, such as those of known classes in a folder of unlabeled images. Training must not
            see their classes; None: there are none.
    """

    name: str
    train: ImageSource
    test: ImageSource | None
    class_names: tuple[str, ...]
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    note: str = ""
    hidden: npt.NDArray[np.bool_] | None = field(default=None, compare=False)


class DatasetBuilder(Protocol):
    """Reads one named data set."""

    def __call__(self, root: Path | None, *, download: bool = False) -> Dataset:
        """Return the data set found under ``root``; a data set without files ignores it.

        Args:
            root: the data folder, which contains the set under its published name.
            download: whether files may be downloaded from the publisher into ``root``.

        Raises:
            DatasetNotFoundError: ``root`` holds none of the accepted layouts.
            InputError: the files are incomplete or damaged.
        """
        ...


class DatasetNotFoundError(InputError):
    """A data folder holds no accepted layout of the data set.

    Attributes:
        layouts: the accepted layouts and, if it cannot be downloaded, the address of the set.
    """

    def __init__(self, name: str, layouts: str, root: Path | None = None) -> None:
        super().__init__(f"data set {name!r} was not found in {root}; accepted: {layouts}")
        self.layouts = layouts


def find_folder(name: str, layouts: str, root: Path | None, *folders: str) -> Path:
    """Return the first of ``folders`` that exists below ``root``.

    Raises:
        DatasetNotFoundError: none of them exists.
    """
    for folder in folders:
        if root is not None and (root / folder).is_dir():
            return root / folder
    raise DatasetNotFoundError(name, layouts, root)


DATASETS: Registry[DatasetBuilder] = Registry("data set", "crkd.data.datasets", "crkd.datasets")


def load_dataset(
    name: str, data_root: str | Path | None = None, *, download: bool = False
) -> Dataset:
    """Return the data set called ``name``.

    Without ``data_root`` these folders are tried in order: the environment variable
    ``CRKD_DATA``, ``./data``, ``../shared/data``, and the last two relative to the repository's
    folder.

    Args:
        name: a registered name; see ``DATASETS.names()``.
        data_root: the only folder to search.
        download: whether files that are not found may be downloaded, into the first folder of
            that list.

    Raises:
        InputError: the name is unknown, the set is not found, or its files are damaged. The
            message lists the folders tried, the accepted layouts and the remedy.
    """
    builder = DATASETS.get(name)
    roots = list(_candidate_roots(data_root))
    layouts = ""
    for root in roots:
        try:
            return builder(root)
        except DatasetNotFoundError as error:
            layouts = error.layouts
    if download:
        try:
            return builder(roots[0], download=True)
        except DatasetNotFoundError as error:
            raise InputError(
                f"data set {name!r} cannot be fetched with --download; get it by hand "
                f"({error.layouts}) and name its folder with --data-root DIR"
            ) from error
    raise InputError(
        f"data set {name!r} was not found in {', '.join(str(root) for root in roots)}; put it "
        f"there or name its folder with --data-root DIR (accepted: {layouts})"
    )


def _candidate_roots(data_root: str | Path | None) -> Iterator[Path]:
    """Yield the folders to search, each once, the one to download into first."""
    if data_root is not None:
        if not Path(data_root).is_dir():
            raise InputError(
                f"--data-root {str(data_root)!r} is not a folder; create it or name another"
            )
        yield Path(data_root)
        return
    places = [Path("data"), Path("../shared/data")]
    if in_checkout():
        places += [CHECKOUT / "data", CHECKOUT.parent / "shared" / "data"]
    if os.environ.get("CRKD_DATA"):
        places.insert(0, Path(os.environ["CRKD_DATA"]))
    seen = set()
    for place in places:
        if place.resolve() not in seen:
            seen.add(place.resolve())
            yield place
