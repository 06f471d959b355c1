"""Hidden labels of the unlabeled vectors of a discovery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crkd.data.datasets.features import _in_order, feature_dataset, next_feature_dataset
from crkd.data.vectors.table import FeatureTable

KNOWN = ["cat", "dog"]
EMBEDDED: dict[str, Any] = {"backbone": "lite0"}


def table(name: str, labels: list[str], embedding: dict[str, Any] | None) -> FeatureTable:
    rows = np.zeros((len(labels), 2), np.float32)
    ids = [f"{name}/{row}" for row in range(len(labels))]
    return FeatureTable(Path(name), rows, labels, ids, embedding)


@pytest.mark.parametrize(
    ("labels", "embedding", "novel"),
    [
        # All images of a memory card are in one folder.
        (["DCIM", "DCIM"], EMBEDDED, ()),
        (["DCIM", "DCIM"], None, (2,)),
        (["elk", "fox"], EMBEDDED, (2, 3)),
    ],
)
def test_a_single_folder_of_images_is_no_hidden_class(
    labels: list[str], embedding: dict[str, Any] | None, novel: tuple[int, ...]
) -> None:
    unlabeled = table("novel", labels, embedding)
    first = feature_dataset(table("known", KNOWN, embedding), unlabeled)
    for dataset, split in (first, next_feature_dataset(KNOWN, unlabeled)):
        assert split.novel == novel
        assert set(dataset.train.labels[-2:].tolist()) == set(novel or {-1})


def test_names_of_one_value_have_an_order_too() -> None:
    """The order of a set of texts differs from process to process."""
    assert _in_order({"1", "b", "01", "2", "001", "a"}) == ("001", "01", "1", "2", "a", "b")
