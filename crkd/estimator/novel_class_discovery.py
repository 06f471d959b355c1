"""The scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from crkd.core.device import pick_device
from crkd.core.errors import InputError
from crkd.data.sources.arrays import ArraySource
from crkd.estimator.checking import (
    Samples,
    checked_num_novel,
    further_images,
    further_vectors,
    kept_on_error,
    separate_samples,
    training_samples,
)
from crkd.estimator.class_space import ClassSpace
from crkd.estimator.editing import EditingMixin
from crkd.estimator.image_model import ImageModel, image_config
from crkd.estimator.inspection import InspectionMixin
from crkd.estimator.labels import UNLABELED, hidden_rows
from crkd.estimator.outputs import Model, joint_logits, logits_and_embedding, outputs_of
from crkd.estimator.samples import LearnedSamples
from crkd.estimator.storing import StoringMixin
from crkd.estimator.vector_model import VectorModel
from crkd.models.network import Network
from crkd.stages.vectors.discovery import VectorDiscovery


class NovelClassDiscovery(
    InspectionMixin,
    EditingMixin,
    StoringMixin,
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    ClassifierMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """Learn known classes from labeled samples and discover novel ones in unlabeled samples.

    All unlabeled samples are assumed to belong to novel classes. This is discovery, not
    semi-supervised learning of the known classes. Without unlabeled samples, the estimator is a
    classifier of the known classes. Vectors need no labeled sample: without one, all classes are
    discovered.

    Samples are feature vectors ``(n, D)``, or images ``(n, H, W, 3)`` or ``(n, 3, H, W)`` uint8.
    Vectors of a pretrained network (:func:`crkd.embedding.embed_images`) take seconds. Of very many
    vectors a sample is learned (:mod:`crkd.stages.vectors.sampling`), and all get a label. Images
    train a small network: first the known classes, then class-relation distillation with balanced
    pseudo-labels of several heads. Most parameters are for images only.

    Args:
        num_novel: number of novel classes; it must be given where samples are unlabeled.
        method: vectors: "auto" chooses by a contest on hidden known classes, or a name of
            :data:`crkd.stages.vectors.candidates.METHODS`.
        num_heads, hidden, projection: number of novel heads, of which the one with the lowest loss
            predicts; width of their hidden layer; width of the space of their prototypes.
        epochs: passes over all samples of stage 2; stage 1 takes a third of them.
        batch_size, learning_rate: samples in a step, and highest learning rate, of both stages.
        distillation: weight of class-relation distillation; 0 leaves it out.
        backbone: network that is trained.
        random_state: of weights, batches and views; the same integer gives the same result on
            the same machine, whatever the state of the global generators.
        device: "auto", "cpu", "cuda" or "cuda:N".
        verbose: whether to print the loss about ten times a stage.

    Attributes:
        classes_: ``(C,)`` labels that :meth:`predict` may return: the known labels sorted, then
            one label for each novel class. Novel labels are the next whole numbers, or
            "novel-0", "novel-1", ... for text.
        class_names_: C names, in the order of ``classes_``.
        num_known_: K, the number of known classes in ``classes_``.
        labels_: ``(N,)`` label of each learned sample: its own, or the novel class of an unlabeled
            sample; -1 for outliers, which are unlabeled samples that a known class fits better
            (:meth:`reduce_outliers`). The samples of ``fit`` come first, then those of each
            :meth:`update`.
        confidence_: ``(N,)`` probability of the class of each learned sample, not calibrated, by
            the model that learned it.
        embedding_: ``(N, P)`` float32, the embedding of each learned sample.
        n_features_in_: D, or 3 H W.
        network_, discovery_: the network; spaces, heads and statistics of vectors, or None.

    >>> from sklearn.datasets import make_blobs
    >>> X, y = make_blobs(300, 16, centers=5, random_state=0)
    >>> hidden = np.where(y < 3, y, -1)
    >>> model = NovelClassDiscovery(num_novel=2, random_state=0).fit(X, hidden)
    >>> model.classes_
    array([0, 1, 2, 3, 4])
    """

    def __init__(
        self,
        num_novel: int | None = None,
        *,
        method: str = "auto",
        num_heads: int = 4,
        hidden: int = 256,
        projection: int = 64,
        epochs: int = 40,
        batch_size: int = 256,
        learning_rate: float = 0.1,
        distillation: float = 0.1,
        backbone: str = "resnet8",
        random_state: int | np.random.RandomState | None = None,
        device: str = "cpu",
        verbose: bool = False,
    ) -> None:
        self.num_novel = num_novel
        self.method = method
        self.num_heads = num_heads
        self.hidden = hidden
        self.projection = projection
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.distillation = distillation
        self.backbone = backbone
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from labeled and unlabeled samples.

        Args:
            X: ``(n, D)`` numbers, or images.
            y: ``(n,)`` labels: whole numbers or text; -1 or None where a sample is unlabeled.
                Text and -1 together need an array of dtype object.

        Raises:
            InputError: no image is labeled, ``num_novel`` is missing or exceeds the number of
                unlabeled samples, or a parameter is out of range.
            ValueError: scikit-learn does not admit the shape or type of ``X`` or ``y``.
        """
        with kept_on_error(self):
            return self._fitted(*training_samples(self, X, y))

    def fit_discover(self, X_known: ArrayLike, y_known: ArrayLike, X_novel: ArrayLike) -> Self:
        """Learn from samples of known classes and unlabeled samples, given separately.

        Args:
            X_known: ``(n, D)`` numbers, or images.
            y_known: ``(n,)`` their labels.
            X_novel: ``(m, D)`` numbers, or images of the same size; m is at least 1.

        Raises:
            InputError: as :meth:`fit`.
            ValueError: as :meth:`fit`, or widths or names of columns differ.
        """
        with kept_on_error(self):
            return self._fitted(*separate_samples(self, X_known, y_known, X_novel))

    def update(self, X: ArrayLike, num_novel: int) -> Self:
        """Discover further classes in unlabeled feature vectors, without the earlier samples.

        An estimator of images has no update. Its backbone was trained on the earlier samples, and
        an update would need a step of training with its distillation terms; ``discover --from``
        does this step on a run.

        The labels of earlier samples do not change. The new classes follow in ``classes_``, and
        the new samples follow in ``labels_``. The space and the heads of all earlier classes do
        not change (:func:`~crkd.stages.vectors.discovery.further_discovery`), but the gate between
        old and new classes is fitted again. So ``predict`` may give a new class to an earlier
        sample.

        All samples are assumed to belong to new classes. Samples that look like an earlier class
        (:func:`~crkd.stages.vectors.start.looks_known`) are left out of the discovery, if enough
        others remain for ``num_novel`` classes. If any are left out, some of the others may be of
        earlier classes too. The gate is then not balanced: no offset evens out what old and new
        classes lose to each other. A sample that was left out is an outlier in ``labels_`` where an
        earlier class fits it better than every new one.

        Args:
            X: ``(m, D)`` numbers.
            num_novel: number of new classes, from 1 to m.

        Raises:
            InputError: ``num_novel`` is out of its range, or the estimator was fitted on images.
            ValueError: scikit-learn does not admit the shape or type of ``X``.
        """
        check_is_fitted(self)
        model = self._model
        if isinstance(model, ImageModel):
            raise InputError(
                "update takes feature vectors, and this estimator was fitted on images; fit it on "
                "vectors of crkd.embedding.embed_images, or extend a run with discover --from"
            )
        rows = further_vectors(self, X)
        count = checked_num_novel(num_novel, len(rows))
        model = model.extended(rows, count, method=self.method, seed=self._seed())
        unlabeled = np.full(len(rows), UNLABELED, np.int64)
        learned = self._learned(model, rows, unlabeled, count)
        self._samples = self._samples.followed_by(learned)
        self._space = self._space.extended(count)
        self._model = model
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the label of each sample, ``(n,)``, one of ``classes_``."""
        best = np.concatenate([part.argmax(axis=1) for part in self._logits(X)])
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return ``(n, C)`` probabilities in the order of ``classes_``; rows sum to one.

        They are the softmax of the joint logits and are not calibrated.
        """
        return softmax(np.concatenate(list(self._logits(X))).astype(np.float64), axis=1)

    def transform(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return ``(n, P)`` unit-length embeddings in the space of the novel classes.

        Of vectors this is the space whitened by the known classes. Of images without novel classes
        these are the features of the backbone.
        """
        check_is_fitted(self)
        samples = self._checked_samples(X)
        return logits_and_embedding(self._model, samples, self.device, np.float64)[1]

    @property
    def network_(self) -> Network:
        """The network that predicts."""
        return self._model.network

    @property
    def discovery_(self) -> VectorDiscovery | None:
        """Spaces, heads and statistics of vectors; None for images."""
        return self._model.discovery if isinstance(self._model, VectorModel) else None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_model")

    @property
    def _n_features_out(self) -> int:
        return self._model.width

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _fitted(self, samples: Samples, labels: NDArray[Any]) -> Self:
        """Learn from checked samples and their ``(n,)`` labels."""
        hidden = hidden_rows(labels)
        num_novel = checked_num_novel(self.num_novel, int(hidden.sum()))
        if hidden.all() and isinstance(samples, ArraySource):
            raise InputError(
                "y labels no image, and a network needs images of known classes; label some, or "
                "fit on vectors of crkd.embedding.embed_images, which need no labels"
            )
        labeled = np.array(labels[~hidden].tolist(), None if (~hidden).any() else np.int64)
        known, codes = np.unique(labeled, return_inverse=True)
        given = np.full(len(labels), UNLABELED, np.int64)
        given[~hidden] = codes
        model = self._trained(samples, given, num_novel)
        self._samples = self._learned(model, samples, given, num_novel)
        self._space = ClassSpace.of(known, num_novel)
        self._model = model
        return self

    def _trained(self, samples: Samples, labels: NDArray[np.int64], num_novel: int) -> Model:
        """Return the model of samples whose labels are in ``[0, K)``, or -1."""
        seed = self._seed()
        if not isinstance(samples, ArraySource):
            return VectorModel.fit(samples, labels, num_novel, method=self.method, seed=seed)
        say: Callable[[str], None] = print if self.verbose else lambda line: None
        return ImageModel.fit(
            samples,
            labels,
            num_novel,
            config=image_config(self.get_params(deep=False), seed),
            device=pick_device(self.device),
            say=say,
        )

    def _learned(
        self, model: Model, samples: Samples, labels: NDArray[np.int64], num_novel: int
    ) -> LearnedSamples:
        """Return what is kept of the samples of one call."""
        logits, embedding = logits_and_embedding(model, samples, self.device, np.float32)
        return LearnedSamples.of(labels, logits, embedding, num_novel)

    def _checked_samples(self, X: Any) -> Samples:
        """Return samples that fit those of the fit."""
        if isinstance(self._model, VectorModel):
            return further_vectors(self, X)
        return further_images(self, X, self._model.size)

    def _logits(self, X: Any) -> Iterator[NDArray[Any]]:
        """Yield the logits of the classes, ``(n, C)``, piece by piece."""
        check_is_fitted(self)
        for outputs in outputs_of(self._model, self._checked_samples(X), self.device):
            yield self._space.logits(joint_logits(outputs))
