import dataclasses
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd.core.errors import InputError
from crkd.data.datasets.base import DATASETS, Dataset, load_dataset
from crkd.data.sources.arrays import ArraySource
from crkd.data.splits.class_split import (
    DEFAULT_SPLITS,
    ClassSplit,
    available_splits,
    label_hash,
    load_split,
)
from tests.support import ROOT

SHARED = ROOT / "../shared/data"
SIZES = {
    "digits": {"5-5": (5, 5)},
    "cifar10": {"5-5": (5, 5)},
    "cifar100": {
        "10-10": (10, 10),
        "80-20": (80, 20),
        "50-50": (50, 50),
        "20-80": (20, 80),
        "100-0": (100, 0),
    },
    "tiny-imagenet": {"180-20": (180, 20)},
    "cub": {"ssb": (100, 100)},
    "cars": {"ssb": (98, 98)},
    "aircraft": {"ssb": (50, 50)},
    "imagenet-100": {"50-50": (50, 50)},
    "herbarium-19": {"341-342": (341, 342)},
}


def small(known: tuple[int, ...] = (0, 2), novel: tuple[int, ...] = (3,)) -> ClassSplit:
    return ClassSplit("set", "2-1", ("a", "b", "c", "d"), known, novel)


def test_every_data_set_has_its_splits_and_a_default() -> None:
    assert set(DATASETS.names()) == set(SIZES) == set(DEFAULT_SPLITS)
    for dataset, sizes in SIZES.items():
        assert set(available_splits(dataset)) == set(sizes)
        assert load_split(dataset).name == DEFAULT_SPLITS[dataset]
        for name, (known, novel) in sizes.items():
            split = load_split(dataset, name)
            assert (len(split.known), len(split.novel)) == (known, novel)
            assert split.name == name
            assert split.source


def test_published_class_lists_in_spot_checks() -> None:
    # Semantic Shift Benchmark: first and last known class, first hard novel class.
    cub, cars, aircraft = (load_split(name) for name in ("cub", "cars", "aircraft"))
    assert (cub.known[0], cub.known[-1], cub.novel[0], cub.novel[-1]) == (150, 136, 29, 138)
    assert (cars.known[0], cars.known[-1], cars.novel[0], cars.novel[-1]) == (1, 189, 23, 132)
    assert [len(split.class_names) for split in (cub, cars, aircraft)] == [200, 196, 100]
    assert (aircraft.known[0], aircraft.known[-1], aircraft.novel[0]) == (0, 99, 6)
    assert aircraft.class_names[6] == "737-600"
    assert cars.class_names[5] == "Acura Integra Type R 2001"  # not in alphabetical order
    assert list(aircraft.class_names) == sorted(aircraft.class_names)
    assert load_split("cifar100", "80-20").novel == tuple(range(80, 100))


def test_lists_of_generalized_category_discovery_are_those_of_its_draws() -> None:
    """The release draws both with numpy's generator of seed 0, whose values never change."""
    herbarium = load_split("herbarium-19")
    draw = np.random.RandomState(0).choice(683, 341, replace=False)
    assert herbarium.known == tuple(draw.tolist())
    assert herbarium.novel == tuple(sorted(set(range(683)) - set(draw.tolist())))
    assert list(herbarium.class_names) == sorted(str(label) for label in range(683))

    images = load_split("imagenet-100")
    assert images.known + images.novel == tuple(range(100))
    # From the list that the authors published: both sides of the split.
    assert images.class_names[49:51] == ("n03017168", "n03026506")
    pytest.importorskip("timm")
    names = resources.files("timm.data._info").joinpath("imagenet_synsets.txt").read_text().split()
    draw = np.random.RandomState(0).choice(1000, 100, replace=False)
    assert list(images.class_names) == [sorted(names)[label] for label in sorted(draw.tolist())]


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_splits_fit_the_real_files(name: str) -> None:
    dataset = load_dataset(name, SHARED)
    for split in available_splits(name):
        load_split(name, split).check(dataset)


