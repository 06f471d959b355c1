"""Stanford Cars in its published layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from crkd.core.errors import InputError
from crkd.data.datasets.base import DATASETS, IMAGENET_MEAN, IMAGENET_STD, Dataset, find_folder
from crkd.data.sources.files import FileSource, paths_below

LAYOUTS: Final = (
    "stanford_cars/ with cars_train/, cars_test/, devkit/cars_meta.mat, "
    "devkit/cars_train_annos.mat and cars_test_annos_withlabels.mat (there or in devkit/); the "
    "publisher's links are dead, copies of the four archives are on kaggle.com"
)


@DATASETS.register("cars")
def build_cars(root: Path | None, *, download: bool = False) -> Dataset:
    """Return the 196 cars with 8,144 training and 8,041 test images.

    Labels are those of the development kit minus one.

    Source: J. Krause et al., "3D Object Representations for Fine-Grained Categorization", 2013.
    """
    folder = find_folder("cars", LAYOUTS, root, "stanford_cars", "cars")
    devkit = folder / "devkit"
    names = [str(name[0]) for name in _variable(devkit / "cars_meta.mat", "class_names")]
    test_list = folder / "cars_test_annos_withlabels.mat"
    if not test_list.is_file():
        test_list = devkit / test_list.name
    train = _part(folder / "cars_train", devkit / "cars_train_annos.mat", names)
    test = _part(folder / "cars_test", test_list, names)
    return Dataset("cars", train, test, tuple(names), 224, IMAGENET_MEAN, IMAGENET_STD)


def _part(images: Path, listing: Path, names: list[str]) -> FileSource:
    rows = _variable(listing, "annotations")
    try:
        labels = [int(row["class"].item()) - 1 for row in rows]
        files = [str(row["fname"].item()) for row in rows]
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{str(listing)!r} does not list 'fname' and 'class' for each image ({error}); use the "
            "list with labels"
        ) from error
    paths = paths_below(images, files, listing)
    return FileSource(paths, labels, names, [f"{images.name}/{name}" for name in files])


def _variable(file: Path, name: str) -> Any:
    """Return one variable of a MATLAB file, flattened."""
    from scipy.io import loadmat

    try:
        return loadmat(file)[name].ravel()
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"cannot read {name!r} from {str(file)!r}: {reason}; fetch the development kit again"
        ) from error
