"""The confusion matrix by hand, and its picture."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from crkd.core.errors import InputError
from crkd.evaluation.confusion import Confusion, confusion, draw_confusion
from crkd.evaluation.predictions import Predictions

# The example of docs/evaluation.md, with a third cluster that belongs to no class.
EXAMPLE = Predictions(
    id=[str(number) for number in range(15)],
    part=["train"] * 5 + ["test"] * 10,
    label=[2, 2, 2, 3, 3, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3],
    known_head=[0] * 5 + [0, 1, 1, 1] + [0] * 6,
    novel_heads=[[1, 1, 1, 0, 1] + [0] * 10],
    joint_heads=[[3, 3, 3, 2, 3, 0, 0, 2, 0, 3, 1, 4, 0, 0, 1]],
    confidence=[0.5] * 15,
    class_names=["cat", "dog", "fox", "owl"],
    num_known=2,
    num_novel=3,
    chosen_head=0,
)


def test_counts_by_hand():
    matrix = confusion(EXAMPLE, "test")
    assert matrix.true_names == ("cat", "dog", "fox", "owl")
    assert matrix.predicted_names == ("cat", "dog", "fox", "owl", "cluster 2")
    assert matrix.num_known == 2
    assert matrix.counts.tolist() == [
        [2, 0, 0, 0, 0],
        [1, 0, 0, 1, 0],
        [0, 1, 1, 0, 1],
        [2, 1, 0, 0, 0],
    ]


def test_train_part_has_novel_rows_only():
    matrix = confusion(EXAMPLE, "train")
    assert matrix.true_names == matrix.predicted_names == ("fox", "owl")
    assert matrix.counts.tolist() == [[3, 0], [1, 1]]
    assert matrix.num_known == 0


def test_without_training_labels_novel_outputs_stay_clusters():
    label = np.where(EXAMPLE.part == "train", -1, EXAMPLE.label)
    matrix = confusion(dataclasses.replace(EXAMPLE, label=label), "test")
    assert matrix.predicted_names[4:] == ("cluster 0", "cluster 1", "cluster 2")
    assert matrix.counts[2].tolist() == [0, 1, 0, 0, 0, 1, 1]


def test_run_without_heads_uses_the_known_head():
    empty = np.zeros((0, 15), np.int32)
    plain = dataclasses.replace(
        EXAMPLE, novel_heads=empty, joint_heads=empty, num_novel=0, chosen_head=None
    )
    matrix = confusion(plain, "test")
    assert matrix.true_names == ("cat", "dog")
    assert matrix.counts.tolist() == [[1, 1], [0, 2]]


def test_no_labels_is_named():
    blank = dataclasses.replace(EXAMPLE, label=np.full(15, -1))
    with pytest.raises(InputError, match="no image of the part 'test' has a label"):
        confusion(blank, "test")


def square(size, names=None):
    names = tuple(names or (f"class {number}" for number in range(size)))
    counts = np.eye(size, dtype=np.int64) * 9 + 1
    return Confusion(counts, names, names, size // 2)


@pytest.mark.parametrize("size", [2, 12, 30])
def test_picture_shows_diagonal_and_divider(tmp_path, size):
    path = tmp_path / "confusion.png"
    draw_confusion(square(size), path)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    divider = (red > 190) & (green < 120) & (blue < 60)
    assert divider.sum(axis=0).max() > 0.3 * pixels.shape[0]
    assert divider.sum(axis=1).max() > 0.3 * pixels.shape[1]
    cells = (blue - red > 90) & (red < 110)
    assert cells.sum() > 0.1 * (pixels.size / 3) / size


@pytest.mark.filterwarnings("ignore:Glyph")
def test_names_are_text_and_nothing_else(tmp_path):
    names = ["$\\frac{", "line\nbreak", "x" * 500, "<b>", "%s", "日本"]
    draw_confusion(square(6, names), tmp_path / "odd.png")
    with Image.open(tmp_path / "odd.png") as image:
        assert max(image.size) < 2500


def test_many_classes_stay_a_picture_of_sane_size(tmp_path, monkeypatch):
    limits = draw_confusion.__globals__
    assert 150 * limits["MAX_INCHES"] <= 5250
    # A smaller picture of fewer names is cut by the same rules and drawn sooner.
    monkeypatch.setitem(limits, "MAX_INCHES", 10.0)
    monkeypatch.setitem(limits, "MAX_LABELS", 20)
    draw_confusion(square(100), tmp_path / "many.png")
    with Image.open(tmp_path / "many.png") as image:
        assert max(image.size) <= 1550


def test_unwritable_path_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match=r"file.x\.png cannot be written"):
        draw_confusion(square(2), tmp_path / "file" / "x.png")
