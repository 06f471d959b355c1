"""Sentences on what the folders of own images mean."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

from crkd.data.encoded.listing import Listing, find_encoded
from crkd.stages.vectors.folder_remarks import remarks_on_known, remarks_on_novel


def pictures(root: Path, names: Iterable[str]) -> Listing:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name)
    return find_encoded([root])


def test_known_classes_are_named_with_their_sizes(tmp_path: Path) -> None:
    names = ["dog/1.png", "cat/1.png", "cat/deep/2.png", "cat/3.png"]
    listing = pictures(tmp_path / "known", names)
    assert remarks_on_known(listing) == ["2 known classes with 1 to 3 images each: cat, dog"]


def test_classes_in_deeper_folders_are_remarked_on(tmp_path: Path) -> None:
    names = ["animal/cat/1.png", "animal/dog/2.png", "plant/rose/new/3.png"]
    classes, inner = remarks_on_known(pictures(tmp_path / "known", names))
    assert classes == "2 known classes with 1 to 2 images each: animal, plant"
    # A single folder in a class cannot divide it.
    assert "not the folders in them (animal/cat, animal/dog);" in inner


@pytest.mark.parametrize(
    ("names", "num_novel", "wanted"),
    [
        (["1.png", "may/2.png"], None, []),
        (["card/a/1.png", "card/b/2.png"], 2, []),
        (["may/1.png", "june/2.png"], 5, ["2 folders of --novel are hidden labels, for accuracy "]),
        (["may/1.png", "june/2.png"], None, ["2 folders of --novel are the number of novel "]),
    ],
)
def test_folders_of_unlabeled_images_are_named_where_they_count(
    names: list[str], num_novel: int | None, wanted: list[str], tmp_path: Path
) -> None:
    found = remarks_on_novel(pictures(tmp_path / "new", names), num_novel)
    assert [line[: len(start)] for line, start in zip(found, wanted, strict=True)] == wanted
    assert all("june, may; " in line and "if they are no classes" in line for line in found)
