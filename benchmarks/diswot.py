"""DisWOT: rank correlation of the score of an untrained student with its distilled accuracy.

Twelve students of the 64 learn from a ResNet-32 on ten classes of CIFAR-100, shrunk to 16 px so
that a CPU finishes. No pair of depths in two stages occurs twice, so the effects of the depths of
two stages can be separated. Weights of the loss, temperature, batch size and learning rate are
those of the release's distillation; the schedule is much shorter.

A finished student is a line of a file next to the output. An interrupted benchmark trains the
teacher again and continues with the missing students.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau, spearmanr
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.rows import row
from crkd.config.blocks import OptimizerConfig
from crkd.config.load import load_config
from crkd.core.device import device_name
from crkd.core.seeding import seeded
from crkd.data.augment.presets import evaluation_view, plain_view
from crkd.data.loader import BatchLoader
from crkd.data.splits.partition import Subset
from crkd.data.views import Views
from crkd.losses.distillation.kd import kd
from crkd.models.backbones.build import build_backbone
from crkd.models.backbones.cifar_resnet import free_depths_name
from crkd.models.flops import cost_of
from crkd.models.heads.prototype import LinearHead
from crkd.runs.console import console
from crkd.stages.distill.student_search import STAGE_DEPTHS, SearchSettings, Trials
from crkd.stages.run_data import RunData, prepare
from crkd.training.optim import build_optimizer, learning_rate

TEACHER = "resnet32"
IMAGE_SIZE = 16
EPOCHS = 24
BATCH = 64
SEED = 0
OPTIMIZER = OptimizerConfig(lr=0.05, min_lr=0.0, weight_decay=5e-4, warmup_epochs=1)
LABEL_WEIGHT, TEACHER_WEIGHT, TEMPERATURE = 0.1, 0.9, 4.0
STUDENTS = tuple(
    (STAGE_DEPTHS[a], STAGE_DEPTHS[b], STAGE_DEPTHS[(a + b) % 4])
    for a in range(3)
    for b in range(4)
)
PREDICTORS = {
    "score": "DisWOT score",
    "semantic": "semantic similarity alone",
    "relation": "relation similarity alone",
    "params": "parameter count",
    "flops": "multiply-adds",
    "depth": "number of blocks",
}
CPU = torch.device("cpu")
_row = partial(row, "diswot", complete=False, device=device_name(CPU))


def rows(
    out: Path, students: tuple[tuple[int, int, int], ...] = STUDENTS, epochs: int = EPOCHS
) -> list[dict[str, Any]]:
    """Return the rank correlations with accuracy.

    Args:
        out: the result file; finished students are stored next to it in ``NAME.students.jsonl``.
        students: blocks of each stage.
        epochs: passes over the 5,000 training images.
    """
    settings = {"teacher": TEACHER, "image_size": IMAGE_SIZE, "epochs": epochs, "seed": SEED}
    progress = out.with_suffix(".students.jsonl")
    done = {
        line["student"]: line
        for line in _lines(progress)
        if {key: line[key] for key in settings} == settings
    }
    names = {free_depths_name(depths): sum(depths) for depths in students}
    missing = [name for name in names if name not in done]
    if missing:
        bench = _Bench(epochs)
        for name in missing:
            done[name] = {"student": name, "depth": names[name], **bench.student(name), **settings}
            progress.parent.mkdir(parents=True, exist_ok=True)
            with progress.open("a") as file:
                file.write(json.dumps(done[name]) + "\n")
    return _correlations([done[name] for name in names])


class _Bench:
    """Ten classes, the outputs of a trained teacher, and the test images of every student."""

    def __init__(self, epochs: int) -> None:
        config = load_config("cifar100-10-10", [f"data.image_size={IMAGE_SIZE}"], {})
        self.data = prepare(config, CPU)
        part = self.data.subsets.known_train
        statistics = self.data.dataset.mean, self.data.dataset.std
        self.loader = BatchLoader(
            self.data.store(part),
            part.labels,
            None,
            batch_size=BATCH,
            views=Views((plain_view(IMAGE_SIZE),), 1, *statistics),
            seed=SEED,
            device=CPU,
        )
        self.test = _known_test_images(self.data)
        self.total = epochs * self.loader.steps_per_epoch
        self.trials = Trials(self.data, TEACHER, SearchSettings(seed=SEED), CPU)
        teacher = _network(TEACHER, self.data.num_known, SEED + 1)
        _say(f"{TEACHER}, the teacher: accuracy {self._train(teacher):.3f}")
        # Batches follow from seed and step alone, so one pass of the teacher serves every student.
        with torch.no_grad():
            self.teacher_logits = [
                teacher(views[0]) for views, *_ in self.loader.batches(0, self.total)
            ]

    def student(self, name: str) -> dict[str, float | None]:
        """Return a student's cost, its score and its accuracy after distillation."""
        similarity = self.trials.similarity(name)
        cost = cost_of(name, image_size=IMAGE_SIZE, num_classes=self.data.num_known)
        network = _network(name, self.data.num_known, SEED)
        accuracy = self._train(network, self.teacher_logits)
        _say(f"{name}: score {similarity.score:.4f}, accuracy {accuracy:.3f}")
        return {
            **cost._asdict(),
            **similarity._asdict(),
            "score": similarity.score,
            "accuracy": accuracy,
        }

    def _train(self, network: nn.Module, teacher_logits: list[Tensor] | None = None) -> float:
        """Train on labels, and on a teacher's logits if given; return the test accuracy."""
        optimizer = build_optimizer(network.train(), OPTIMIZER)
        for step, batch in enumerate(self.loader.batches(0, self.total)):
            rate = learning_rate(OPTIMIZER, step, self.total, self.loader.steps_per_epoch)
            optimizer.param_groups[0]["lr"] = rate
            logits = network(batch.views[0])
            loss = F.cross_entropy(logits, batch.labels)
            if teacher_logits is not None:
                distilled = kd(logits, teacher_logits[step], temperature=TEMPERATURE)
                loss = LABEL_WEIGHT * loss + TEACHER_WEIGHT * distilled
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        images, labels = self.test
        network.eval()
        with torch.no_grad():
            right = [network(part).argmax(1) for part in images.split(500)]
        return float((torch.cat(right) == labels).float().mean())


