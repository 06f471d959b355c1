"""Edits of the classes of a fitted estimator; none of them trains anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from crkd.core.errors import InputError
from crkd.estimator.class_space import ClassSpace
from crkd.estimator.samples import LearnedSamples


class EditingMixin:
    """Methods that merge and name classes and assign outliers; each returns the estimator."""

    _space: ClassSpace
    _samples: LearnedSamples

    def merge_classes(self, groups: Sequence[Sequence[Any]]) -> Self:
        """Make each group of classes one class.

        The class keeps label and name of the known class in the group, otherwise of the first
        class. Its logit is the largest of the merged ones, so that only predictions of merged
        classes change. Other labels do not change, and no later class gets a label that a merged
        class had.

        Args:
            groups: lists of two or more labels, with at most one known class in each.

        Raises:
            InputError: a group breaks these rules, or a class is missing or named twice; then
                nothing is merged.
        """
        check_is_fitted(self)
        self._space = self._space.merged(groups)
        return self

    def set_class_names(self, names: Mapping[Any, str]) -> Self:
        """Name classes; other classes keep their names.

        Names appear in ``class_names_``, in the class table and in pictures. ``predict`` returns
        labels.

        Args:
            names: label to name.

        Raises:
            InputError: ``names`` is no mapping, there is no such class, or a name is blank, no text
                or that of another class; then no name changes.
        """
        check_is_fitted(self)
        self._space = self._space.renamed(names)
        return self

    def reduce_outliers(self, threshold: float = 0.0) -> Self:
        """Assign outliers to their novel classes.

        An outlier is an unlabeled sample that an earlier class, such as a known one, fits better
        than every novel class of its call. ``predict`` gives it that class, and its entry in
        ``labels_`` is -1. Each outlier gets the novel class that fits best if the probability of
        that class (its entry in ``confidence_``) is at least ``threshold``. The others remain
        outliers. The model and its predictions do not change.

        Args:
            threshold: in [0, 1]; 0 assigns every outlier.

        Raises:
            InputError: the threshold is out of its range.
        """
        check_is_fitted(self)
        number = isinstance(threshold, int | float | np.number)
        if not number or not 0 <= threshold <= 1:
            raise InputError(f"threshold is {threshold!r}; give a probability from 0 to 1")
        self._samples = self._samples.with_classes_for_outliers(self._space, float(threshold))
        return self
