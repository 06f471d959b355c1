"""Ranking of small networks as students of a teacher: DisWOT, without any training."""

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
from crkd.models.backbones.build import build_backbone
from crkd.models.backbones.cifar_resnet import PLAIN_WIDTHS, WIDE_WIDTHS, free_depths_name
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
    """Settings of a search; the defaults cover the whole space.

    Attributes:
        max_params: budget of parameters.
        max_flops: budget of multiply-adds an image.
        wide: students four times as wide; None takes the widths whose features are as long as
            the teacher's, plain ones if neither are. Features of another length than the
            teacher's have no score, and the students are ranked by size.
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
    """One ranked member of the space.

    Attributes:
        name: of its backbone.
        cost: its size and computation.
        similarity: to the teacher; None if the search ranks by size.
    """

    name: str
    cost: Cost
    similarity: Similarity | None


@dataclass(frozen=True)
class SearchResult:
    """Result of a search.

    Attributes:
        teacher: name of its backbone.
        students: ranked ones, best first: by score, or by the number of parameters if there is
            no score.
        num_affordable: members of the space within the budget.
        lengths: of the feature vectors of teacher and students.
    """

    teacher: str
    students: list[Student]
    num_affordable: int
    lengths: tuple[int, int]

    @property
    def by_size(self) -> bool:
        """Whether the number of parameters decides, because there is no score."""
        return self.lengths[0] != self.lengths[1]

    @property
    def size_ranks(self) -> list[int]:
        """Rank of each student by the number of parameters; the largest has 1."""
        order = sorted(student.cost for student in self.students)[::-1]
        return [1 + order.index(student.cost) for student in self.students]

    @property
    def notes(self) -> list[str]:
        """Remarks about the ranking."""
        found, fitting = len(self.students), self.num_affordable
        if self.by_size:
            theirs, ours = self.lengths
            return [
                f"{fitting} of {len(SPACE)} students are within the budget",
                f"the features of {self.teacher} have length {theirs} and those of the students "
                f"{ours}, so the DisWOT score is not defined: ranked by the number of parameters",
            ]
        how = "the whole space" if found == fitting else f"{found} of them, chosen by evolution"
        return [
            f"{fitting} of {len(SPACE)} students are within the budget; scored: {how}",
            "the number of parameters is often the better predictor: compare both ranks",
        ]


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

    def similarity(self, student: str) -> Similarity:
        """Return the mean similarity of an untrained student to the untrained teachers.

        Raises:
            ValueError: the student's features and the teacher's differ in length.
        """
        found = [
            diswot(teacher, self._activations(student, images, seed), labels)
            for images, labels, teacher, seed in self._batches
        ]
        return Similarity(*(fmean(part) for part in zip(*found, strict=True)))

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
    """Rank students for the teacher of a run within a budget, by their DisWOT score.

    If the features of teacher and students differ in length, the score is not defined, and the
    students are ranked by the number of parameters. Only the run's backbone and its known training
    images with their labels are used, never its weights.

    Args:
        teacher: folder of a finished run with a network.
        settings: budget and search.
        device: where the networks compute.
        scored: called with each student as soon as it has its score.

    Raises:
        InputError: the run or its data are unusable, or no student is within the budget.
    """
    opened = open_image_run(teacher, device)
    check_dataset(opened)
    data = prepare(opened.config, device)
    backbone = opened.architecture.backbone
    length = build_backbone(backbone, image_size=data.image_size).num_features
    wide = settings.wide
    if wide is None:
        wide = length == WIDE_WIDTHS[-1]
    costs = _affordable(data, settings, wide=wide)
    lengths = length, (WIDE_WIDTHS if wide else PLAIN_WIDTHS)[-1]
    if lengths[0] != lengths[1]:
        sized = [
            Student(free_depths_name(depths, wide=wide), cost, None)
            for depths, cost in costs.items()
        ]
        ranked = sorted(sized, key=lambda student: student.cost, reverse=True)
        return SearchResult(backbone, ranked, len(costs), lengths)
    trials = Trials(data, backbone, settings, device)
    students: dict[Depths, Student] = {}
    similarities: dict[Depths, Similarity] = {}

    def score(depths: Depths) -> float:
        name = free_depths_name(depths, wide=wide)
        similarities[depths] = trials.similarity(name)
        students[depths] = Student(name, costs[depths], similarities[depths])
        scored(students[depths])
        return similarities[depths].score

    evolve(
        list(costs),
        score,
        population=settings.population,
        sample=settings.sample,
        evaluations=settings.evaluations,
        seed=settings.seed,
    )
    best_first = sorted(similarities, key=lambda depths: -similarities[depths].score)
    return SearchResult(backbone, [students[each] for each in best_first], len(costs), lengths)


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
