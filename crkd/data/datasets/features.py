"""Data set of tables of feature vectors, with its classes and split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from crkd.core.errors import InputError, listed
from crkd.data.datasets.base import Dataset
from crkd.data.sources.base import ImageSource, Pixels
from crkd.data.splits.class_split import ClassSplit
from crkd.data.vectors.table import LABEL, FeatureTable

EARLIER: Final = "(unlabeled samples of earlier steps)"
"""Class of samples that are neither known nor novel; no split lists it."""


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


def feature_dataset(
    known: FeatureTable,
    novel: FeatureTable,
    *,
    earlier: Sequence[FeatureTable] = (),
    classes_so_far: Sequence[str] = (),
    mixed: bool = False,
) -> tuple[Dataset, ClassSplit]:
    """Return the data set "features" with labels, ids and classes of two tables, and its split.

    The rows of ``known`` come first, then those of ``earlier`` and ``novel``. Labels of ``novel``
    are used as hidden labels, for evaluation, if every row has one; those of embedded images only
    if there are two classes or more, as with folders. A class of ``novel`` with the name of a known
    class counts as a separate class called "NAME (novel)"; in the mixed setting it is the known
    class.

    Args:
        known: vectors, each with a label, of at least two classes.
        novel: vectors in which to discover classes.
        earlier: unlabeled vectors of earlier steps; the split leaves them out
            (:func:`earlier_rows`).
        classes_so_far: class names of an earlier run; they are then the known classes.
        mixed: whether rows of ``novel`` may be of known classes.

    Raises:
        InputError: a known row has no label or one that the earlier run does not know, there are
            fewer than two known classes, or the vectors of the tables differ in length.
    """
    if known.labels is None or "" in known.labels:
        missing = "has no labels" if known.labels is None else "has rows without a label"
        raise InputError(
            f"the file of known vectors {str(known.path)!r} {missing}; give each row the name of "
            f"its class in {LABEL!r}"
        )
    for table in (novel, *earlier):
        width, other = known.features.shape[1], table.features.shape[1]
        if width != other:
            raise InputError(
                f"the vectors of {str(known.path)!r} have {width} dimensions, those of "
                f"{str(table.path)!r} have {other}; make both with the same network"
            )
    known_names = tuple(classes_so_far) or _in_order(set(known.labels))
    foreign = sorted(set(known.labels) - set(known_names))
    if foreign:
        raise InputError(
            f"the file of known vectors {str(known.path)!r} holds classes that the run does not "
            f"know: {listed(foreign)}; restore the file of the run"
        )
    if len(known_names) < 2:
        raise InputError(
            f"the file of known vectors {str(known.path)!r} has only the class {known_names[0]!r}; "
            "give two known classes or more"
        )
    return _dataset(known_names, novel, known, earlier, mixed=mixed)


def next_feature_dataset(
    known_names: Sequence[str], novel: FeatureTable, *, mixed: bool = False
) -> tuple[Dataset, ClassSplit]:
    """Return the data set of an incremental step: new vectors, and classes without any.

    Args:
        known_names: names of the K classes of the earlier run.
        novel: vectors to discover classes in; labels of all rows serve as hidden labels.
        mixed: see :func:`feature_dataset`.
    """
    return _dataset(known_names, novel, mixed=mixed)


def earlier_rows(source: ImageSource) -> npt.NDArray[np.int64]:
    """Return the positions of the unlabeled samples of earlier steps."""
    if EARLIER not in source.class_names:
        return np.empty(0, np.int64)
    return np.flatnonzero(source.labels == source.class_names.index(EARLIER))


def _dataset(
    known_names: Sequence[str],
    novel: FeatureTable,
    known: FeatureTable | None = None,
    earlier: Sequence[FeatureTable] = (),
    *,
    mixed: bool = False,
) -> tuple[Dataset, ClassSplit]:
    hidden = list(novel.labels) if novel.labels is not None and "" not in novel.labels else []
    # The labels of embedded images are their folders; a single one holds them all, and is no class.
    if novel.embedding is not None and len(set(hidden)) == 1:
        hidden = []
    if not mixed:
        hidden = [f"{name} (novel)" if name in known_names else name for name in hidden]
    names = (*known_names, *_in_order(set(hidden) - set(known_names)))
    classes = (*names, *([EARLIER] if earlier else []))
    position = {name: label for label, name in enumerate(classes)}
    labels = [] if known is None or known.labels is None else [position[n] for n in known.labels]
    labels += [position[EARLIER] for table in earlier for _ in range(len(table))]
    labels += [position[name] for name in hidden] or [-1] * len(novel)
    tables = ([] if known is None else [known]) + [*earlier, novel]
    source = FeatureSource(labels, classes, [name for table in tables for name in table.ids])
    neutral = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    width = novel.features.shape[1]
    unlabeled = np.arange(len(source)) >= (0 if known is None else len(known))
    dataset = Dataset("features", source, None, classes, width, *neutral, hidden=unlabeled)
    num_known = len(known_names)
    split = ClassSplit(
        dataset=dataset.name,
        name=f"{num_known}-{len(names) - num_known or 'unknown'}",
        class_names=classes,
        known=tuple(range(num_known)),
        novel=tuple(range(num_known, len(names))),
        source="the labels of the feature files",
    )
    return dataset, split


def _in_order(names: set[str]) -> tuple[str, ...]:
    """Return names sorted: numbers by their value, then text."""
    numbers = {name for name in names if name.isdecimal()}
    # 1 and 01 are two names of one value.
    return (*sorted(numbers, key=lambda name: (int(name), name)), *sorted(names - numbers))
