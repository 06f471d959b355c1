"""What a run is: typed blocks with defaults; the defaults are the published CIFAR recipe.

Sources of the defaults: stage 1 follows UNO (Fini et al., ICCV 2021), stage 2 the released
code of class-relation distillation (Gu, Zhang et al., ICCV 2023), teacher-to-student training
RepDistiller, with a cosine in place of its steps.
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


@dataclass(frozen=True)
class PretrainConfig:
    """Stage 1: supervised training on the known classes."""

    epochs: Count = 200
    batch_size: Annotated[int, Range(2)] = 256
    optimizer: OptimizerConfig = OptimizerConfig(lr=0.1, weight_decay=1e-4)
    num_views: Count = 1
    """Augmented views of each image in a step."""
    view: ViewConfig = ViewConfig("pretraining")
    label_smoothing: Annotated[float, Range(0.0, 0.9)] = 0.0
    distillation: tuple[TermConfig, ...] = ()
    """Terms that need no teacher, beside the cross-entropy."""
    unlabeled: bool = False
    """Whether the unlabeled images join, for terms that need no label such as contrastive."""
    supervised_weight: NonNegative | None = None
    """Factor of the cross-entropy; None is the terms' own, 1 without terms."""


@dataclass(frozen=True)
class AssignmentConfig:
    """Pseudo-labels by entropic optimal transport."""

    epsilon: Positive = 0.05
    """Entropy weight, in units of the cosine score."""
    num_iters: Count = 3
    """Sinkhorn iterations; each is one class step and one sample step."""
    backend: str = "auto"
    """auto, torch, pot or cuda."""
    prior: Literal["uniform", "given", "estimated"] = "uniform"
    """Sizes of the novel classes: equal, as in prior_weights, or from the running predictions."""
    prior_weights: tuple[float, ...] = ()
    """Relative sizes of the novel classes, for prior: given."""
    prior_momentum: Annotated[float, Range(0.0, 0.99999)] = 0.99
    """Share of the old estimate that a step keeps, for prior: estimated."""
    prior_smoothing: Fraction = 0.3
    """Share of the uniform distribution in an estimated prior."""
    relaxation: NonNegative | None = None
    """If given, class sizes may be missed at this price (KL), in units of the cosine score."""
    queue: CountOrZero = 0
    """Past features of each head that join the assignment, so that a small batch suffices."""
    queue_start_epoch: CountOrZero = 1
    """Epoch from which the queue takes part; before, it only fills."""


@dataclass(frozen=True)
class ReplayConfig:
    """Features drawn from a Gaussian of each known class, in the place of images that are gone."""

    samples: CountOrZero | None = None
    """Features in a step; None: as many a class as there are images of a novel class, at most four
    times the images of a step, and none where labeled images join."""
    rank: CountOrZero = 16
    """Directions of the covariance kept of each class, which takes 4 D (rank + 2) bytes."""


@dataclass(frozen=True)
class DiscoverConfig:
    """Stage 2: discovery of the novel classes."""

    method: Literal["swapped", "frost"] = "swapped"
    """Swapped prediction with balanced pseudo-labels, or the recipe of FRoST, a baseline of further
    steps, which takes nothing of assignment, heads, average and distillation from here."""
    epochs: Count = 500
    batch_size: Annotated[int, Range(2)] = 512
    """Labeled and unlabeled images together."""
    labeled_share: Fraction | None = None
    """Share of labeled images in a batch; None follows the sizes of the two sets."""
    num_novel: Literal["auto"] | Count | None = None
    """Number of novel classes; auto estimates it, None takes the split's own (and says so)."""
    prototypes: Literal["random", "kmeans"] = "random"
    """Where novel prototypes begin: at random, or at k-means clusters of the earlier features."""
    optimizer: OptimizerConfig = OptimizerConfig()
    num_large: Annotated[int, Range(2)] = 2
    """Large views of each image; the pseudo-labels come from these."""
    num_small: CountOrZero = 2
    """Small views of each image."""
    large: ViewConfig = ViewConfig("large")
    small: ViewConfig = ViewConfig("small", size_share=18 / 32)
    assignment: AssignmentConfig = AssignmentConfig()
    distillation: tuple[TermConfig, ...] = (TermConfig(),)
    """Distillation terms; an empty list is UNO without over-clustering."""
    average: Annotated[float, Range(0.0, 0.99999)] = 0.0
    """Share of a running average of the student's weights that a step keeps; the average answers
    when the run ends. 0: the last weights answer."""
    stored_epochs: CountOrZero = 0
    """Passes whose views come again and whose teacher's labels are stored once; 0 asks the teacher
    in every step."""
    label_mode: str = "full_float16"
    """How stored labels are compressed; see docs/distillation.md."""
    labeled: bool | None = None
    """Whether labeled images of known classes join; None: where there are any. Without them the
    classes are remembered by the statistics of their features."""
    replay: ReplayConfig = ReplayConfig()
    precheck: bool = True
    """Whether a further step ends before it begins if nearly all images look like known classes."""
    mixed: bool = False
    """Unlabeled images may be of known classes: those that look so are set aside first."""
    statistics: Literal["auto", "batch", "kept"] = "auto"
    """Batch norm of the backbone: of each batch, or kept as the earlier run left them; auto keeps
    them where the images of known classes are gone."""


@dataclass(frozen=True)
class DistillConfig:
    """A trained run, the teacher, trains a small network on the same classes."""

    student: str | None = None
    """Backbone of the student; None is the teacher's."""
    head: Literal["linear", "prototype"] = "linear"
    """The student's classifier of known and novel classes alike, unless it takes the teacher's."""
    method: tuple[TermConfig, ...] = (TermConfig("kd"),)
    """Distillation terms; an empty list trains on labels alone."""
    stored_epochs: CountOrZero = 0
    """Passes whose views come again and whose teacher's labels are stored once; 0 asks the teacher
    in every step."""
    label_mode: str = "full_float16"
    """How stored labels are compressed; see docs/distillation.md."""
    supervised_weight: NonNegative | None = None
    """Factor of the labels' cross-entropy; None is the largest that a term asks for."""
    epochs: Count = 240
    batch_size: Annotated[int, Range(2)] = 64
    """Labeled and unlabeled images together."""
    optimizer: OptimizerConfig = OptimizerConfig(
        lr=0.05, min_lr=5e-5, weight_decay=5e-4, warmup_epochs=0.0
    )
    views: tuple[ViewConfig, ...] = ()
    """Views of each image, all of one size; an empty list takes those of stage 1."""
    unlabeled: bool | None = None
    """Whether the unlabeled images join; None: if the teacher knows novel classes."""
    generations: Count = 1
    """Students in a row, each the teacher of the next."""


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured when a run ends."""

    baselines: tuple[Literal["kmeans_pixels", "kmeans_features"], ...] = (
        "kmeans_pixels",
        "kmeans_features",
    )
    """Easy baselines computed beside the result."""
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
    """Seed of a random class order of the same sizes; None keeps the split's own order."""
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
