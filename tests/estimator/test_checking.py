"""Samples and labels in the forms in which they come, and refits."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning

from crkd import NovelClassDiscovery
from crkd.core.errors import InputError
from crkd.estimator.checking import training_samples
from tests.estimator.conftest import Clouds
from tests.support.short_heads import short_heads

NAMES = [f"x{number}" for number in range(12)]


class Column:
    """A column with a type of its own and missing values, as pandas has them.

    An array of it holds NaN for each missing value.
    """

    dtype = type("ColumnType", (), {"kind": "O"})()

    def __init__(self, values: list[Any]) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array([np.nan if v is None else v for v in self.values], dtype=object)

    def astype(self, dtype: type) -> Column:
        assert dtype is object
        return self

    def notna(self) -> np.ndarray:
        return np.array([value is not None for value in self.values])

    def where(self, kept: np.ndarray, other: None) -> np.ndarray:
        return np.array([v if k else other for v, k in zip(self.values, kept, strict=True)], object)


def table(X: np.ndarray, names: list[str]) -> pa.Table:
    """Return rows with names of columns."""
    return pa.table({name: X[:, NAMES.index(name)] for name in names})


def pictures(count: int = 24) -> tuple[np.ndarray, np.ndarray, NovelClassDiscovery]:
    """Return images of 4 x 8 pixels, two known classes, and an estimator without fit."""
    X = np.random.default_rng(0).integers(0, 256, (count, 4, 8, 3), dtype=np.uint8)
    model = NovelClassDiscovery(1, epochs=1, num_heads=1, hidden=8, random_state=0)
    return X, np.arange(count) % 3, model


def test_labels_may_be_a_tensor(fitted: NovelClassDiscovery, clouds: Clouds) -> None:
    X, y = clouds.X[clouds.first], clouds.labels()
    model = clone(fitted).fit(torch.tensor(X), torch.tensor(y))
    np.testing.assert_array_equal(model.predict_proba(X), fitted.predict_proba(X))


class ColumnArray(Column):
    """The array of such a column (``.array``, ``.values``), which has fewer methods."""

    notna = where = property()

    def isna(self) -> np.ndarray:
        return np.array([value is None for value in self.values])


def test_vectors_may_be_bfloat16(clouds: Clouds) -> None:
    rows = torch.tensor(clouds.X[clouds.first]).bfloat16()
    model = NovelClassDiscovery(2, method="whitened_kmeans", random_state=0)
    exact = clone(model).fit(rows.float().numpy(), clouds.labels())
    found = model.fit(rows, clouds.labels())
    np.testing.assert_array_equal(found.predict_proba(rows), exact.predict_proba(rows.float()))


def test_vectors_that_cannot_be_written_are_copied_without_a_warning(
    fitted: NovelClassDiscovery, clouds: Clouds
) -> None:
    rows = clouds.X.astype(np.float32)
    rows.flags.writeable = False
    # PyTorch warns once in a process, unless it is asked to.
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = fitted.predict(rows)
    finally:
        torch.set_warn_always(False)
    np.testing.assert_array_equal(found, fitted.predict(clouds.X))
    rows = rows[: clouds.first.sum()]
    learned, _ = training_samples(clone(fitted), rows, np.arange(len(rows)) % 3)
    assert isinstance(learned, np.ndarray)
    assert learned.flags.writeable


def test_labels_of_two_columns_are_refused_as_scikit_learn_does(clouds: Clouds) -> None:
    X = clouds.X[clouds.first]
    with pytest.raises(ValueError, match="y should be a 1d array"):
        NovelClassDiscovery(2).fit(X, [[0, None]] * len(X))


@pytest.mark.parametrize("kind", [Column, ColumnArray])
def test_missing_labels_of_a_column_are_unlabeled(kind: type[Column], clouds: Clouds) -> None:
    X, text = clouds.X[clouds.first], clouds.text()
    model = NovelClassDiscovery(2, method="whitened_kmeans", random_state=0)
    column = kind([None if label == -1 else label for label in text])
    found = clone(model).fit(X, column).predict(X)
    np.testing.assert_array_equal(found, clone(model).fit(X, text).predict(X))
    numbers = np.where(clouds.labels() < 0, np.nan, clouds.labels())
    with pytest.raises(InputError, match=r"contains NaN in \d+ of \d+ .* give -1"):
        model.fit(X, numbers)


class Missing:
    """The NA of pandas: a comparison with it has no truth value."""

    def __ne__(self, other: object) -> Missing:  # type: ignore[override]
        return self

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("mark", [float("nan"), np.float32("nan"), np.datetime64("NaT"), Missing()])
@pytest.mark.parametrize("kind", [list, lambda labels: np.array(labels, dtype=object)])
def test_missing_objects_are_unlabeled(kind: Any, mark: Any, clouds: Clouds) -> None:
    """Older versions of pandas read a missing text as NaN among objects."""
    X, text = clouds.X[clouds.first], clouds.text()
    model = NovelClassDiscovery(2, method="whitened_kmeans", random_state=0)
    labels = kind([mark if label == -1 else label for label in text])
    found = clone(model).fit(X, labels).predict(X)
    np.testing.assert_array_equal(found, clone(model).fit(X, text).predict(X))


@pytest.mark.parametrize("dtype", [str, object])
def test_an_empty_text_is_no_label(dtype: type, clouds: Clouds) -> None:
    X = clouds.X[clouds.first]
    text = np.array(["" if label == -1 else label for label in clouds.text()], dtype=dtype)
    hidden = (clouds.labels() < 0).sum()
    with pytest.raises(InputError, match=f"y holds {hidden} empty texts, which are no labels"):
        NovelClassDiscovery(2, method="whitened_kmeans", random_state=0).fit(X, text)


def test_separate_samples_are_checked_as_those_of_a_fit(
    fitted: NovelClassDiscovery, clouds: Clouds
) -> None:
    X, y = clouds.X[clouds.first], clouds.labels()
    known, labels, novel = X[y >= 0], y[y >= 0], X[y < 0]
    model = clone(fitted)
    with pytest.raises(TypeError, match="Sparse data was passed for X"):
        model.fit_discover(csr_matrix(known), labels, csr_matrix(novel))
    with pytest.raises(ValueError, match=r"X has 11 features, but .* is expecting 12"):
        model.fit_discover(known, labels, novel[:, :11])
    with pytest.raises(ValueError, match="a minimum of 1 is required"):
        model.fit_discover(known, labels, novel[:0])
    with pytest.warns(DataConversionWarning, match="column-vector y"):
        column = clone(model).fit_discover(known, labels[:, None], novel)
    flat = model.fit_discover(known, torch.tensor(labels), novel)
    np.testing.assert_array_equal(column.predict_proba(X), flat.predict_proba(X))


def test_separate_samples_keep_the_names_of_their_columns(
    fitted: NovelClassDiscovery, clouds: Clouds
) -> None:
    X, y = clouds.X[clouds.first], clouds.labels()
    known, novel = table(X[y >= 0], NAMES), table(X[y < 0], NAMES)
    model = clone(fitted).fit_discover(known, y[y >= 0], novel)
    assert model.feature_names_in_.tolist() == NAMES
    with pytest.raises(ValueError, match="must be in the same order"):
        model.fit_discover(known, y[y >= 0], table(X[y < 0], NAMES[::-1]))


def test_separate_images_may_differ_in_the_axis_of_colors() -> None:
    X, y, model = pictures()
    order = np.argsort(y, kind="stable")
    known = y < 2
    together = clone(model).fit(X[order], np.where(known, y, -1)[order])
    apart = model.fit_discover(
        X[order][:16], y[order][:16], torch.from_numpy(X[~known].transpose(0, 3, 1, 2))
    )
    np.testing.assert_array_equal(apart.predict_proba(X), together.predict_proba(X))
    with pytest.raises(InputError, match="X has images of 8 x 4 pixels"):
        model.fit_discover(X, y, X.transpose(0, 2, 1, 3))


def test_a_refit_that_fails_changes_nothing(fitted: NovelClassDiscovery, clouds: Clouds) -> None:
    X, y = clouds.X[clouds.first], clouds.labels()
    before = fitted.predict_proba(X)
    fitted.set_params(num_novel=999)
    with pytest.raises(InputError, match="num_novel is 999"):
        fitted.fit(table(X, NAMES[:5]), y)
    with pytest.raises(InputError, match="num_novel is 999"):
        fitted.fit_discover(X[y >= 0, :5], y[y >= 0], X[y < 0, :5])
    assert not hasattr(fitted, "feature_names_in_")
    np.testing.assert_array_equal(fitted.predict_proba(X), before)
    new = NovelClassDiscovery()
    with pytest.raises(InputError, match=r"num_novel is None.*--num-novel auto"):
        new.fit(X, y)
    assert not hasattr(new, "n_features_in_")


def test_images_have_no_names_of_columns(clouds: Clouds) -> None:
    X, y, model = pictures()
    with short_heads():
        model.fit(table(clouds.X[clouds.first], NAMES), clouds.labels())
    assert model.feature_names_in_.tolist() == NAMES
    model.fit(X, np.where(y < 2, y, -1))
    assert not hasattr(model, "feature_names_in_")


def test_gray_images_without_channels_are_refused_with_a_remedy() -> None:
    rows = np.zeros((6, 8, 8), np.uint8)
    labels = [0, 0, 1, 1, -1, -1]
    with pytest.raises(
        InputError, match=r"\(6, 8, 8\), .* repeat gray images along a new last axis"
    ):
        NovelClassDiscovery(num_novel=1).fit(rows, labels)
    model = NovelClassDiscovery(num_novel=1, method="kmeans")
    model.fit(np.random.default_rng(0).normal(size=(6, 64)).astype("f4"), labels)
    with pytest.raises(InputError, match="neither that of vectors"):
        model.predict(rows)


def test_images_of_another_shape_or_none_are_refused() -> None:
    X, y, model = pictures()
    model.fit(X, np.where(y < 2, y, -1))
    for other, size in ((X.transpose(0, 2, 1, 3), "8 x 4"), (X.reshape(24, 2, 16, 3), "2 x 16")):
        message = f"X has images of {size} pixels, but NovelClassDiscovery was fitted on 4 x 8;"
        with pytest.raises(InputError, match=message):
            model.predict(other)
    with pytest.raises(InputError, match="X has no images; give at least one"):
        model.predict(X[:0])
