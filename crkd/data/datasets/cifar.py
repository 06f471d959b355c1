"""CIFAR-10 and CIFAR-100, from torchvision's files or from Parquet."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Final, NamedTuple

from crkd.core.errors import InputError
from crkd.data.datasets import cifar_files
from crkd.data.datasets.base import DATASETS, Dataset, DatasetNotFoundError
from crkd.data.sources.arrays import ArraySource
from crkd.data.sources.base import ImageSource
from crkd.data.sources.parquet import ParquetSource


class _Cifar(NamedTuple):
    """Properties of one of the two sets; mean and std are the published training statistics."""

    name: str
    folder: str
    label_column: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def layouts(self) -> str:
        """Return a description of the accepted files."""
        return (
            f"torchvision's {self.folder}/, or Parquet files {self.name}-train*.parquet and "
            f"{self.name}-test*.parquet, or {self.name}/**/train-*.parquet and test-*.parquet; "
            "--download fetches torchvision's"
        )


_SETS: Final = (
    _Cifar(
        "cifar10",
        "cifar-10-batches-py",
        "label",
        (0.49139968, 0.48215841, 0.44653091),
        (0.24703223, 0.24348513, 0.26158784),
    ),
    _Cifar(
        "cifar100",
        "cifar-100-python",
        "fine_label",
        (0.50707516, 0.48654887, 0.44091784),
        (0.26733429, 0.25643846, 0.27615047),
    ),
)
_JPEG_NOTE: Final = "from a JPEG copy: close to the official pixels, not equal to them"


def _build(cifar: _Cifar, root: Path | None, *, download: bool = False) -> Dataset:
    """Return one of the two sets; see ``DatasetBuilder``.

    Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """
    root = root or Path()
    note = ""
    train: ImageSource
    test: ImageSource
    if download or (root / cifar.folder).is_dir():
        train, test = _torchvision_parts(cifar, root, download)
    else:
        train, test = _parquet_part(cifar, root, "train"), _parquet_part(cifar, root, "test")
        if "JPEG" in (train.image_format(), test.image_format()):
            note = f"{cifar.name} {_JPEG_NOTE}"
    return Dataset(cifar.name, train, test, train.class_names, 32, cifar.mean, cifar.std, note)


def _torchvision_parts(
    cifar: _Cifar, root: Path, download: bool
) -> tuple[ArraySource, ArraySource]:
    """Read torchvision's pickled batches, which are opened only if their digests match."""
    import torchvision.datasets

    kind: Any = getattr(torchvision.datasets, cifar.name.upper())
    try:
        cifar_files.prepare(root / cifar.folder, kind, download=download)
        parts = [kind(root, train=train) for train in (True, False)]
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"cannot use {str(root / cifar.folder)!r}: {reason}; delete that folder and give "
            "--download, or name another with --data-root"
        ) from error
    train, test = (
        ArraySource(read.data, read.targets, read.classes, part=part)
        for read, part in zip(parts, ("train", "test"), strict=True)
    )
    return train, test


def _parquet_part(cifar: _Cifar, root: Path, part: str) -> ParquetSource:
    files = sorted(root.glob(f"{cifar.name}-{part}*.parquet"))
    if not files:
        files = sorted((root / cifar.name).rglob(f"{part}-*.parquet"))
    if not files:
        raise DatasetNotFoundError(cifar.name, cifar.layouts, root)
    _check_complete(files)
    return ParquetSource(files, image_column="img", label_column=cifar.label_column, part=part)


def _check_complete(files: list[Path]) -> None:
    """Raise if shards called "...-00000-of-00003" are missing."""
    last = files[-1].stem.rpartition("-of-")[2]
    if last.isdigit() and int(last) != len(files):
        raise InputError(
            f"{len(files)} of {int(last)} Parquet shards exist next to {str(files[-1])!r}; fetch "
            "the missing ones"
        )


for _cifar in _SETS:
    DATASETS.register(_cifar.name)(functools.partial(_build, _cifar))
