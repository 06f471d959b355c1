"""scikit-learn estimator of novel classes, for feature vectors and images in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)
from torch.nn import functional as F

from crkd.config.load import load_config, merge
from crkd.config.schema import Config
from crkd.core.device import pick_device
from crkd.core.errors import InputError
from crkd.core.seeding import seeded
from crkd.data.sources.arrays import ArraySource
from crkd.data.vectors.store import VectorStore
from crkd.models.heads.prototype import NovelHeads
from crkd.models.network import with_one_head
from crkd.stages.arrays.images import (
    RECIPE,
    array_data,
    as_numpy,
    discover_in_memory,
    image_source,
    is_images,
    outputs_of,
    pixel_statistics,
)
from crkd.stages.arrays.labels import UNLABELED, hidden_rows, novel_labels, with_marks
from crkd.stages.forward import Outputs, forward_store
from crkd.stages.vectors.discovery import VectorDiscovery, fit_discovery, fit_known
from crkd.stages.vectors.state import network_of


class NovelClassDiscovery(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    ClassifierMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """Learn known classes from labeled samples and discover novel ones in unlabeled samples.

    All unlabeled samples are assumed to belong to novel classes. This is discovery, not
    semi-supervised learning of the known classes. Without unlabeled samples, the estimator is a
    classifier of the known classes.

    Samples are feature vectors ``(n, D)``, or images ``(n, H, W, 3)`` or ``(n, 3, H, W)`` uint8.
    Vectors of a pretrained network (:func:`crkd.stages.embed.embed_images`) take seconds. Images
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
        num_known_: K, the number of known classes in ``classes_``.
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

    discovery_: VectorDiscovery | None

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from labeled and unlabeled samples.

        Args:
            X: ``(n, D)`` numbers, or images.
            y: ``(n,)`` labels: whole numbers or text; -1 or None where a sample is unlabeled.
                Text and -1 together need an array of dtype object.

        Raises:
            InputError: no sample is labeled, ``num_novel`` is missing or exceeds the number of
                unlabeled samples, or a parameter is out of range.
            ValueError: scikit-learn does not admit the shape or type of ``X`` or ``y``.
        """
        self.discovery_ = None
        samples, labels = self._training_samples(X, y)
        hidden = hidden_rows(labels)
        num_novel = self._checked_num_novel(hidden)
        known, codes = np.unique(np.array(labels[~hidden].tolist()), return_inverse=True)
        joint = np.full(len(labels), UNLABELED, np.int64)
        joint[~hidden] = codes
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        if isinstance(samples, ArraySource):
            self._fit_images(samples, joint, num_novel, seed)
        else:
            self._fit_vectors(samples, joint, num_novel, seed)
        self.num_known_ = len(known)
        self.classes_ = np.concatenate([known, novel_labels(known, num_novel)])
        return self

    def _fit_vectors(
        self, vectors: NDArray[np.float32], labels: NDArray[np.int64], num_novel: int, seed: int
    ) -> None:
        rows = torch.from_numpy(vectors)
        known = torch.from_numpy(labels >= 0)
        given = torch.from_numpy(labels)[known]
        if num_novel:
            self.discovery_ = fit_discovery(
                rows[known], given, rows[~known], num_novel, method=self.method, seed=seed
            )
        else:
            self.discovery_ = fit_known(rows[known], given, rows[:0])
        self.network_ = network_of(self.discovery_)

    def _fit_images(
        self, source: ArraySource, labels: NDArray[np.int64], num_novel: int, seed: int
    ) -> None:
        device, config = pick_device(self.device), self._config(seed)
        self._statistics = pixel_statistics(source)
        data = array_data(source, labels, self._statistics, config, device)
        say: Callable[[str], None] = print if self.verbose else lambda line: None
        network, head = discover_in_memory(data, num_novel, say)
        if num_novel:
            # A new head draws weights before it gets those of the chosen one.
            with seeded(seed):
                network = with_one_head(network, head)
        self.network_ = network.eval()

    def fit_discover(self, X_known: ArrayLike, y_known: ArrayLike, X_novel: ArrayLike) -> Self:
        """Learn from samples of known classes and unlabeled samples, given separately.

        Args:
            X_known: ``(n, D)`` numbers, or images.
            y_known: ``(n,)`` their labels.
            X_novel: ``(m, D)`` numbers, or images of the same size.
        """
        known, novel = np.asarray(as_numpy(X_known)), np.asarray(as_numpy(X_novel))
        labels = [*np.asarray(y_known, dtype=object), *[None] * len(novel)]
        return self.fit(np.concatenate([known, novel]), np.array(labels, dtype=object))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the label of each sample, ``(n,)``, one of ``classes_``."""
        best = self._joint_logits(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return ``(n, C)`` probabilities in the order of ``classes_``; rows sum to one.

        They are the softmax of the joint logits and are not calibrated.
        """
        return softmax(self._joint_logits(X).astype(np.float64), axis=1)

    def transform(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return ``(n, P)`` unit-length embeddings in the space of the novel classes.

        Of vectors this is the space whitened by the known classes. Of images without novel classes
        these are the features of the backbone.
        """
        if self.discovery_ is not None:
            # The space of the classes comes first; the others belong to single heads.
            rows = self._outputs(X).features[:, : self._n_features_out]
            return np.asarray(rows, np.float64)
        features = torch.from_numpy(self._outputs(X).features)
        heads = self.network_.novel_heads
        if isinstance(heads, NovelHeads):
            weight = heads.projection_weight
            with torch.inference_mode():
                features = heads.projections(features.to(weight.device, weight.dtype))[0].cpu()
        unit: NDArray[np.float64] = F.normalize(features.double(), dim=1).numpy()
        return unit

    @property
    def _n_features_out(self) -> int:
        if self.discovery_ is not None:
            return int(self.discovery_.gate.space.projection.shape[1])
        heads = self.network_.novel_heads
        if isinstance(heads, NovelHeads):
            return int(heads.prototypes.shape[-1])
        return self.network_.backbone.num_features

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def _config(self, seed: int) -> Config:
        """Return the configuration that the parameters mean for images."""
        term = {"name": "class_relation", "weight": self.distillation}
        stage = {"batch_size": self.batch_size, "optimizer": {"lr": self.learning_rate}}
        given: dict[str, Any] = {
            "seed": seed,
            "model": {
                "backbone": self.backbone,
                "num_heads": self.num_heads,
                "hidden": self.hidden,
                "projection": self.projection,
            },
            "pretrain": {**stage, "epochs": -(-self.epochs // 3)},
            "discover": {
                **stage,
                "epochs": self.epochs,
                "distillation": [term] if self.distillation else [],
            },
        }
        return load_config(flags=merge(RECIPE, given))

    def _training_samples(
        self, X: Any, y: Any
    ) -> tuple[ArraySource | NDArray[np.float32], NDArray[Any]]:
        """Return checked samples and their ``(n,)`` labels."""
        y = with_marks(y)
        samples: ArraySource | NDArray[np.float32]
        if is_images(X):
            X, y = as_numpy(X), column_or_1d(y, warn=True)
            check_consistent_length(X, y)
            samples = image_source(X)
            self.n_features_in_ = int(np.prod(X.shape[1:]))
        else:
            X, y = validate_data(self, as_numpy(X), y, dtype=np.float32, order="C")
            samples = X
        known = [label for label in y.tolist() if label != UNLABELED]
        if known:
            check_classification_targets(known)
        return samples, y

    def _checked_num_novel(self, hidden: NDArray[np.bool_]) -> int:
        count = int(hidden.sum())
        if count == 0:
            return 0
        if self.num_novel is None or self.num_novel < 1 or self.num_novel > count:
            raise InputError(
                f"num_novel is {self.num_novel} and {count} samples are unlabeled (-1); give a "
                f"number of novel classes from 1 to {count}"
            )
        return int(self.num_novel)

    def _outputs(self, X: Any) -> Outputs:
        check_is_fitted(self)
        if self.discovery_ is not None:
            X = validate_data(self, as_numpy(X), reset=False, dtype=np.float32, order="C")
            store = VectorStore(torch.from_numpy(X))
            return forward_store(self.network_, store, lambda rows: rows, batch_size=4096)
        found = int(np.prod(np.shape(X)[1:]))
        if found != self.n_features_in_:
            raise InputError(
                f"X has images of {found} values, but {type(self).__name__} was fitted on "
                f"{self.n_features_in_}; give images of the same size"
            )
        device = pick_device(self.device)
        source = image_source(as_numpy(X))
        return outputs_of(self.network_.to(device), source, self._statistics, device)

    def _joint_logits(self, X: Any) -> NDArray[Any]:
        outputs = self._outputs(X)
        if self.network_.novel_heads is None:
            return outputs.known_logits
        return outputs.joint_logits(0)
