import numpy as np
import pytest

from crkd.core.errors import InputError
from crkd.data.sources.arrays import ArraySource
from crkd.data.sources.base import RowIds


def test_both_layouts_hold_the_same_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
    last = ArraySource(images, [0, 1, -1, 0], ["a", "b"])
    second = ArraySource(images.transpose(0, 3, 1, 2), [0, 1, -1, 0], ["a", "b"])
    for source in (last, second):
        assert len(source) == 4
        np.testing.assert_array_equal(source.read(2), images[2])
        pixels = source.pixels()
        assert pixels is not None
        np.testing.assert_array_equal(pixels, images.transpose(0, 3, 1, 2))
    assert list(last.ids) == ["train/00000", "train/00001", "train/00002", "train/00003"]
    assert last.labels.tolist() == [0, 1, -1, 0]
    assert last.class_names == ("a", "b")


def test_oblong_images_are_read_one_by_one() -> None:
    assert ArraySource(np.zeros((2, 4, 5, 3), np.uint8), [0, 0], ["a"]).pixels() is None


def test_labels_cannot_be_changed_afterwards() -> None:
    given = np.array([0, 1])
    source = ArraySource(np.zeros((2, 4, 4, 3), np.uint8), given, ["a", "b"])
    given[0] = 1
    assert source.labels.tolist() == [0, 1]
    with pytest.raises(ValueError, match="read-only"):
        source.labels[0] = 1


def test_nan_names_the_first_bad_image() -> None:
    images = np.zeros((5, 4, 4, 3), np.float32)
    images[3, 1, 2, 0] = np.nan
    with pytest.raises(InputError, match="image 3"):
        ArraySource(images, [0] * 5, ["a"])


@pytest.mark.parametrize(
    ("images", "labels", "names", "message"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), [0, 0], ["a"], "float32"),
        (np.zeros((2, 4, 4), np.uint8), [0, 0], ["a"], r"\(2, 4, 4\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), [0], ["a"], "one label"),
        (np.zeros((2, 4, 4, 3), np.uint8), [0, 1], ["a"], "0 to 1"),
        (np.zeros((2, 4, 4, 3), np.uint8), [0, -2], ["a"], "-2"),
        (np.zeros((2, 4, 4, 3), np.uint8), [0, 1], ["a", "a"], "repeat"),
    ],
)
def test_bad_input_is_named(
    images: np.ndarray, labels: list[int], names: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        ArraySource(images, labels, names)


def test_row_ids_behave_like_a_list() -> None:
    ids = RowIds("test", 100_002)
    assert ids[-1] == "test/100001"
    assert ids[3:5] == ["test/00003", "test/00004"]
    assert len(set(ids)) == len(ids) == 100_002
    with pytest.raises(IndexError):
        ids[100_002]
