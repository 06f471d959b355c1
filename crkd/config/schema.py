"""What a run is: typed blocks with defaults; the defaults are the published CIFAR recipe.

Sources of the defaults: stage 1 follows UNO (Fini et al., ICCV 2021), stage 2 the released
code of class-relation distillation (Gu, Zhang et al., ICCV 2023).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from crkd.config.check import Range
from crkd.core.errors import InputError

Positive = Annotated[float, Range(0.0, open_low=True)]
NonNegative = Annotated[float, Range(0.0)]
Fraction = Annotated[float, Range(0.0, 1.0)]
Count = Annotated[int, Range(1)]
CountOrZero = Annotated[int, Range(0)]


@dataclass(frozen=True)
class DataConfig:
    """Where images come from and how they are held."""

    root: str | None = None
    """Folder of the data sets; None searches CRKD_DATA, ./data and ../shared/data."""
    known: str | None = None
    """Own images: a folder with one sub-folder a known class."""
    novel: str | None = None
    """Own images: a folder of unlabelled images, flat or nested."""
    image_size: Count | None = None
    """Side in pixels that images are stored and evaluated at; None is the data set's own."""
    stored_share: Annotated[float, Range(1.0, 2.0)] = 1.0
    """Side of the stored images as a share of image_size; above 1 leaves room to crop from."""
    validation_fraction: Annotated[float, Range(0.0, 0.5)] = 0.0
    """Share of the known training images held out for validation, in both stages."""
    storage: Literal["auto", "resident", "streamed"] = "auto"
    """Images kept on the training device, or decoded ahead of use; auto decides by size."""
    skip_unreadable: bool = False
    """Leave unreadable images out (they are listed) instead of stopping."""


@dataclass(frozen=True)
class ModelConfig:
    """The network: backbone, known head and novel heads."""

    backbone: str = "resnet18"
    """A registered backbone or the name of a timm model."""
    known_head: Literal["prototype", "linear"] = "prototype"
    """Normalised prototypes with a temperature, or a plain linear layer."""
    temperature: Positive = 0.1
    """Temperature of cosine logits."""
    num_heads: Count = 4
    """Novel heads trained side by side."""
    hidden: Count = 2048
    """Width of the hidden layer of a novel head."""
    projection: Count = 256
    """Width of the space in which novel prototypes lie."""
    overclustering: CountOrZero = 0
    """Over-clustering heads with this many times the novel classes; 0 has none."""
    weights: str | None = None
    """File with pretrained backbone weights (safetensors, or a torch file of plain tensors)."""
    trained_blocks: Count | None = None
    """Train only the last so many blocks of the backbone; None trains all of it."""


@dataclass(frozen=True)
class OptimiserConfig:
    """The optimiser and its schedule: linear warm-up, then cosine to ``min_lr``."""

    name: Literal["sgd", "adamw"] = "sgd"
    lr: Positive = 0.4
    """Highest learning rate."""
    min_lr: NonNegative = 0.001
    """Learning rate at the last step."""
    momentum: Annotated[float, Range(0.0, 0.999)] = 0.9
    weight_decay: NonNegative = 1.5e-4
    warmup_epochs: NonNegative = 10.0
    """Epochs over which the learning rate rises from 0."""


@dataclass(frozen=True)
class LoopConfig:
    """What both stages share about running a training loop."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the networks; auto is bfloat16 on a GPU and float32 on a CPU."""
    compile: bool = False
    """Compile the training step with torch.compile; pays in runs of many minutes on a GPU."""
    log_every: Count = 50
    """Steps between two lines of log.jsonl."""
    checkpoint_every: Positive = 10.0
    """Minutes between two saved states from which --resume goes on."""


@dataclass(frozen=True)
class ViewConfig:
    """One kind of augmented view: a named recipe, its size and what differs from it."""

    recipe: str = "large"
    """Name of a recipe of crkd.data.augment.recipes."""
    size_share: Annotated[float, Range(0.0, 4.0, open_low=True)] = 1.0
    """Side of the view as a share of data.image_size."""
    options: dict[str, Any] = field(default_factory=dict)
    """Fields of the recipe to change, for example {rotation: 15}."""


@dataclass(frozen=True)
class PretrainConfig:
    """Stage 1: supervised training on the known classes."""

    epochs: Count = 200
    batch_size: Annotated[int, Range(2)] = 256
    optimiser: OptimiserConfig = OptimiserConfig(lr=0.1, weight_decay=1e-4)
    num_views: Count = 1
    """Augmented views of each image in a step."""
    view: ViewConfig = ViewConfig("pretraining")
    label_smoothing: Annotated[float, Range(0.0, 0.9)] = 0.0


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
class TermConfig:
    """One distillation term: its registered name, its weight and its own options."""

    name: str = "class_relation"
    weight: NonNegative = 0.1
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the term, for example {temperature: 4}."""


@dataclass(frozen=True)
class DiscoverConfig:
    """Stage 2: discovery of the novel classes."""

    epochs: Count = 500
    batch_size: Annotated[int, Range(2)] = 512
    """Labelled and unlabelled images together."""
    labelled_share: Fraction | None = None
    """Share of labelled images in a batch; None follows the sizes of the two sets."""
    num_novel: Count | None = None
    """Number of novel classes; None takes the split's own number (and says so)."""
    optimiser: OptimiserConfig = OptimiserConfig()
    num_large: Annotated[int, Range(2)] = 2
    """Large views of each image; the pseudo-labels come from these."""
    num_small: CountOrZero = 2
    """Small views of each image."""
    large: ViewConfig = ViewConfig("large")
    small: ViewConfig = ViewConfig("small", size_share=18 / 32)
    assignment: AssignmentConfig = AssignmentConfig()
    distillation: tuple[TermConfig, ...] = (TermConfig(),)
    """Distillation terms; an empty list is UNO."""


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
    """A whole run, both stages."""

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
    pretrain: PretrainConfig = PretrainConfig()
    discover: DiscoverConfig = DiscoverConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    def __post_init__(self) -> None:
        if self.dataset == "folder" and self.data.known is None:
            raise InputError("data.known is not given; own images need --known DIR")
