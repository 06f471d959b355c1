"""Inspection of the classes of a fitted estimator: attributes, table, samples, picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from crkd.clustering.kmeans import Floats
from crkd.core.errors import InputError
from crkd.estimator.class_space import ClassSpace
from crkd.estimator.class_table import REPRESENTATIVES, ClassRow, class_table, nearest_to_mean
from crkd.estimator.plotting import draw_classes
from crkd.estimator.samples import LearnedSamples

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class InspectionMixin:
    """Attributes and methods that show what was learned."""

    _space: ClassSpace
    _samples: LearnedSamples

    @property
    def classes_(self) -> NDArray[Any]:
        """Labels of the classes, ``(C,)``."""
        return self._space.labels

    @property
    def num_known_(self) -> int:
        """K, the number of known classes; they are the first in ``classes_``."""
        return self._space.num_known

    @property
    def class_names_(self) -> list[str]:
        """Names of the classes, in the order of ``classes_``."""
        return self._space.names

    @property
    def labels_(self) -> NDArray[Any]:
        """Label of each learned sample, ``(N,)``; -1 for outliers."""
        return self._samples.labels(self._space)

    @property
    def confidence_(self) -> NDArray[np.float64]:
        """Probability of the class of each learned sample, ``(N,)`` in [0, 1]."""
        return self._samples.confidence(self._space)

    @property
    def embedding_(self) -> Floats:
        """Embedding of each learned sample, ``(N, P)`` float32, as by ``transform``."""
        return self._samples.embedding

    def get_class_info(self) -> list[ClassRow]:
        """Return a row for each class in the order of ``classes_``, and one for the outliers.

        ``pandas.DataFrame(model.get_class_info())`` is the same as a table. The row of the
        outliers is the last, and is missing if there are none.
        """
        check_is_fitted(self)
        return class_table(self._space, self._samples)

    def get_representative_samples(self, label: Any, n: int = REPRESENTATIVES) -> NDArray[np.int64]:
        """Return the learned samples that are nearest to the mean of a class.

        The mean and the distances are those of the embedding.

        Args:
            label: of the class.
            n: largest number of samples.

        Returns:
            Indices of at most ``n`` learned samples, int64, the nearest first. The rows of ``X``
            in ``fit`` come first, then those of each ``update``.

        Raises:
            InputError: there is no such class, or ``n`` is below 1.
        """
        check_is_fitted(self)
        if not isinstance(n, int | np.integer) or n < 1:
            raise InputError(f"n is {n!r}; give the number of samples, at least 1")
        space, samples = self._space, self._samples
        own = samples.classes(space) == space.position(label)
        members = np.flatnonzero(own & ~samples.outliers(space))
        return nearest_to_mean(samples.embedding, members, int(n))

    def visualize_classes(self) -> Figure:
        """Return a picture of the learned samples on a plane, as a matplotlib figure.

        The plane shows the principal components of the class means
        (:func:`~crkd.clustering.projection_2d.project_2d`). Classes that overlap on the plane may
        be apart in the embedding.
        """
        check_is_fitted(self)
        return draw_classes(self._space, self._samples)
