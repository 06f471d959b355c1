"""Addresses of image files on the review page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crkd.data.sources.files import FileSource
from crkd.data.splits.partition import Subset
from crkd.review.image_places import ImagePlaces


@pytest.mark.parametrize(
    ("files", "addresses"),
    [
        (["/a b/1.png", "/a b/c/2.png"], ["file:///a%20b/1.png", "file:///a%20b/c/2.png"]),
        (["/a/1.png", "/b/2.png"], ["file:///a/1.png", "file:///b/2.png"]),
    ],
)
def test_root_and_name_are_the_address_of_a_file(files: list[str], addresses: list[str]) -> None:
    ids = [str(number) for number in range(len(files))]
    source = FileSource([Path(file) for file in files], [-1] * len(files), (), ids)
    places = ImagePlaces(Subset(source, np.arange(len(files)), source.labels, ids))
    assert [f"{places.root}{places.name(row)}" for row in range(len(files))] == addresses
