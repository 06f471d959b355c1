"""Configuration schema of a run; the defaults follow the published CIFAR recipes.

Sources of the defaults: UNO (Fini et al., ICCV 2021) for stage 1, the released code of
class-relation distillation (Gu, Zhang et al., ICCV 2023) for stage 2, and RepDistiller for
teacher-to-student training, with a cosine instead of its step schedule. Three defaults differ from
the releases to save time on images of all kinds: one weak view in stage 1, common batch statistics
of views of one size, and a learning rate that changes in each step. The preset published-cifar has
the published values; docs/recipes.md compares every setting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from crkd.config.blocks import (
    Count,
    CountOrZero,
    DataConfig,
    Fraction,
    LoopConfig,
    ModelConfig,
    NonNegative,
    OptimizerConfig,
    Positive,
    TermConfig,
    VectorConfig,
    ViewConfig,
)
from crkd.config.check import Range
from crkd.core.errors import InputError


@dataclass(frozen=True)
class PretrainConfig:
    """Stage 1: supervised training on the known classes."""

    epochs: Count = 200
    batch_size: Annotated[int, Range(2)] = 256
    optimizer: OptimizerConfig = OptimizerConfig(lr=0.1, weight_decay=1e-4)
    num_views: Count = 1
    """Number of augmented views of each image in a step."""
    view: ViewConfig = ViewConfig("pretraining")
    label_smoothing: Annotated[float, Range(0.0, 0.9)] = 0.0
    distillation: tuple[TermConfig, ...] = ()
    """Loss terms without a teacher, in addition to the cross-entropy."""
    unlabeled: bool = False
    """Whether unlabeled images are used too, for terms without labels such as contrastive."""
    supervised_weight: NonNegative | None = None
    """Weight of the cross-entropy; None is the default of the terms, 1 without terms."""


@dataclass(frozen=True)
class AssignmentConfig:
    """Pseudo-labels by entropic optimal transport."""

    epsilon: Positive = 0.05
    """Epsilon: weight of the entropy, in units of the cosine score."""
    num_iters: Count = 3
    """Sinkhorn iterations; each is one class step and one sample step. In the mixed setting there
    are at least 50."""
    backend: str = "auto"
    """Sinkhorn backend: auto, torch, pot, cuda or triton."""
    prior: Literal["uniform", "given", "estimated"] = "uniform"
    """Sizes of the novel classes: uniform, from prior_weights, or estimated from predictions. In
    the mixed setting, those of all classes; uniform ones are in docs/generalized-discovery.md."""
    prior_weights: tuple[float, ...] = ()
    """Relative sizes of the novel classes, for prior: given. In the mixed setting, of all."""
    prior_momentum: Annotated[float, Range(0.0, 0.99999)] = 0.99
    """Fraction of the old estimate that is kept in a step, for prior: estimated."""
    prior_smoothing: Fraction = 0.3
    """Fraction of the uniform prior in an estimated one."""
    relaxation: NonNegative | None = None
    """Weight of the KL penalty on class sizes, in units of the cosine score; None: exact sizes."""
    queue: CountOrZero = 0
    """Number of past features of each head in the assignment; needed for small batches."""
    queue_start_epoch: CountOrZero = 1
    """First epoch in which the queue is used; it fills before."""


@dataclass(frozen=True)
class ReplayConfig:
    """Features drawn from a Gaussian of each known class, instead of deleted images."""

    samples: CountOrZero | None = None
    """Features in a step; None: as many per class as there are images of a novel class, at most
    four times the images of a step, and none if labeled images are used."""
    rank: CountOrZero = 16
    """Rank of the stored covariance of each class, which takes 4 D (rank + 2) bytes."""


@dataclass(frozen=True)
class DiscoverConfig:
    """Stage 2: discovery of the novel classes."""

    method: Literal["swapped", "frost", "simgcd"] = "swapped"
    """Swapped prediction with balanced pseudo-labels, or a baseline: FRoST for further steps,
    SimGCD for generalized category discovery. The baselines ignore the settings of assignment,
    heads, average and distillation."""
    entropy_weight: NonNegative = 2.0
    """Weight of the entropy of the mean prediction, for method: simgcd; 1 for fine-grained
    classes."""
    epochs: Count = 500
    batch_size: Annotated[int, Range(2)] = 512
    """Labeled and unlabeled images together."""
    labeled_share: Fraction | None = None
    """Fraction of labeled images in a batch; None is their fraction of all images. At least one
    image of a batch must be unlabeled."""
    num_novel: Literal["auto"] | Count | None = None
    """Number of novel classes; auto estimates it, None takes the number of the split."""
    prototypes: Literal["random", "kmeans"] = "random"
    """Initial novel prototypes: random, or k-means centroids of the stage-1 features."""
    optimizer: OptimizerConfig = OptimizerConfig()
    num_large: Annotated[int, Range(2)] = 2
    """Large views of each image, from which the pseudo-labels are computed."""
    num_small: CountOrZero = 2
    """Small views of each image."""
    large: ViewConfig = ViewConfig("large")
    small: ViewConfig = ViewConfig("small", size_share=18 / 32)
    assignment: AssignmentConfig = AssignmentConfig()
    distillation: tuple[TermConfig, ...] = (TermConfig(),)
    """Distillation terms. An empty list is UNO v2 with model.overclustering, and UNO without
    over-clustering if that is 0."""
    average: Annotated[float, Range(0.0, 0.99999)] = 0.0
    """Decay of a moving average of the student's weights; the average gives the final outputs.
    0: the last weights give them."""
    stored_epochs: CountOrZero = 0
    """Number of epochs whose views repeat and whose teacher outputs are stored; 0 runs the teacher
    in every step."""
    label_mode: str = "full_float16"
    """Compression of stored teacher outputs; see docs/distillation.md."""
    labeled: bool | None = None
    """Whether labeled images of known classes are used; None: if there are any. Without them, the
    statistics of their features represent the classes."""
    replay: ReplayConfig = ReplayConfig()
    precheck: bool = True
    """Whether a further step stops at its start if nearly all images look like known classes. A
    first discovery on vectors has a note then, and so has one on the split of a data set."""
    mixed: bool = False
    """Unlabeled images may be of known classes, as they may if data.labeled_fraction is below 1."""
    statistics: Literal["auto", "batch", "kept"] = "auto"
    """Batch norm of the backbone: statistics of each batch, or those of the earlier run; auto uses
    those of the earlier run if there are no images of known classes."""

    def __post_init__(self) -> None:
        """Refuse a batch without an unlabeled image, from which nothing is discovered.

        Raises:
            InputError: ``labeled_share`` leaves no room for one.
        """
        # Numbers of images are rounded, see crkd.data.loader.shares.
        if self.labeled_share is not None and self.batch_size * (1 - self.labeled_share) <= 0.5:
            raise InputError(
                f"labeled_share {self.labeled_share:g} leaves no unlabeled image in a batch of "
                f"{self.batch_size}; lower it, or use null for their fraction of all images"
            )


@dataclass(frozen=True)
class DistillConfig:
    """Distillation of a trained run, the teacher, into a small network on the same classes."""

    student: str | None = None
    """Backbone of the student; None is the teacher's, or resnet20 for a teacher on vectors."""
    head: Literal["linear", "prototype"] | None = None
    """Classifier of the student over known and novel classes, unless it uses the teacher's. None:
    the kind of the teacher for tfkd_self and tolerant, otherwise linear."""
    method: tuple[TermConfig, ...] = (TermConfig("kd"),)
    """Distillation terms; an empty list trains on labels alone."""
    stored_epochs: CountOrZero = 0
    """Number of epochs whose views repeat and whose teacher outputs are stored; 0 runs the teacher
    in every step."""
    label_mode: str = "full_float16"
    """Compression of stored teacher outputs; see docs/distillation.md."""
    supervised_weight: NonNegative | None = None
    """Weight of the cross-entropy with the labels; None is the largest that a term requests."""
    epochs: Count = 240
    batch_size: Annotated[int, Range(2)] = 64
    """Labeled and unlabeled images together."""
    optimizer: OptimizerConfig = OptimizerConfig(
        lr=0.05, min_lr=5e-5, weight_decay=5e-4, warmup_epochs=0.0
    )
    views: tuple[ViewConfig, ...] = ()
    """Views of each image, all of one size; an empty list uses those of stage 1."""
    unlabeled: bool | None = None
    """Whether unlabeled images are used; None: if the teacher has novel classes."""
    generations: Count = 1
    """Number of students in sequence, each the teacher of the next."""


@dataclass(frozen=True)
class EvaluationConfig:
    """Evaluation at the end of a run."""

    baselines: tuple[Literal["kmeans_pixels", "kmeans_features"], ...] = (
        "kmeans_pixels",
        "kmeans_features",
    )
    """Simple baselines to compute too."""
    kmeans_restarts: Count = 10
    batch_size: Count = 500
    """Images per forward pass of the evaluation."""


@dataclass(frozen=True)
class Config:
    """A whole run, all stages."""

    dataset: str = "digits"
    """A registered data set, or "folder" for own images."""
    split: str | None = None
    """A split's name or file; None is the data set's default."""
    class_order_seed: CountOrZero | None = None
    """Seed of a random class order of the same sizes; None keeps the order of the split."""
    seed: CountOrZero = 0
    """Seed of weights, batches and views."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loop: LoopConfig = LoopConfig()
    vectors: VectorConfig = VectorConfig()
    pretrain: PretrainConfig = PretrainConfig()
    discover: DiscoverConfig = DiscoverConfig()
    distill: DistillConfig = DistillConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @property
    def mixed(self) -> bool:
        """Whether unlabeled images may belong to known classes."""
        return self.discover.mixed or self.data.labeled_fraction < 1