def _network(backbone: str, num_classes: int, seed: int) -> nn.Module:
    body = build_backbone(backbone, image_size=IMAGE_SIZE, seed=seed)
    with seeded(seed):
        return nn.Sequential(body, LinearHead(body.num_features, num_classes))


def _known_test_images(data: RunData) -> tuple[Tensor, Tensor]:
    """Return the test images of the ten classes as a network sees them, and their labels."""
    test, labels = data.subsets.test, data.subsets.hidden.test()
    known = np.flatnonzero(labels < data.num_known)
    part = Subset(test.source, test.indices[known], labels[known], [test.ids[i] for i in known])
    store = data.store(part)
    assert store is not None
    index = torch.arange(len(part))
    view = Views((evaluation_view(IMAGE_SIZE),), 1, data.dataset.mean, data.dataset.std)
    images = view.render(store.get(index), seed=0, epoch=torch.zeros_like(index), image_id=index)
    return images[0], torch.from_numpy(part.labels)


def _correlations(students: list[dict[str, Any]]) -> list[dict[str, Any]]:
    accuracy = [student["accuracy"] for student in students]
    found = []
    for title, measure in (("Kendall tau", kendalltau), ("Spearman rho", spearmanr)):
        values = {
            key: float(measure([student[key] for student in students], accuracy)[0])
            for key in PREDICTORS
        }
        for key, text in PREDICTORS.items():
            # Whoever wants a good student without training can also take the largest.
            baseline = values["params"] if key == "score" else None
            name = f"{title} with accuracy, {len(students)} students: {text}"
            found.append(_row("rank correlation", name, values[key], baseline))
    pick = max(students, key=lambda student: student["score"])
    name = f"accuracy of {pick['student']}, the best score; baseline: the best accuracy"
    return [*found, _row("share", name, pick["accuracy"], max(accuracy))]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_file():
        yield from map(json.loads, path.read_text().splitlines())


def _say(text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)
