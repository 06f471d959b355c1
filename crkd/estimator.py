"""scikit-learn estimator of novel classes, for feature vectors and images in memory."""

from __future__ import annotations

import dataclasses
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
from crkd.models.architecture import Architecture
from crkd.models.heads.prototype import NovelHeads
from crkd.models.network import with_one_head
from crkd.stages.arrays.labels import UNLABELED, hidden_rows, novel_labels, with_marks
from crkd.stages.arrays.samples import Images, Samples, Vectors
from crkd.stages.arrays.training import stage1, stage2
from crkd.stages.forward import Outputs


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
    The method is that of the command line. Stage 1 learns the known classes. Stage 2 learns the
    novel classes by balanced pseudo-labels of several heads, swapped prediction and
    class-relation distillation.

    Args:
        num_novel: number of novel classes; required with unlabeled samples.
        num_heads: number of novel heads; the head with the lowest loss gives the predictions.
        hidden: width of the hidden layer of a novel head.
        projection: width of the embedding in which novel prototypes are compared.
        epochs: passes over all samples of stage 2; stage 1 takes a third of its steps. None
            chooses by the number of samples.
        batch_size: samples in a step, at least 2.
        learning_rate: highest learning rate of both stages.
        distillation: weight of class-relation distillation; 0 disables it.
        backbone: backbone for images; vectors use none.
        random_state: seed of weights, batches and views. The same integer gives the same result
            on the same machine, whatever the state of the global generators.
        device: "auto", "cpu", "cuda" or "cuda:N".
        verbose: whether to print the loss from time to time.

    Attributes:
        classes_: ``(C,)`` labels that :meth:`predict` may return: the known labels sorted, then
            one label for each novel class. Novel labels are the next whole numbers, or
            "novel-0", "novel-1", ... for text.
        num_known_: K, the number of known classes in ``classes_``.
        n_features_in_: D, or 3 H W.
        network_: the trained network.

    >>> from sklearn.datasets import make_blobs
    >>> X, y = make_blobs(300, 16, centers=5, random_state=0)
    >>> hidden = np.where(y < 3, y, -1)
    >>> model = NovelClassDiscovery(num_novel=2, epochs=10, random_state=0).fit(X, hidden)
    >>> model.classes_
    array([0, 1, 2, 3, 4])
    """

    def __init__(
        self,
        num_novel: int | None = None,
        *,
        num_heads: int = 4,
        hidden: int = 256,
        projection: int = 64,
        epochs: int | None = None,
        batch_size: int = 256,
        learning_rate: float = 0.1,
        distillation: float = 0.1,
        backbone: str = "resnet8",
        random_state: int | np.random.RandomState | None = None,
        device: str = "cpu",
        verbose: bool = False,
    ) -> None:
        self.num_novel = num_novel
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
            InputError: no sample is labeled, ``num_novel`` is missing or exceeds the number of
                unlabeled samples, or a parameter is out of range.
            ValueError: scikit-learn does not admit the shape or type of ``X`` or ``y``.
        """
        samples, labels = self._training_samples(X, y)
        hidden = hidden_rows(labels)
        num_novel = self._checked_num_novel(hidden)
        known, codes = np.unique(np.array(labels[~hidden].tolist()), return_inverse=True)
        device = pick_device(self.device)
        material, config = samples.material(
            np.flatnonzero(~hidden),
            codes.astype(np.int64),
            np.flatnonzero(hidden) if num_novel else None,
            self._config(samples),
            device,
        )
        say: Callable[[str], None] = print if self.verbose else lambda line: None
        shape = Architecture(
            backbone=config.model.backbone,
            image_size=samples.extent,
            num_known=len(known),
            num_heads=self.num_heads,
            hidden=self.hidden,
            projection=self.projection,
        )
        network = stage1(material, shape, config, device, say)
        if num_novel:
            shape = dataclasses.replace(shape, num_novel=num_novel)
            found, head = stage2(material, shape, network, config, device, say)
            # A new head draws weights before it gets those of the chosen one.
            with seeded(config.seed):
                network = with_one_head(found, head)
        if isinstance(samples, Vectors):
            # In float64, predictions do not depend on the batch.
            network = network.double()
        self.network_ = network.eval()
        self.num_known_ = len(known)
        self.classes_ = np.concatenate([known, novel_labels(known, num_novel)])
        return self

    def fit_discover(self, X_known: ArrayLike, y_known: ArrayLike, X_novel: ArrayLike) -> Self:
        """Learn from samples of known classes and unlabeled samples, given separately.

        Args:
            X_known: ``(n, D)`` numbers, or images.
            y_known: ``(n,)`` their labels.
            X_novel: ``(m, D)`` numbers, or images of the same size.

        Raises:
            InputError: as in :meth:`fit`.
        """
        known, novel = np.asarray(_as_numpy(X_known)), np.asarray(_as_numpy(X_novel))
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
        """Return ``(n, P)`` unit-length embeddings, which novel prototypes are compared with.

        Without novel classes they are the unit-length features of the backbone, ``(n, D)``.
        """
        features = torch.from_numpy(self._answers(X).features)
        heads = self.network_.novel_heads
        if isinstance(heads, NovelHeads):
            weight = heads.projection_weight
            with torch.inference_mode():
                features = heads.projections(features.to(weight.device, weight.dtype))[0].cpu()
        unit: NDArray[np.float64] = F.normalize(features.double(), dim=1).numpy()
        return unit

    @property
    def _n_features_out(self) -> int:
        heads = self.network_.novel_heads
        if isinstance(heads, NovelHeads):
            return int(heads.prototypes.shape[-1])
        return self.network_.backbone.num_features

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def _config(self, samples: Samples) -> Config:
        """Return the configuration for these parameters and samples."""
        term = {"name": "class_relation", "weight": self.distillation}
        stage = {"batch_size": self.batch_size, "optimizer": {"lr": self.learning_rate}}
        given: dict[str, Any] = {
            "seed": int(check_random_state(self.random_state).randint(2**31 - 1)),
            "model": {
                "num_heads": self.num_heads,
                "hidden": self.hidden,
                "projection": self.projection,
            },
            "pretrain": stage,
            "discover": {**stage, "distillation": [term] if self.distillation else []},
        }
        if isinstance(samples, Images):
            given["model"]["backbone"] = self.backbone
        if self.epochs is not None:
            given = merge(
                given,
                {
                    "pretrain": {"epochs": -(-self.epochs // 3)},
                    "discover": {"epochs": self.epochs},
                    "features": {"min_steps": 0},
                },
            )
        return load_config(flags=merge(samples.recipe, given))

    def _training_samples(self, X: Any, y: Any) -> tuple[Samples, NDArray[Any]]:
        """Return checked samples and their ``(n,)`` labels."""
        y = with_marks(y)
        if _is_images(X):
            X, y = _as_numpy(X), column_or_1d(y, warn=True)
            check_consistent_length(X, y)
            samples: Samples = Images(X)
            self.n_features_in_ = int(np.prod(X.shape[1:]))
            self._statistics = samples.statistics  # type: ignore[attr-defined]
        else:
            X, y = validate_data(self, _as_numpy(X), y, dtype=np.float32, order="C")
            samples, self._statistics = Vectors(X), None
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

    def _answers(self, X: Any) -> Outputs:
        check_is_fitted(self)
        device = pick_device(self.device)
        if self._statistics is not None:
            samples: Samples = Images(_as_numpy(X), self._statistics)
            found = int(np.prod(np.shape(X)[1:]))
            if found != self.n_features_in_:
                raise InputError(
                    f"X has images of {found} values, but {type(self).__name__} was fitted on "
                    f"{self.n_features_in_}; give images of the same size"
                )
        else:
            X = validate_data(self, _as_numpy(X), reset=False, dtype=np.float32, order="C")
            samples = Vectors(X.astype(np.float64))
        return samples.outputs(self.network_.to(device), device)

    def _joint_logits(self, X: Any) -> NDArray[Any]:
        answers = self._answers(X)
        if self.network_.novel_heads is None:
            return answers.known_logits
        return answers.joint_logits(0)


def _is_images(X: Any) -> bool:
    return len(getattr(X, "shape", ())) == 4


def _as_numpy(X: Any) -> Any:
    return X.detach().cpu().numpy() if isinstance(X, torch.Tensor) else X
