"""Configuration blocks that several stages use: data, network, optimizer, loop, views, losses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from crkd.config.check import Range

Positive = Annotated[float, Range(0.0, open_low=True)]
NonNegative = Annotated[float, Range(0.0)]
Fraction = Annotated[float, Range(0.0, 1.0)]
Count = Annotated[int, Range(1)]
CountOrZero = Annotated[int, Range(0)]


@dataclass(frozen=True)
class DataConfig:
    """Image source and storage."""

    root: str | None = None
    """Folder of the data sets; None searches CRKD_DATA, ./data and ../shared/data."""
    known: str | None = None
    """Own images: a folder with one sub-folder per known class."""
    novel: str | None = None
    """Own images: a folder of unlabeled images, flat or nested."""
    features: tuple[str, ...] = ()
    """Feature vectors instead of images: a file of known and a file of novel vectors. A student of
    them is trained on their images, those of earlier steps in between."""
    image_size: Count | None = None
    """Side in pixels of stored and evaluated images; None is the default of the data set."""
    stored_share: Annotated[float, Range(1.0, 2.0)] = 1.0
    """Side of the stored images relative to image_size; above 1 leaves a margin for crops."""
    validation_fraction: Annotated[float, Range(0.0, 0.5)] = 0.0
    """Fraction of the known training images held out for validation, in both stages."""
    labeled_fraction: Annotated[float, Range(0.0, 1.0, open_low=True)] = 1.0
    """Fraction of the training images of each known class that have labels. Below 1, the others are
    among the unlabeled images: generalized category discovery. Not discover.labeled_share, the
    fraction of labeled images in a batch."""
    subset: Annotated[float, Range(0.0, 1.0, open_low=True)] = 1.0
    """For smoke tests: fraction of the images of each class that are used, at least one, the same
    for every seed. Below 1, the run is marked, and no other run takes it for a whole one."""
    session: str | None = None
    """File with the ids of the unlabeled training images that are used, one a line; null uses all.
    increments --session writes it for each session."""
    imbalance: Annotated[float, Range(1.0)] = 1.0
    """Research: imbalance ratio, largest over smallest class, of a long tail of the novel training
    images."""
    storage: Literal["auto", "in_memory", "streaming"] = "auto"
    """Keep the images in device memory, or decode them during training; auto decides by size."""
    skip_unreadable: bool = False
    """Leave out unreadable images and list them, instead of stopping."""


@dataclass(frozen=True)
class ModelConfig:
    """The network: backbone, known head and novel heads."""

    backbone: str = "resnet18"
    """A registered backbone or the name of a timm model."""
    known_head: Literal["prototype", "linear"] = "prototype"
    """Normalized prototypes with a temperature, as in the releases of UNO and Cr-KD-NCD, or a plain
    linear layer, whose logits have another scale than those of the novel heads."""
    temperature: Positive = 0.1
    """Temperature of cosine logits."""
    num_heads: Count = 4
    """Number of novel heads."""
    hidden: Count = 2048
    """Width of the hidden layer of a novel head."""
    projection: Count = 256
    """Dimension of the embedding in which novel prototypes are compared."""
    overclustering: CountOrZero = 0
    """Over-clustering heads with this many times the novel classes; 0 uses none. Their loss and
    that of the novel heads are averaged, as in UNO v2."""
    batch_norm_per_view: bool = False
    """Whether batch norm uses the statistics of each view alone in training, as in the releases of
    UNO and Cr-KD-NCD; false: views of one size together, which is faster."""
    weights: str | None = None
    """File with pretrained backbone weights (safetensors, or a torch file of plain tensors)."""
    trained_blocks: Count | None = None
    """Train only this many last blocks of the backbone; None trains all of it."""


@dataclass(frozen=True)
class VectorConfig:
    """Discovery on feature vectors."""

    method: Literal[
        "auto",
        "heads",
        "plain_heads",
        "sinkhorn_heads",
        "merging",
        "whitened_kmeans",
        "kmeans",
        "consensus",
    ] = "auto"
    """Method of discovery; "auto" chooses by a contest on hidden known classes."""


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer and its schedule: linear warm-up, then cosine to ``min_lr``."""

    name: Literal["sgd", "adamw", "muon"] = "sgd"
    """muon orthogonalizes the updates of the backbone's convolutions and uses SGD for the rest."""
    lr: Positive = 0.4
    """Highest learning rate."""
    matrix_lr: Positive = 0.1
    """Highest learning rate of the orthogonalized updates, for name: muon: the largest change of a
    weight in a step, as a fraction of its norm."""
    min_lr: NonNegative = 0.001
    """Learning rate at the end of the run; with schedule: epoch also in the first epoch."""
    momentum: Annotated[float, Range(0.0, 0.999)] = 0.9
    weight_decay: NonNegative = 1.5e-4
    warmup_epochs: NonNegative = 10.0
    """Epochs of the warm-up, at most a fifth of the run."""
    schedule: Literal["step", "epoch"] = "step"
    """Change the learning rate in each step, from 0, or in each epoch, from min_lr, as in the
    releases of UNO and Cr-KD-NCD."""
    backbone_factor: Fraction = 1.0
    """Factor of the backbone's learning rate; below 1 the backbone changes less than the heads."""


@dataclass(frozen=True)
class LoopConfig:
    """Training loop settings of both stages."""

    precision: Literal["auto", "float32", "bfloat16", "fast"] = "auto"
    """Precision of the networks; auto is bfloat16 on a GPU and float32 on a CPU. fast is bfloat16
    on a CPU too, if it has instructions for it."""
    compile: bool = False
    """Compile the training step with torch.compile; worthwhile for long runs on a GPU."""
    step: Literal["eager", "auto", "cuda_graph"] = "auto"
    """Run a step eagerly, or capture it once as a CUDA graph and replay it; auto captures on a GPU,
    and runs eagerly on a CPU or if the capture fails."""
    log_every: Count = 50
    """Steps between two rows of the logs."""
    loggers: tuple[str, ...] = ("tensorboard",)
    """Additional loggers: tensorboard, wandb. log.jsonl and log.csv are always written."""
    checkpoint_every: Positive = 10.0
    """Minutes between two checkpoints; --resume continues from the newest."""
    keep_states: Count = 2
    """Number of checkpoints kept; if the newest is damaged, --resume uses the one before."""


@dataclass(frozen=True)
class ViewConfig:
    """One kind of augmented view: a named recipe, its size and changes to the recipe."""

    recipe: str = "large"
    """Name of a recipe of crkd.data.augment.presets."""
    size_share: Annotated[float, Range(0.0, 4.0, open_low=True)] = 1.0
    """Side of the view relative to data.image_size."""
    options: dict[str, Any] = field(default_factory=dict)
    """Fields of the recipe to change, for example {rotation: 15}."""


@dataclass(frozen=True)
class TermConfig:
    """One distillation term: its registered name, its weight and its own options."""

    name: str = "class_relation"
    weight: NonNegative | None = None
    """Weight of the term; None is the default of the stage, see docs/distillation.md."""
    warmup_epochs: NonNegative = 0.0
    """Epochs over which the weight rises from 0."""
    end_weight: NonNegative | None = None
    """Weight in the last epoch, reached by a cosine schedule after the warm-up; None keeps it."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the term, for example {temperature: 4}."""