def test_digits_split_fits_the_digits() -> None:
    load_split("digits").check(load_dataset("digits"))


def test_repeated_classes_are_found_without_a_search_for_each() -> None:
    class Ids(tuple[int, ...]):
        __slots__ = ()

        def __add__(self, other: object) -> "Ids":
            return Ids(tuple(self) + tuple(other))  # type: ignore[arg-type]

        def count(self, value: object, /) -> int:
            raise AssertionError(f"all ids were searched for {value}")

    assert len(small(known=Ids((0, 2))).order) == 3
    with pytest.raises(InputError, match=r"the class ids 1, 2 more than once"):
        small(known=Ids((2, 1, 0)), novel=(2, 3, 1))


def test_order_and_joint_ids() -> None:
    split = small(known=(2, 0), novel=(3,))
    assert split.order == (2, 0, 3)
    assert split.joint_names == ("c", "a", "d")
    labels = np.array([0, 1, 2, 3, -1])
    assert split.joint_ids(labels).tolist() == [1, -1, 0, 2, -1]


@pytest.mark.parametrize(
    ("known", "novel", "message"),
    [
        ((0, 4), (1,), "class ids 4"),
        ((0,), (-1,), "class ids -1"),
        ((0, 1), (1,), "more than once"),
    ],
)
def test_impossible_splits(known: tuple[int, ...], novel: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        small(known, novel)


def test_fingerprint_tells_classes_apart_and_ignores_names() -> None:
    split = small()
    assert split.fingerprint() == dataclasses.replace(split, name="x", source="y").fingerprint()
    for other in (small((2, 0), (3,)), small((0,), (2, 3)), small((0, 2), (1,))):
        assert other.fingerprint() != split.fingerprint()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**64 - 1))
def test_random_order_keeps_the_sizes(seed: int) -> None:
    split = load_split("cifar100", "20-80").reordered(seed)
    assert (len(split.known), len(split.novel)) == (20, 80)
    assert sorted(split.order) == list(range(100))
    assert split.name == f"20-80-order{seed}"
    assert split == load_split("cifar100", "20-80").reordered(seed)


def test_random_order_is_random_and_stays_the_same() -> None:
    base = load_split("cifar100", "10-10")
    assert base.reordered(0).order != base.reordered(1).order
    # Stated so that a change of the drawing, which would change results, is noticed.
    assert base.reordered(0).known == (66, 0, 54, 43, 69, 38, 21, 91, 85, 2)
    with pytest.raises(InputError, match="negative"):
        base.reordered(-1)


def dataset_with(labels: list[int], names: tuple[str, ...] = ("a", "b", "c", "d")) -> Dataset:
    images = np.zeros((len(labels), 4, 4, 3), np.uint8)
    source = ArraySource(images, labels, names)
    return Dataset("set", source, source, names, 4, (0, 0, 0), (1, 1, 1))


def test_check_compares_name_classes_and_labels() -> None:
    labels = np.array([3, 1, 2, 0])
    hashed = {"train": label_hash(labels), "test/sorted": label_hash(np.arange(4))}
    split = dataclasses.replace(small(), label_hash=hashed)
    split.check(dataset_with([3, 1, 2, 0]))
    with pytest.raises(InputError, match="train labels"):
        split.check(dataset_with([1, 3, 2, 0]))
    with pytest.raises(InputError, match="test labels"):
        dataclasses.replace(split, label_hash={"test/sorted": hashed["test/sorted"]}).check(
            dataset_with([3, 1, 2, 2])
        )
    with pytest.raises(InputError, match="class 1 is 'b' in the split and 'x'"):
        split.check(dataset_with([0, 1, 2, 3], ("a", "x", "c", "d")))
    with pytest.raises(InputError, match="4 classes in the split and 5"):
        split.check(dataset_with([0, 1, 2, 3], ("a", "b", "c", "d", "e")))
    with pytest.raises(InputError, match="of data set 'set'"):
        split.check(load_dataset("digits"))


