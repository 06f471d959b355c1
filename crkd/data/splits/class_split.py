"""Class split: known and novel classes, and the order of the joint classes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from crkd.core.errors import InputError, listed
from crkd.core.paths import shipped
from crkd.core.shuffle import stable_shuffle
from crkd.data.sources.base import Labels
from crkd.data.splits.yaml_file import read_fields, write_fields

if TYPE_CHECKING:
    from crkd.data.datasets.base import Dataset

DEFAULT_SPLITS: Final = {
    "digits": "5-5",
    "cifar10": "5-5",
    "cifar100": "50-50",
    "tiny-imagenet": "180-20",
    "cub": "ssb",
    "cars": "ssb",
    "aircraft": "ssb",
    "imagenet-100": "50-50",
    "herbarium-19": "341-342",
}


@dataclass(frozen=True)
class ClassSplit:
    """Known and novel classes of one data set.

    Attributes:
        dataset: registered name of the data set.
        name: name of the split ("50-50").
        class_names: every class of the data set, in its label order.
        known: labels of the K known classes; position = joint class id. Only feature vectors can
            have none.
        novel: labels of the M novel classes; position + K = joint class id. Classes in neither
            list are left out of a run.
        label_hash: for "train" and "test" the SHA-256 of the labels as little-endian int64; for
            "train/sorted" and "test/sorted" that of the sorted labels, for sets whose copies
            differ in the order of their rows. Checked only if present. For own images,
            "images/known" and "images/novel" hold a digest of the files.
        source: origin of the split.
    """

    dataset: str
    name: str
    class_names: tuple[str, ...]
    known: tuple[int, ...]
    novel: tuple[int, ...]
    label_hash: dict[str, str] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        """Check that all ids are class ids, each at most once.

        Raises:
            InputError: an id is out of range or listed twice, or names repeat.
        """
        order = self.order
        outside = [label for label in order if not 0 <= label < len(self.class_names)]
        if outside:
            raise InputError(
                f"split {self.name!r} lists the class ids {listed(outside)}, but its "
                f"{len(self.class_names)} class names allow 0 to {len(self.class_names) - 1}; "
                "correct 'known' and 'novel'"
            )
        twice = sorted(label for label, count in Counter(order).items() if count > 1)
        if twice:
            raise InputError(
                f"split {self.name!r} lists the class ids {listed(twice)} more than once; a class "
                "is either known or novel"
            )
        if len(set(self.class_names)) != len(self.class_names):
            raise InputError(f"split {self.name!r} repeats a class name; names must be unique")

    @property
    def order(self) -> tuple[int, ...]:
        """Data-set label of every joint class id: the known ones, then the novel ones."""
        return self.known + self.novel

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Name of every joint class id, C in all."""
        return tuple(self.class_names[label] for label in self.order)

    def joint_ids(self, labels: Labels) -> Labels:
        """Return the joint class id of every data-set label, -1 for -1 and for classes left out.

        Args:
            labels: ``(N,)`` int64 in ``[-1, len(class_names))``.
        """
        table = np.full(len(self.class_names) + 1, -1, dtype=np.int64)
        table[list(self.order)] = np.arange(len(self.order))
        # Label -1 picks the last entry of the table, which stays -1.
        joint: Labels = table[labels]
        return joint

    def fingerprint(self) -> str:
        """Return a SHA-256 that is equal for two splits with the same training labels."""
        content = [self.dataset, self.class_names, self.known, self.novel]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def reordered(self, seed: int) -> ClassSplit:
        """Return a split of the same sizes with classes drawn at random from the whole set.

        Args:
            seed: non-negative; the same seed gives the same classes on every machine.
        """
        if seed < 0:
            raise InputError(f"class order seed {seed} is negative; give 0 or more")
        classes = stable_shuffle(len(self.class_names), seed).tolist()
        known, total = len(self.known), len(self.order)
        return dataclasses.replace(
            self,
            name=f"{self.name}-order{seed}",
            known=tuple(classes[:known]),
            novel=tuple(classes[known:total]),
            source=f"random class order of seed {seed} for the split {self.name!r}",
        )

    def check(self, dataset: Dataset) -> None:
        """Raise unless this split belongs to ``dataset``.

        Raises:
            InputError: another name, other class names, or labels with another hash.
        """
        if dataset.name != self.dataset:
            raise InputError(
                f"split {self.name!r} is of data set {self.dataset!r}, not {dataset.name!r}; "
                "choose a split of this data set"
            )
        if dataset.class_names != self.class_names:
            raise InputError(
                f"split {self.name!r} names other classes than the data set {dataset.name!r} has: "
                f"{_first_difference(self.class_names, dataset.class_names)}; use the split that "
                "belongs to these files"
            )
        for key, expected in self.label_hash.items():
            part, _, order = key.partition("/")
            source = dataset.train if part == "train" else dataset.test
            if source is None:
                continue
            labels = np.sort(source.labels) if order == "sorted" else source.labels
            if label_hash(labels) != expected:
                raise InputError(
                    f"the {part} labels of data set {dataset.name!r} do not have the hash that the "
                    f"split {self.name!r} states; the files are incomplete, altered or of another "
                    "release: fetch them again, or write a split for them"
                )

    def save(self, path: Path) -> None:
        """Write the split as a YAML file that ``load_split`` reads.

        Raises:
            InputError: the file cannot be written.
        """
        write_fields(path, dataclasses.asdict(self))


def label_hash(labels: Labels) -> str:
    """Return the SHA-256 of labels as little-endian int64.

    >>> label_hash(np.array([0, 1]))[:12]
    '9d34149fbd1f'
    """
    return hashlib.sha256(labels.astype("<i8").tobytes()).hexdigest()


def available_splits(dataset: str) -> list[str]:
    """Return the names of the splits that come with the package, sorted."""
    prefix = f"{dataset}_"
    return sorted(
        file.stem.removeprefix(prefix) for file in shipped("data_splits").glob(f"{prefix}*.yaml")
    )


def load_split(dataset: str, name_or_file: str | None = None) -> ClassSplit:
    """Return a split of ``dataset``.

    Args:
        dataset: registered name of the data set.
        name_or_file: name of a split that comes with the package, or a YAML file; None uses the
            data set's default split.

    Raises:
        InputError: there is no such split, the file is not a split, or it is of another data set.
    """
    names = available_splits(dataset)
    name = name_or_file if name_or_file is not None else DEFAULT_SPLITS.get(dataset)
    if name in names:
        path = shipped("data_splits") / f"{dataset}_{name}.yaml"
    elif name is not None and Path(name).suffix in (".yaml", ".yml"):
        path = Path(name)
    else:
        choice = f"choose one of: {', '.join(names)}" if names else "none comes with the package"
        raise InputError(
            f"data set {dataset!r} has no split {name!r}; {choice}, or give a YAML file"
        )
    fields = read_fields(path)
    split = ClassSplit(**fields)
    if split.dataset != dataset:
        raise InputError(
            f"the split file {str(path)!r} is of data set {split.dataset!r}, not {dataset!r}; give "
            "a split of that data set"
        )
    if not split.known:
        raise InputError(f"split {split.name!r} has no known class; list at least one")
    return split


def _first_difference(expected: Sequence[str], found: Sequence[str]) -> str:
    for label, (left, right) in enumerate(zip(expected, found, strict=False)):
        if left != right:
            return f"class {label} is {left!r} in the split and {right!r} in the data"
    return f"{len(expected)} classes in the split and {len(found)} in the data"
