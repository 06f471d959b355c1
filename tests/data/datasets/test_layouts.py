"""The published layouts of the named data sets of single files, in miniature."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from crkd.core.errors import InputError
from crkd.data.datasets.base import Dataset, load_dataset
from crkd.data.splits.class_split import load_split


def picture(path: Path, color: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 5), (color, 0, 0)).save(path, "PNG")


def reds(dataset: Dataset, part: str) -> list[int]:
    source = dataset.train if part == "train" else dataset.test
    assert source is not None
    return [int(source.read(row)[0, 0, 0]) for row in range(len(source))]


def tiny_imagenet(root: Path) -> Path:
    folder = root / "tiny-imagenet-200"
    for label, wnid in enumerate(("n03", "n01")):  # published order is not sorted
        for number in range(2):
            picture(folder / f"train/{wnid}/images/{wnid}_{number}.JPEG", 100 * label + number)
        (folder / f"train/{wnid}/{wnid}_boxes.txt").write_text("x 0 0 1 1\n")
    for number in range(3):
        picture(folder / f"val/images/val_{number}.JPEG", 200 + number)
    (folder / "val/val_annotations.txt").write_text(
        "val_0.JPEG\tn03\t0\t0\t1\t1\nval_2.JPEG\tn01\t0\t0\t1\t1\nval_1.JPEG\tn03\t0\t0\t1\t1\n"
    )
    (folder / "wnids.txt").write_text("n03\nn01\n")
    return folder


def test_tiny_imagenet(tmp_path: Path) -> None:
    tiny_imagenet(tmp_path)
    dataset = load_dataset("tiny-imagenet", tmp_path)
    assert dataset.test is not None
    assert dataset.class_names == ("n01", "n03")
    assert dataset.image_size == 64
    assert dataset.train.labels.tolist() == [0, 0, 1, 1]
    assert reds(dataset, "train") == [100, 101, 0, 1]
    assert dataset.train.ids[0] == "train/n01/n01_0.JPEG"
    assert dataset.test.labels.tolist() == [1, 0, 1]
    assert reds(dataset, "test") == [200, 202, 201]


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd"])
def test_a_list_cannot_lead_out_of_the_data_folder(tmp_path: Path, name: str) -> None:
    folder = tiny_imagenet(tmp_path)
    (folder / "val/val_annotations.txt").write_text(f"{name}\tn03\t0\n")
    with pytest.raises(InputError, match="outside"):
        load_dataset("tiny-imagenet", tmp_path)


def test_tiny_imagenet_with_damaged_lists(tmp_path: Path) -> None:
    folder = tiny_imagenet(tmp_path)
    (folder / "val/val_annotations.txt").write_text("val_0.JPEG\tn99\t0\n")
    with pytest.raises(InputError, match="'n99'"):
        load_dataset("tiny-imagenet", tmp_path)
    (folder / "val/val_annotations.txt").write_text("val_0.JPEG\n")
    with pytest.raises(InputError, match="line 1"):
        load_dataset("tiny-imagenet", tmp_path)
    (folder / "val/val_annotations.txt").unlink()
    with pytest.raises(InputError, match="val_annotations"):
        load_dataset("tiny-imagenet", tmp_path)


def cub(root: Path) -> Path:
    folder = root / "CUB_200_2011"
    names = ["002.B/b_1.jpg", "001.A/a_1.jpg", "001.A/a_2.jpg"]
    for number, name in enumerate(names):
        picture(folder / "images" / name, number)
    (folder / "classes.txt").write_text("1 001.A\n2 002.B \n")
    (folder / "images.txt").write_text("".join(f"{i + 1} {n}\n" for i, n in enumerate(names)))
    (folder / "image_class_labels.txt").write_text("1 2\n2 1\n3 1\n")
    (folder / "train_test_split.txt").write_text("1 1\n2 0\n3 1\n")
    return folder


def test_cub(tmp_path: Path) -> None:
    cub(tmp_path)
    dataset = load_dataset("cub", tmp_path)
    assert dataset.test is not None
    assert dataset.class_names == ("001.A", "002.B")
    assert dataset.train.labels.tolist() == [1, 0]
    assert reds(dataset, "train") == [0, 2]
    assert dataset.test.labels.tolist() == [0]
    assert list(dataset.test.ids) == ["001.A/a_1.jpg"]


def test_cub_with_a_missing_line(tmp_path: Path) -> None:
    (cub(tmp_path) / "image_class_labels.txt").write_text("1 2\n3 1\n")
    with pytest.raises(InputError, match="image_class_labels"):
        load_dataset("cub", tmp_path)


def test_aircraft(tmp_path: Path) -> None:
    folder = tmp_path / "fgvc-aircraft-2013b/data"
    for number in range(3):
        picture(folder / f"images/000{number}.jpg", number)
    (folder / "variants.txt").write_text("An-12\nA310\nBAE 146-200\n")
    (folder / "images_variant_trainval.txt").write_text("0002 BAE 146-200\n0000 A310\n")
    (folder / "images_variant_test.txt").write_text("0001 An-12\n")
    dataset = load_dataset("aircraft", tmp_path)
    assert dataset.class_names == ("A310", "An-12", "BAE 146-200")
    assert dataset.train.labels.tolist() == [2, 0]
    assert reds(dataset, "train") == [2, 0]
    assert reds(dataset, "test") == [1]


def test_cars(tmp_path: Path) -> None:
    folder = tmp_path / "stanford_cars"
    picture(folder / "cars_train/00001.jpg", 1)
    picture(folder / "cars_train/00002.jpg", 2)
    picture(folder / "cars_test/00001.jpg", 3)
    (folder / "devkit").mkdir()
    names = np.empty((1, 2), object)
    names[0, :] = ["AM General Hummer SUV 2000", "Ram C/V Cargo Van Minivan 2012"]
    savemat(folder / "devkit/cars_meta.mat", {"class_names": names})
    kind = [("bbox_x1", object), ("class", object), ("fname", object)]
    train = np.array([[(1, 2, "00001.jpg"), (1, 1, "00002.jpg")]], dtype=kind)
    test = np.array([[(1, 2, "00001.jpg")]], dtype=kind)
    savemat(folder / "devkit/cars_train_annos.mat", {"annotations": train})
    savemat(folder / "cars_test_annos_withlabels.mat", {"annotations": test})
    dataset = load_dataset("cars", tmp_path)
    assert dataset.test is not None
    assert dataset.class_names[1] == "Ram C/V Cargo Van Minivan 2012"
    assert dataset.train.labels.tolist() == [1, 0]
    assert reds(dataset, "train") == [1, 2]
    assert dataset.test.labels.tolist() == [1]
    unlabeled = np.array([[(1, "00001.jpg")]], dtype=[("bbox_x1", object), ("fname", object)])
    savemat(folder / "cars_test_annos_withlabels.mat", {"annotations": unlabeled})
    with pytest.raises(InputError, match="with labels"):
        load_dataset("cars", tmp_path)


@pytest.mark.parametrize(
    "place", ["imagenet", "ILSVRC/Data/CLS-LOC", "imagenet-100"], ids=lambda place: place[:8]
)
def test_imagenet_100(tmp_path: Path, place: str) -> None:
    names = load_split("imagenet-100").class_names
    for label, name in enumerate(names):
        picture(tmp_path / place / f"train/{name}/{name}_1.JPEG", label)
    for name in names:
        picture(tmp_path / place / f"val/{name}/ILSVRC2012_val_1.JPEG", 200)
    picture(tmp_path / place / "train/n01440764/n01440764_1.JPEG", 255)  # one of the other 900
    dataset = load_dataset("imagenet-100", tmp_path)
    assert dataset.test is not None
    assert dataset.class_names == names
    assert dataset.train.labels.tolist() == dataset.test.labels.tolist() == list(range(100))
    assert reds(dataset, "train") == list(range(100))
    assert dataset.train.ids[0] == "train/n01443537/n01443537_1.JPEG"
    # The split states the labels of all 5,000 validation images.
    with pytest.raises(InputError, match="the test labels"):
        load_split("imagenet-100").check(dataset)


def test_imagenet_100_with_unsorted_or_missing_images(tmp_path: Path) -> None:
    names = load_split("imagenet-100").class_names
    for name in names[:-1]:
        picture(tmp_path / f"imagenet/train/{name}/1.JPEG", 0)
    with pytest.raises(InputError, match=f"no image of the class '{names[-1]}'"):
        load_dataset("imagenet-100", tmp_path)
    picture(tmp_path / f"imagenet/train/{names[-1]}/1.JPEG", 0)
    picture(tmp_path / "imagenet/val/ILSVRC2012_val_1.JPEG", 0)
    with pytest.raises(InputError, match="one folder for each class"):
        load_dataset("imagenet-100", tmp_path)


def test_herbarium_19(tmp_path: Path) -> None:
    folder = tmp_path / "herbarium-19"
    picture(tmp_path / "00000.jpg", 7)
    content = (tmp_path / "00000.jpg").read_bytes()
    for number in range(683):
        place = folder / f"small-train/{number}"
        place.mkdir(parents=True)
        (place / "00000.jpg").write_bytes(content)
    picture(folder / "small-validation/682/00000.jpg", 9)
    dataset = load_dataset("herbarium-19", tmp_path)
    assert dataset.test is not None
    assert dataset.class_names[:4] == ("0", "1", "10", "100")
    assert dataset.train.ids[2] == "small-train/10/00000.jpg"
    assert dataset.train.labels.tolist() == list(range(683))
    assert [dataset.class_names[label] for label in dataset.test.labels] == ["682"]
    assert dataset.note.startswith("herbarium-19 has 683 training and 1 validation images here")
    load_split("herbarium-19").check(dataset)
    (folder / "small-train/5/00000.jpg").unlink()
    with pytest.raises(InputError, match="no image of the class '5'"):
        load_dataset("herbarium-19", tmp_path)


@pytest.mark.parametrize(
    "name", ["tiny-imagenet", "cub", "cars", "aircraft", "imagenet-100", "herbarium-19"]
)
def test_sets_that_cannot_be_fetched_say_where_they_are(name: str, tmp_path: Path) -> None:
    for download in (False, True):
        with pytest.raises(InputError, match="--data-root DIR"):
            load_dataset(name, tmp_path, download=download)


def test_split_of_another_release_is_refused(tmp_path: Path) -> None:
    cub(tmp_path)
    with pytest.raises(InputError, match=r"class 0 is '001\.Black_footed_Albatross'"):
        load_split("cub").check(load_dataset("cub", tmp_path))
