"""Vectors of the benchmark: files of ``crkd embed``, and the pixels of the digits.

The folder ``CRKD_VECTORS`` holds ``NAME-train.parquet`` and ``NAME-test.parquet`` for cifar100 and
fashion. These commands make those of CIFAR-100 from Parquet tables of its images::

    crkd embed cifar100-train-*.parquet --out FOLDER/cifar100-train.parquet
    crkd embed cifar100-test.parquet --out FOLDER/cifar100-test.parquet

Those of Fashion-MNIST are made in the same way from the tables that :func:`fashion_tables` writes.
``digit-images-test.parquet`` holds the vectors of the table that :func:`digits_table` writes.
"""

from __future__ import annotations

import gzip
import io
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd.core.errors import InputError
from crkd.data.vectors.table import read_features

Arrays = tuple[NDArray[np.float32], NDArray[np.int64]]

FASHION = Path("/usr/share/datasets/fashion-mnist")
"""Folder of the Debian package dataset-fashion-mnist."""


@cache
def read(data: str, part: str) -> Arrays:
    """Return the vectors and labels of a part of a data set, classes in the order of their names.

    Args:
        data: "cifar100", "fashion", "digit-images" or, for their pixels, "digits".
        part: "train" or "test"; of "digit-images" there is only "test".

    Raises:
        InputError: there is no folder of vectors, or no file of this set in it.
    """
    if data == "digits":
        from sklearn.datasets import load_digits

        pixels, digits = load_digits(return_X_y=True)
        mine = (np.arange(len(digits)) % 5 == 0) == (part == "test")
        return pixels[mine].astype(np.float32), digits[mine].astype(np.int64)
    folder = os.environ.get("CRKD_VECTORS")
    if folder is None:
        raise InputError("CRKD_VECTORS is not set; give the folder of NAME-train.parquet files")
    table = read_features(Path(folder) / f"{data}-{part}.parquet")
    if table.labels is None:
        raise InputError(f"{table.path} has no labels; embed a table that has them")
    return table.features, np.unique(table.labels, return_inverse=True)[1].astype(np.int64)


def class_order(classes: int, number: int) -> NDArray[np.int64]:
    """Return the classes as they are for 0, else the draw of that number from one generator."""
    draw, order = np.random.default_rng(0), np.arange(classes)
    for _ in range(number):
        order = draw.permutation(classes)
    return order


def taken(source: Arrays, classes: NDArray[np.int64], each: int) -> Arrays:
    """Return the first vectors of every class, and labels from 0."""
    rows = [np.flatnonzero(source[1] == label)[:each] for label in classes]
    labels = np.repeat(np.arange(len(classes)), [len(part) for part in rows])
    return source[0][np.concatenate(rows)], labels


def thinned(source: Arrays, each: int, parity: int = 1) -> Arrays:
    """Return the vectors with a fifth of ``each`` left of every second class."""
    labels = source[1]
    rank = np.concatenate([np.arange(count) for count in np.bincount(labels)])
    kept = (labels % 2 != parity) | (rank < each // 5)
    return source[0][kept], labels[kept]


def fashion_tables(folder: Path, each: int = 500) -> None:
    """Write Fashion-MNIST as Parquet tables of images, as ``crkd embed`` reads them.

    Args:
        folder: of the tables.
        each: images of a class, the first ones.
    """
    for part, prefix in (("train", "train"), ("test", "t10k")):
        content = [
            gzip.decompress((FASHION / f"{prefix}-{kind}-ubyte.gz").read_bytes())
            for kind in ("images-idx3", "labels-idx1")
        ]
        pixels = np.frombuffer(content[0], np.uint8, offset=16).reshape(-1, 28, 28)
        classes = np.frombuffer(content[1], np.uint8, offset=8)
        rows = np.concatenate([np.flatnonzero(classes == label)[:each] for label in range(10)])
        _write_table(folder / f"fashion-{part}-images.parquet", pixels[rows], classes[rows])


def digits_table(folder: Path) -> None:
    """Write the digits of scikit-learn as ``digit-images.parquet``, a table of 8 x 8 images.

    Args:
        folder: of the table.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    _write_table(folder / "digit-images.parquet", pixels, digits.target)


def _write_table(path: Path, pixels: NDArray[np.uint8], classes: NDArray[Any]) -> None:
    """Write ``(N, h, w)`` images and ``(N,)`` classes."""
    import pyarrow
    import pyarrow.parquet
    from PIL import Image

    images = []
    for row in pixels:
        file = io.BytesIO()
        Image.fromarray(row).save(file, "PNG", compress_level=1)
        images.append({"bytes": file.getvalue(), "path": None})
    table = pyarrow.table({"image": images, "label": [str(label) for label in classes]})
    pyarrow.parquet.write_table(table, path)
