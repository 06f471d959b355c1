"""Class-incremental discovery against the recipe of FRoST and fine-tuning, three seeds each.

Two plans: CIFAR-100 with 10 known classes and twice 5 new ones, shrunk to 16 px so that a CPU
finishes, and the digits with 4, 3 and 3. The three methods of a seed share stage 1, and epochs,
batches and views of their steps are the same. Accuracy is task-agnostic, on the test images of the
classes found so far; no epoch is chosen by it. K-means on the pixels of all classes of the plan,
with the true number of classes, is a reference.

A finished plan is a line of a file next to the output; the command continues with those that are
missing. Stages 1 are kept as run folders.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.campaign import finished
from benchmarks.rows import row
from crkd.clustering.kmeans import kmeans
from crkd.config.load import load_config
from crkd.config.schema import Config
from crkd.core.device import device_name
from crkd.evaluation.matching import clustering_accuracy
from crkd.evaluation.steps import parse_plan
from crkd.runs.atomic_files import read_json
from crkd.stages.incremental import METHODS, run_plan
from crkd.stages.run_data import prepare

PLANS = {
    "cifar100 10-5-5": (
        "cifar100-10-10",
        [
            "data.image_size=16",
            "pretrain.epochs=15",
            "discover={epochs: 6, optimizer: {warmup_epochs: 1}}",
            "evaluation.baselines=[]",
        ],
    ),
    "digits 4-3-3": ("digits", ["evaluation.baselines=[]"]),
}
SEEDS = (0, 1, 2)
STAGES = Path("runs") / "bench-increments"
KMEANS = "k-means on pixels"


class Plan(NamedTuple):
    """One plan by one method.

    Attributes:
        plan: a key of ``PLANS``.
        method: of ``crkd.stages.incremental``, or ``KMEANS``.
        seed: of everything drawn.
    """

    plan: str
    method: str
    seed: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """Classes of stage 1 and of every step."""
        return parse_plan(self.plan.split()[1])

    @property
    def stage1(self) -> Path:
        """Plan folder that holds stage 1 alone."""
        return STAGES / f"{self.plan.replace(' ', '-')}-seed{self.seed}"

    def config(self) -> Config:
        """Return the configuration of all stages."""
        base, settings = PLANS[self.plan]
        return load_config(base, settings, {"device": "cpu", "seed": self.seed})


def rows(out: Path, *, jobs: int = 1) -> list[dict[str, Any]]:
    """Return mean and spread of every stage's metrics, by plan and method.

    Args:
        out: the result file; finished plans are stored next to it in ``NAME.runs.jsonl``.
        jobs: processes, of one thread each.
    """
    wanted = [
        Plan(plan, method, seed)
        for plan in PLANS
        for method in (KMEANS, *METHODS)
        for seed in SEEDS
    ]
    return _rows(finished(wanted, measure, out, prepare=_stages, jobs=jobs))


def _stages(missing: Sequence[Plan]) -> list[Callable[[], object]]:
    """Return the trainings of the stages 1 that missing plans need; finished ones stay."""
    first = {plan.stage1: plan for plan in missing if plan.method != KMEANS}
    return [partial(train_stage1, plan) for plan in first.values()]


def train_stage1(plan: Plan) -> None:
    """Train stage 1 alone, or resume it."""
    run_plan(plan.config(), plan.sizes[:1], plan.stage1, resume=True)


def measure(plan: Plan) -> dict[str, Any]:
    """Run a plan and return its metrics, in percent."""
    if plan.method == KMEANS:
        return {"all": 100 * _kmeans(plan)}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        shutil.copytree(plan.stage1 / "step-0", place / "step-0")
        metrics = run_plan(plan.config(), plan.sizes, place, method=plan.method, resume=True)
        steps = range(1, len(plan.sizes))
        seconds = sum(read_json(place / f"step-{n}" / "run.json")["seconds"] for n in steps)
    return {
        "steps": [
            {name: 100 * value for name, value in step["acc"].items() if value is not None}
            for step in metrics["steps"]
        ],
        "forgetting": [100 * value for value in metrics["forgetting"]],
        "seconds": seconds,
    }


def _kmeans(plan: Plan) -> float:
    """Return the clustering accuracy on training and test pixels of all classes together."""
    data = prepare(plan.config(), torch.device("cpu"))
    parts = data.subsets
    images = [data.pixels(part) for part in (parts.known_train, parts.unlabeled, parts.test)]
    labels = [parts.known_train.labels, parts.hidden.unlabeled(), parts.hidden.test()]
    found = kmeans(np.concatenate(images), sum(plan.sizes), seed=plan.seed)
    return clustering_accuracy(found.assignment, np.concatenate(labels))


def _rows(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each plan, method, stage and metric."""
    values_of: dict[str, list[float]] = {}
    for line in lines:
        plan = Plan(**line["run"])
        named = {"all": line["all"]} if plan.method == KMEANS else _named(line)
        for name, value in named.items():
            values_of.setdefault(f"{plan.plan}, {plan.method}: {name}", []).append(value)
    return [
        {
            **row(
                "increments",
                "s" if name.endswith("seconds") else "%",
                name,
                statistics.fmean(values),
                complete=False,
                device=device_name(torch.device("cpu")),
            ),
            "spread": round(statistics.stdev(values), 2),
            "seeds": len(values),
        }
        for name, values in values_of.items()
    ]


def _named(line: dict[str, Any]) -> dict[str, float]:
    named = {}
    for number, step in enumerate(line["steps"]):
        stage = "stage 1" if number == 0 else f"step {number}"
        named |= {f"{stage}, {group}": value for group, value in step.items()}
    for group, value in enumerate(line["forgetting"]):
        origin = "labeled" if group == 0 else f"step {group}"
        named[f"forgotten of the classes of {origin}"] = value
    return {**named, "seconds": line["seconds"]}