def test_hash_is_that_of_the_little_endian_bytes() -> None:
    # Computed with: printf '\1\0\0\0\0\0\0\0' | sha256sum
    one = "7c9fa136d4413fa6173637e883b6998d32e1d675f88cddff9dcbcf331820f4b8"
    assert label_hash(np.array([1], dtype=np.int64)) == one
    assert label_hash(np.array([1], dtype=">i8")) == one


def test_saved_split_comes_back(tmp_path: Path) -> None:
    names = ("no", "1e-4", "a: b", "ü", "12", "# x", "null")
    split = ClassSplit("set", "x", names, (6, 0), (3, 1), {"train": "ab"}, "somewhere: else")
    split.save(tmp_path / "s.yaml")
    assert load_split("set", str(tmp_path / "s.yaml")) == split
    assert [path.name for path in tmp_path.iterdir()] == ["s.yaml"]  # no temporary file is left
    with pytest.raises(InputError, match="cannot write"):
        split.save(tmp_path / "no" / "s.yaml")


def test_unknown_split_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"no split '60-40'; choose one of: 10-10, 100-0"):
        load_split("cifar100", "60-40")
    with pytest.raises(InputError, match="none comes with the package"):
        load_split("nothing")


def test_split_of_another_data_set() -> None:
    path = ROOT / "data_splits/cifar10_5-5.yaml"
    with pytest.raises(InputError, match="of data set 'cifar10', not 'digits'"):
        load_split("digits", str(path))


GOOD = "dataset: set\nname: x\nclass_names: [a, b]\nknown: [0]\nnovel: [1]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "known: [1]\n", "the key '?known'? appears twice"),
        (GOOD + "color: red\n", "unknown fields .color."),
        (GOOD.replace("novel: [1]\n", ""), "lacks .novel."),
        (GOOD.replace("[0]", "[]"), "no known class"),
        (GOOD.replace("[0]", "[zero]"), "'known'.*whole numbers"),
        (GOOD.replace("[0]", "[true]"), "'known'.*whole numbers"),
        (GOOD.replace("[a, b]", "[no, b]"), "'class_names'.*quote names"),
        (GOOD + "label_hash: {valid: ab}\n", "label_hash"),
        (GOOD + "source: !!python/object/apply:os.system ['true']\n", "not plain YAML"),
        (GOOD.replace("[0]", "&x [0]").replace("[1]", "*x"), "aliases"),
        ("- 1\n", "holds no fields"),
        ("", "holds no fields"),
        ("a: [", "not plain YAML"),
        ("[" * 500, "not plain YAML"),
        (GOOD.replace("[1]", "[5]"), "class ids 5"),
    ],
)
def test_odd_split_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_split("set", str(path))


def test_missing_and_huge_split_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the split file"):
        load_split("set", str(tmp_path / "missing.yaml"))
    (tmp_path / "big.yaml").write_text(" " * (4 * 1024 * 1024 + 1))
    with pytest.raises(InputError, match="larger than 4 MiB"):
        load_split("set", str(tmp_path / "big.yaml"))


@settings(max_examples=300, deadline=None)
@given(
    content=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.floats(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["dataset", "name", "class_names", "known", "novel", "source", "x"]
                ),
                inner,
                max_size=7,
            )
        ),
    )
)
def test_any_yaml_is_a_split_or_the_one_error(
    content: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    try:
        split = load_split("set", str(path))
    except InputError:
        return
    assert split.dataset == "set"


def test_an_interrupted_split_file_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(file: Path, text: str, **options: str) -> None:
        file.touch()
        raise KeyboardInterrupt

    split = load_split("digits", "5-5")
    monkeypatch.setattr(Path, "write_text", interrupted)
    with pytest.raises(KeyboardInterrupt):
        split.save(tmp_path / "classes.yaml")
    assert not list(tmp_path.iterdir())
