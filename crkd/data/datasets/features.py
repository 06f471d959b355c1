"""Data set of two tables of feature vectors, with its classes and split."""

from __future__ import annotations

from collections.abc import Sequence

from crkd.core.errors import InputError
from crkd.data.datasets.base import Dataset
from crkd.data.sources.base import ImageSource, Pixels
from crkd.data.splits.class_split import ClassSplit
from crkd.data.vectors.table import LABEL, FeatureTable


class FeatureSource(ImageSource):
    """Labels and ids of feature vectors; the vectors are stored in a separate array."""

    def read(self, index: int) -> Pixels:
        """Raise, because a vector has no image.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"{self.ids[index]} is a feature vector, not an image; this works only on images"
        )


def feature_dataset(known: FeatureTable, novel: FeatureTable) -> tuple[Dataset, ClassSplit]:
    """Return the data set "features" with labels, ids and classes of two tables, and its split.

    The rows of ``known`` come first, then those of ``novel``. Labels of ``novel`` are used as
    hidden labels, for evaluation, if every row has one. A class of ``novel`` with the name of a
    known class counts as a separate class called "NAME (novel)".

    Args:
        known: vectors, each with a label, of at least two classes.
        novel: vectors in which to discover classes.

    Raises:
        InputError: a known row has no label, there are fewer than two known classes, or the
            vectors of the two tables differ in length.
    """
    if known.labels is None or "" in known.labels:
        missing = "has no labels" if known.labels is None else "has rows without a label"
        raise InputError(
            f"the file of known vectors {str(known.path)!r} {missing}; give each row the name of "
            f"its class in {LABEL!r}"
        )
    width, other = known.features.shape[1], novel.features.shape[1]
    if width != other:
        raise InputError(
            f"the vectors of {str(known.path)!r} have {width} dimensions, those of "
            f"{str(novel.path)!r} have {other}; make both with the same network"
        )
    known_names = _in_order(set(known.labels))
    if len(known_names) < 2:
        raise InputError(
            f"the file of known vectors {str(known.path)!r} has only the class {known_names[0]!r}; "
            "give two known classes or more"
        )
    hidden = list(novel.labels) if novel.labels is not None and "" not in novel.labels else []
    hidden = [f"{name} (novel)" if name in known_names else name for name in hidden]
    novel_names = _in_order(set(hidden))
    position = {name: label for label, name in enumerate((*known_names, *novel_names))}
    labels = [position[name] for name in (*known.labels, *hidden)]
    labels += [-1] * (len(novel) - len(hidden))
    source = FeatureSource(labels, list(position), [*known.ids, *novel.ids])
    return _dataset(source, len(known_names), known)


def next_feature_dataset(
    known_names: Sequence[str], novel: FeatureTable
) -> tuple[Dataset, ClassSplit]:
    """Return the data set of an incremental step: new vectors, and classes without any.

    Args:
        known_names: names of the K classes of the earlier run.
        novel: vectors to discover classes in; labels of all rows serve as hidden labels.
    """
    hidden = list(novel.labels) if novel.labels is not None and "" not in novel.labels else []
    hidden = [f"{name} (novel)" if name in known_names else name for name in hidden]
    names = (*known_names, *_in_order(set(hidden)))
    position = {name: label for label, name in enumerate(names)}
    labels = [position[name] for name in hidden] or [-1] * len(novel)
    return _dataset(FeatureSource(labels, names, novel.ids), len(known_names), novel)


def _dataset(
    source: FeatureSource, num_known: int, table: FeatureTable
) -> tuple[Dataset, ClassSplit]:
    count = len(source.class_names)
    neutral = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    width = table.features.shape[1]
    dataset = Dataset("features", source, None, source.class_names, width, *neutral)
    split = ClassSplit(
        dataset=dataset.name,
        name=f"{num_known}-{count - num_known or 'unknown'}",
        class_names=source.class_names,
        known=tuple(range(num_known)),
        novel=tuple(range(num_known, count)),
        source="the labels of the feature files",
    )
    return dataset, split


def _in_order(names: set[str]) -> tuple[str, ...]:
    """Return names sorted: numbers by their value, then text."""
    numbers = {name for name in names if name.isdecimal()}
    return (*sorted(numbers, key=int), *sorted(names - numbers))
