import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from crkd.data.check_dataset import check_dataset
from crkd.data.datasets.base import Dataset, load_dataset
from crkd.data.sources.arrays import ArraySource
from crkd.data.sources.base import ImageSource, Pixels, UnreadableImageError
from crkd.data.sources.files import FileSource
from crkd.data.splits.class_split import ClassSplit, load_split
from crkd.data.splits.partition import partition
from crkd.data.splits.smaller import class_fraction_mask


class Flawed(ImageSource):
    """Images whose pixels all have the value given for them; None cannot be read."""

    def __init__(self, values: list[int | None], labels: list[int]) -> None:
        super().__init__(labels, ("a", "b", "c"), [f"img{row}" for row in range(len(values))])
        self._values = values

    def read(self, index: int) -> Pixels:
        value = self._values[index]
        if value is None:
            raise UnreadableImageError(f"img{index}.png", "truncated")
        return np.full((4, 4, 3), value, np.uint8)


def dataset(train: ImageSource, test: ImageSource | None) -> Dataset:
    return Dataset("set", train, test, ("a", "b", "c"), 4, (0, 0, 0), (1, 1, 1), "a copy")


def test_every_flaw_is_found_and_reported() -> None:
    train = Flawed([1, 2, 2, None, 5], [0, 0, 1, 1, -1])
    test = Flawed([7, 2, 8, None], [0, 1, 2, 2])
    split = ClassSplit("set", "x", ("a", "b", "z"), (0,), (1,))
    found = check_dataset(dataset(train, test), split)
    first, second = found.parts
    assert (first.images, first.unlabeled, first.duplicates) == (5, 1, (("img2", "img1"),))
    assert (first.smallest, first.largest) == (2, 2)
    assert first.missing_classes == ("c",)
    assert first.unreadable == ("img3.png: truncated",)
    assert (second.smallest, second.largest, second.duplicates) == (1, 2, ())
    assert found.shared_pixels == ("img1",)  # the two unreadable images are not taken for equal
    assert "'z'" in found.split_problem
    assert not found.usable
    text = "\n".join(found.lines)
    for part in (
        "data set set: 3 classes",
        "train: 5 images, 2 a class",
        "test: 4 images, 1 to 2 a class",
        "1 without a label",
        "no image of c",
        "img3.png",
        "img2 = img1",
        "a copy",
    ):
        assert part in text


def test_images_of_twelve_bits_in_sixteen_are_named(tmp_path: Path) -> None:
    """Only the upper eight of sixteen bits are used, which leaves four of such an image."""
    for name, largest in (("full", 0xFFFF), ("twelve", 0x0FFF), ("thirteen", 0x1FFF)):
        gradient = np.linspace(0, largest, 64).reshape(8, 8).astype(np.uint16)
        Image.fromarray(gradient).save(tmp_path / f"{name}.tif")
    files = sorted(tmp_path.iterdir())
    source = FileSource(files, [0, 0, 0], ("a",), [file.stem for file in files])
    found = check_dataset(Dataset("set", source, None, ("a",), 8, (0, 0, 0), (1, 1, 1)))
    assert found.parts[0].dark == ("twelve",)
    assert found.usable
    assert any("1 of 3 images are almost black" in line for line in found.lines)


def test_own_images_have_no_name_of_a_set() -> None:
    own = dataclasses.replace(dataset(Flawed([1, 2, 3], [0, 1, 2]), None), name="folder", note="")
    assert check_dataset(own).lines[0] == "train: 3 images, 1 a class"


def test_a_subset_has_the_images_that_a_run_uses() -> None:
    labels = [0, 1, 2, -1] * 10
    train = Flawed([5] * 40, labels)
    rows = np.flatnonzero(class_fraction_mask(train.labels, 0.2)).tolist()
    outside = next(row for row in range(40) if row not in rows)
    train._values[outside] = None
    train._values[rows[0]], train._values[rows[1]] = 6, 6
    split = ClassSplit("set", "x", ("a", "b", "c"), (0,), (1, 2))
    found = check_dataset(dataset(train, train), split, subset=0.2)
    parts = partition(dataset(train, train), split, validation_fraction=0.0, seed=0, subset=0.2)
    used = sorted([*parts.known_train.indices.tolist(), *parts.unlabeled.indices.tolist()])
    assert used == rows
    assert found.usable
    (first, second), ids = found.parts, [train.ids[row] for row in rows]
    assert (first.images, first.unlabeled, first.smallest, first.largest) == (8, 2, 2, 2)
    assert first.duplicates[0] == (ids[1], ids[0])
    assert second.images == 8
    assert set(found.shared_pixels) == set(ids)
    assert any("20 % of each class" in line for line in found.lines)
    assert not check_dataset(dataset(train, None), split).usable


def test_equal_bytes_in_another_shape_are_no_duplicate() -> None:
    class Shapes(Flawed):
        def read(self, index: int) -> Pixels:
            return np.zeros((4, 6, 3) if index else (6, 4, 3), np.uint8)

    assert check_dataset(dataset(Shapes([0, 0], [0, 0]), None)).parts[0].duplicates == ()


def test_sound_set_is_usable() -> None:
    images = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1) * np.ones((1, 2, 2, 3), np.uint8)
    source = ArraySource(images, [0, 1, 2, 0, 1, 2], ("a", "b", "c"))
    found = check_dataset(
        dataset(source, None), ClassSplit("set", "x", ("a", "b", "c"), (0,), (1,))
    )
    assert found.usable
    assert found.shared_pixels == ()
    assert len(found.parts) == 1


def test_digits_are_sound() -> None:
    found = check_dataset(load_dataset("digits"), load_split("digits"))
    assert found.usable
    assert found.shared_pixels == ()
