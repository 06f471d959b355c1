"""Every way of teacher-to-student training on all classes of CIFAR-100, three seeds each.

Images are shrunk to 16 px so that a CPU finishes. The accuracy is that of all 10,000 test images
after the last epoch; no epoch is chosen by it. For every seed a ResNet-20 is trained on the labels
and teaches a ResNet-8 by each method, with its published weights but for ``WEIGHTS``; views,
optimizer and epochs are the same for all. The plain student learns from labels alone. A method that
shapes its teacher too has a teacher trained its own way.

A finished run is a line of a file next to the output; the command continues with those that are
missing. Teachers are kept as run folders. All methods of one seed come before the next seed.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.campaign import finished, is_complete
from benchmarks.rows import row
from crkd.config.check import plain
from crkd.config.load import load_config
from crkd.config.schema import Config
from crkd.core.device import device_name
from crkd.losses.term import TERMS, terms_for
from crkd.runs.folder import RunFolder
from crkd.stages.distill.run import distill
from crkd.stages.pretrain.run import pretrain
from crkd.training.loss_terms import published

COMMAND = "crkd bench distill --json FILE"
TEACHER, STUDENT = "resnet20", "resnet8"
IMAGE_SIZE = 16
SEEDS = (0, 1, 2)
TEACHER_EPOCHS, EPOCHS = 8, 5
STORED_EPOCHS = 3
PLAIN = "plain student"
TEACHERS = Path("runs") / "bench-distill"
WEIGHTS = {"semckd": 100.0}
"""In place of a published weight: with 400, made for wider networks, training with SGD diverged."""
RECIPE = "{name: muon, lr: 0.1, weight_decay: 5.0e-4, warmup_epochs: 1}"


class Run(NamedTuple):
    """One training: a student by a method, or the teacher that a method needs.

    Attributes:
        method: name of a term, or ``PLAIN``.
        seed: of everything drawn.
        epochs: of the student.
        teacher_epochs: of the teacher.
    """

    method: str
    seed: int
    epochs: int
    teacher_epochs: int

    @property
    def shapes_teacher(self) -> bool:
        """Whether the method has a part in stage 1 and follows a teacher later."""
        if self.method == PLAIN:
            return False
        term = TERMS.get(self.method)
        return "pretrain" in term.stages and "teacher_logits" in term.needs

    @property
    def teacher_name(self) -> str:
        """Kind of its teacher."""
        return f"teacher {TEACHER}" + (f" for {self.method}" if self.shapes_teacher else "")

    @property
    def teacher(self) -> Path:
        """Run folder of its teacher."""
        name = self.teacher_name.replace(" ", "-")
        return TEACHERS / f"{name}-{self.teacher_epochs}-epochs-seed{self.seed}"


def rows(
    out: Path, *, jobs: int = 1, epochs: int = EPOCHS, teacher_epochs: int = TEACHER_EPOCHS
) -> list[dict[str, Any]]:
    """Return mean and spread of the test accuracy of every method.

    Args:
        out: the result file; finished runs are stored next to it in ``NAME.runs.jsonl``.
        jobs: processes, of one thread each.
        epochs: passes of a student over the training images.
        teacher_epochs: passes of a teacher.
    """
    methods = [PLAIN, *terms_for("distill")]
    lines: list[dict[str, Any]] = []
    for seed in SEEDS:
        wanted = [Run(name, seed, epochs, teacher_epochs) for name in methods]
        lines += finished(wanted, train_student, out, prepare=_teachers, jobs=jobs)
    return _rows(lines)


def _teachers(missing: Sequence[Run]) -> list[Callable[[], None]]:
    """Return the trainings of the teachers that missing students need."""
    first = {run.teacher: run for run in missing if not is_complete(run.teacher)}
    return [partial(train_teacher, run) for run in first.values()]


def train_teacher(run: Run) -> None:
    """Train the teacher of a run, from the start if an earlier training did not finish."""
    shutil.rmtree(run.teacher, ignore_errors=True)
    pretrain(_config(run), run.teacher)


def train_student(run: Run) -> dict[str, Any]:
    """Train a student and return its accuracy and its teacher's, in percent."""
    with tempfile.TemporaryDirectory() as folder:
        found = distill(_config(run), Path(folder) / "student", run.teacher)
        return {
            "accuracy": _accuracy(found),
            "teacher": _accuracy(RunFolder.open(run.teacher)),
            "seconds": found.read_info().seconds,
        }


def _config(run: Run) -> Config:
    terms = [
        replace(term, weight=WEIGHTS.get(term.name, term.weight))
        for term in (() if run.method == PLAIN else published(run.method))
    ]
    needs = {need for term in terms for need in TERMS.get(term.name).needs}
    shaped = [{"name": run.method}] if run.shapes_teacher else []
    settings = [
        f"seed={run.seed}",
        "split=100-0",
        "evaluation.baselines=[]",
        "loop.loggers=[]",
        f"data.image_size={IMAGE_SIZE}",
        f"model={{backbone: {TEACHER}, known_head: linear}}",
        f"pretrain={{epochs: {run.teacher_epochs}, view: {{recipe: plain, size_share: 1}}}}",
        f"pretrain.distillation={json.dumps(shaped)}",
        f"distill={{student: {STUDENT}, epochs: {run.epochs}, batch_size: 128}}",
        f"distill.optimizer={RECIPE}",
        f"distill.method={json.dumps([plain(term) for term in terms])}",
        f"distill.stored_epochs={STORED_EPOCHS if 'stored_views' in needs else 0}",
    ]
    return load_config("cifar100-10-10-fast", settings, {"device": "cpu"})


def _accuracy(run: RunFolder) -> float:
    return 100 * float(run.read_metrics()["supervised"]["test"]["known"]["acc"])


def _rows(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    students: dict[str, list[float]] = {}
    teachers: dict[str, dict[int, float]] = {}
    for line in lines:
        run = Run(**line["run"])
        students.setdefault(run.method, []).append(line["accuracy"])
        teachers.setdefault(run.teacher_name, {})[run.seed] = line["teacher"]
    base = statistics.fmean(students[PLAIN])
    found = [(name, list(by_seed.values()), None) for name, by_seed in teachers.items()]
    found += [(name, each, None if name == PLAIN else base) for name, each in students.items()]
    return [
        {
            **_row(name, statistics.fmean(each), baseline),
            "spread": round(statistics.stdev(each), 2),
            "seeds": len(each),
            "accuracies": [round(value, 2) for value in each],
            "command": COMMAND,
        }
        for name, each, baseline in found
    ]


_row = partial(
    row, "distill", "% test accuracy", complete=False, device=device_name(torch.device("cpu"))
)
