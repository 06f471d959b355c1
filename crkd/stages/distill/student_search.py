"""Which small network suits a teacher: DisWOT over the ResNet-20 space, without any training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
import torch

from crkd.core.errors import InputError
from crkd.data.augment.presets import evaluation_view
from crkd.data.augment.render import make_view
from crkd.models.backbones.cifar_resnet import WIDE_WIDTHS, free_depths_name
from crkd.models.diswot import Activations, Similarity, diswot, untrained_activations
from crkd.models.flops import Cost, cost_of
from crkd.runs.load import check_dataset, open_image_run
from crkd.stages.distill.evolution import Depths, evolve
from crkd.stages.run_data import RunData, prepare

STAGE_DEPTHS = (1, 3, 5, 7)
SPACE: tuple[Depths, ...] = tuple(
    (first, second, third)
    for first in STAGE_DEPTHS
    for second in STAGE_DEPTHS
    for third in STAGE_DEPTHS
)


@dataclass(frozen=True)
class SearchSettings:
    """How to search; the defaults look at the whole space.

    Attributes:
        max_params: budget of parameters.
        max_flops: budget of multiply-adds an image.
        wide: students four times as wide; None takes the widths whose features are as long as
            the teacher's, plain ones if neither are.
        evaluations: how many students to score; below the number that fits, evolution picks them.
        population: members alive in the evolution.
        sample: members drawn to find a parent.
        seeds: draws of weights and mini-batches over which a score is averaged.
        batch_size: images of a mini-batch.
        seed: of everything drawn.

    Raises:
        InputError: a number is out of range.
    """

    max_params: float = math.inf
    max_flops: float = math.inf
    wide: bool | None = None
    evaluations: int = len(SPACE)
    population: int = 16
    sample: int = 4
    seeds: int = 5
    batch_size: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"evaluations": 1, "population": 1, "sample": 1, "seeds": 1, "batch_size": 2}
        for name, smallest in {**least, "seed": 0}.items():
            if getattr(self, name) < smallest:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} is {getattr(self, name)}; give {smallest} or more")


class Student(NamedTuple):
    """One scored member of the space."""

    name: str
    cost: Cost
    similarity: Similarity


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        teacher: name of its backbone.
        students: those looked at, best first.
        num_affordable: members of the space within the budget.
    """

    teacher: str
    students: list[Student]
    num_affordable: int

    @property
    def notes(self) -> list[str]:
        """Remarks about the ranking."""
        found, fitting = len(self.students), self.num_affordable
        how = "the whole space" if found == fitting else f"{found} of them, chosen by evolution"
        notes = [f"{fitting} of {len(SPACE)} students are within the budget; scored: {how}"]
        if self.students[0].similarity.semantic is None:
            notes.append(
                f"the features of {self.teacher} and of the students differ in length, so the "
                "semantic similarity is not defined: the score is the relation similarity alone"
            )
        return notes


class Trials:
    """Mini-batches and untrained teachers, the same for every student.

    Args:
        data: the mini-batches are known training images, seen without augmentation.
        teacher: name of the teacher's backbone.
        settings: number and size of the mini-batches.
        device: where the networks compute.
    """

    def __init__(
        self, data: RunData, teacher: str, settings: SearchSettings, device: torch.device
    ) -> None:
        self.data = data
        part = data.subsets.known_train
        store = data.store(part)
        assert store is not None
        self._batches = []
        for trial in range(settings.seeds):
            # Teacher and student never share a seed: equal nets would then have equal weights.
            draws = np.random.SeedSequence([settings.seed, trial]).generate_state(3).tolist()
            size = min(settings.batch_size, len(part))
            rows = np.random.default_rng(draws[0]).choice(len(part), size, replace=False)
            index = torch.from_numpy(rows).to(device)
            images = make_view(
                store.get(index),
                evaluation_view(data.image_size),
                seed=0,
                epoch=0,
                image_id=index,
                view=0,
                mean=data.dataset.mean,
                std=data.dataset.std,
            )
            labels = torch.from_numpy(part.labels[rows]).to(device)
            self._batches.append(
                (images, labels, self._activations(teacher, images, draws[1]), draws[2])
            )

    @property
    def feature_length(self) -> int:
        """D of the teacher."""
        return self._batches[0][2].features.shape[1]

    def similarity(self, student: str) -> Similarity:
        """Return the mean similarity of an untrained student to the untrained teachers."""
        found = [
            diswot(teacher, self._activations(student, images, seed), labels)
            for images, labels, teacher, seed in self._batches
        ]
        semantic = [each.semantic for each in found if each.semantic is not None]
        relation = fmean(each.relation for each in found)
        return Similarity(fmean(semantic) if semantic else None, relation)

    def _activations(self, backbone: str, images: torch.Tensor, seed: int) -> Activations:
        classes, size = self.data.num_known, self.data.image_size
        return untrained_activations(
            backbone, images, num_classes=classes, image_size=size, seed=seed
        )


def search_student(
    teacher: str | Path,
    settings: SearchSettings,
    device: torch.device,
    *,
    scored: Callable[[Student], None] = lambda student: None,
) -> SearchResult:
    """Rank students for the teacher of a run by their DisWOT score, within a budget.

    Only the run's backbone and its known training images with their labels are looked at, never
    its weights.

    Args:
        teacher: folder of a finished run with a network.
        settings: budget and search.
        device: where the networks compute.
        scored: told of each student as soon as it has its score.

    Raises:
        InputError: the run or its data are unusable, or no student is within the budget.
    """
    opened = open_image_run(teacher, device)
    check_dataset(opened)
    data = prepare(opened.config, device)
    backbone = opened.architecture.backbone
    trials = Trials(data, backbone, settings, device)
    wide = settings.wide
    if wide is None:
        wide = trials.feature_length == WIDE_WIDTHS[-1]
    costs = _affordable(data, settings, wide=wide)
    students: dict[Depths, Student] = {}

    def score(depths: Depths) -> float:
        name = free_depths_name(depths, wide=wide)
        students[depths] = Student(name, costs[depths], trials.similarity(name))
        scored(students[depths])
        return students[depths].similarity.score

    evolve(
        list(costs),
        score,
        population=settings.population,
        sample=settings.sample,
        evaluations=settings.evaluations,
        seed=settings.seed,
    )
    ranked = sorted(students.values(), key=lambda student: -student.similarity.score)
    return SearchResult(backbone, ranked, len(costs))


def _affordable(data: RunData, settings: SearchSettings, *, wide: bool) -> dict[Depths, Cost]:
    """Return the members of the space within the budget and what they cost."""

    def cost(depths: Depths) -> Cost:
        name = free_depths_name(depths, wide=wide)
        return cost_of(name, image_size=data.image_size, num_classes=data.num_known)

    smallest = cost(SPACE[0])
    for kind, limit in {"params": settings.max_params, "flops": settings.max_flops}.items():
        if limit < getattr(smallest, kind):
            raise InputError(
                f"--max-{kind} {limit} leaves no student: the smallest, "
                f"{free_depths_name(SPACE[0], wide=wide)}, has {smallest.params} parameters and "
                f"{smallest.flops} multiply-adds an image; raise the budget"
            )
    costs = {depths: cost(depths) for depths in SPACE}
    return {
        depths: Cost(params, flops)
        for depths, (params, flops) in costs.items()
        if params <= settings.max_params and flops <= settings.max_flops
    }
