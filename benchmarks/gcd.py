"""Generalized category discovery on frozen vectors, in one session and in several.

The vectors are those of CIFAR-100 by a network that was trained on ImageNet's labels
(:mod:`benchmarks.vector_files`); results of this table are not those of training from scratch.
Half of the vectors of each known class are labeled, and all outputs are matched to all classes on
the unlabeled training vectors (joint Hungarian, the second version of Vaze et al., CVPR 2022). The
plans have the sizes of Ma et al. ("Happy", NeurIPS 2024), scored on test vectors. True labels are
read after the training. A finished trial is a line of ``NAME.runs.jsonl``.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.campaign import finished
from benchmarks.rows import row
from crkd.clustering.kmeans import Floats
from crkd.clustering.logistic import logistic_regression
from crkd.config.load import load_config
from crkd.core.errors import InputError
from crkd.data.splits.class_split import load_split
from crkd.data.splits.sessions import SessionSizes, sessions
from crkd.data.vectors.selected_rows import write_rows
from crkd.data.vectors.table import read_features
from crkd.evaluation.hungarian import joint_hungarian
from crkd.evaluation.predictions_file import load_predictions
from crkd.runs.folder import RunFolder
from crkd.runs.provenance import git_commit
from crkd.stages.baselines.vectors import SETTINGS as BASELINES
from crkd.stages.baselines.vectors import baseline_on_vectors
from crkd.stages.vectors.discovery import fit_known
from crkd.stages.vectors.learners import Indices, Labels
from crkd.stages.vectors.plan import learn_plan, plan_data, run_vector_plan
from crkd.stages.vectors.run import discover_vectors

COMMAND = "CRKD_VECTORS=FOLDER crkd bench gcd --json FILE"
SEEDS = (0, 1, 2)
SPLITS = ("10-10", "80-20")
OURS = "crkd"
PLAN = (50, 10, 10, 10, 10, 10)
SESSION = SessionSizes(400, 25)
LABELED = 0.8
PLAN_METHODS = {
    "remember": OURS,
    "kmeans": "nearest class mean and k-means",
    "labels": "all labels",
}


class Trial(NamedTuple):
    """One training.

    Attributes:
        setting: a split, or "50+5x10".
        method: "crkd" or a baseline.
        seed: of everything drawn.
    """

    setting: str
    method: str
    seed: int


def rows(out: Path, *, jobs: int = 1) -> Iterator[dict[str, Any]]:
    """Yield a row for every setting and method; the baseline is the best other method.

    Args:
        out: the result file; finished trials are kept in ``NAME.runs.jsonl``.
        jobs: processes, of one thread each.
    """
    plan = "50+5x10"
    wanted = dict.fromkeys(SPLITS, (OURS, *BASELINES)) | {plan: tuple(PLAN_METHODS)}
    trials = [Trial(s, m, seed) for s, methods in wanted.items() for m in methods for seed in SEEDS]
    lines = finished(trials, measure, out, jobs=jobs)
    for setting, methods in wanted.items():
        found = {
            m: [
                line
                for line in lines
                if line["run"]["setting"] == setting and line["run"]["method"] == m
            ]
            for m in methods
        }
        means = {m: statistics.fmean(line["all"] for line in found[m]) for m in methods}
        for method in methods:
            others = [means[m] for m in methods if m not in (method, "labels")]
            common = row(
                "gcd",
                "%",
                f"{setting}, {PLAN_METHODS.get(method, method) if setting == plan else method}",
                means[method],
                max(others),
                complete=False,
            )
            yield {**common, **_spread(found[method]), "command": COMMAND}


def _spread(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Return mean and standard deviation of every measure over the seeds."""
    keys = [key for key, value in lines[0].items() if isinstance(value, float)]
    return {
        "mean": {key: round(statistics.fmean(line[key] for line in lines), 2) for key in keys},
        "std": {key: round(statistics.stdev(line[key] for line in lines), 2) for key in keys},
        "commit": ", ".join(sorted({str(line["commit"]) for line in lines})),
        "trials": lines,
    }


def measure(trial: Trial) -> dict[str, Any]:
    """Train, and return accuracies in percent and seconds of the processor."""
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        found = (_split if trial.setting in SPLITS else _plan)(trial, Path(folder))
    return {**found, "seconds": time.process_time() - started, "commit": git_commit()}


def _split(trial: Trial, folder: Path) -> dict[str, Any]:
    table = read_features(_file("train"))
    split = load_split("cifar100", trial.setting)
    labels = np.array(table.labels)
    files = []
    for name, classes in (("known", split.known), ("novel", split.novel)):
        chosen = np.isin(labels, [split.class_names[c] for c in classes])
        files.append(str(write_rows(table, np.flatnonzero(chosen), folder, name)))
    config = load_config(
        None,
        ["data.labeled_fraction=0.5", "data.validation_fraction=0"],
        {"dataset": "features", "seed": trial.seed, "data": {"features": files}},
    )
    if trial.method == OURS:
        run = discover_vectors(config, folder / "run")
    else:
        run = baseline_on_vectors(config, folder / "run", trial.method)
    return _scores(run)


def _scores(run: RunFolder) -> dict[str, Any]:
    table = load_predictions(run.path / "predictions.parquet")
    train = table.of("train")
    groups = joint_hungarian(
        table.joint_heads[0][train],
        table.label[train],
        num_known=table.num_known,
        num_novel=table.num_novel,
        num_classes=table.num_classes,
    ).groups
    names = {"all": "all", "known": "old", "novel": "new"}
    return {names[group]: 100 * float(score["acc"] or 0.0) for group, score in groups.items()}


def _plan(trial: Trial, folder: Path) -> dict[str, Any]:
    values = {
        "dataset": "features",
        "seed": trial.seed,
        "class_order_seed": trial.seed,
        "data": {"features": [str(_file("train")), str(_file("test"))]},
    }
    config = load_config(None, [f"data.labeled_fraction={LABELED}"], values)
    if trial.method == "labels":
        data = plan_data(config, sum(PLAN))
        drawn = sessions(
            data.labels, PLAN, labeled_fraction=LABELED, mixed=SESSION, seed=trial.seed
        )
        learner = AllLabels(data.train.features, data.labels)
        *_, metrics = learn_plan(learner, data, drawn, PLAN)
    else:
        metrics = run_vector_plan(config, PLAN, folder / "plan", method=trial.method, mixed=SESSION)
    last = metrics["steps"][-1]
    return {
        **{key: 100 * float(last["hungarian"][key]) for key in ("all", "old", "new")},
        "fixed_map": 100 * float(last["acc"]["all"]),
        "max_forgetting": 100 * float(metrics["max_forgetting"]),
        "mean_discovery": 100 * float(metrics["mean_discovery"]),
        "sessions": [step["hungarian"] for step in metrics["steps"]],
    }


class AllLabels:
    """Upper bound: regression on the true labels of all vectors of all sessions so far.

    Args:
        train: ``(N, D)`` training vectors.
        labels: ``(N,)`` classes.
    """

    def __init__(self, train: Floats, labels: Labels) -> None:
        self._train, self._labels, self._last = train, labels, 0

    def start(self, rows: Indices, labels: Labels) -> None:
        """Learn the base session."""
        import torch

        vectors = torch.from_numpy(self._train[rows])
        self._space = fit_known(vectors, torch.from_numpy(labels), vectors[:0]).gate.space
        self._seen = rows
        self._fit()

    def extend(self, rows: Indices, num_novel: int) -> None:
        """Learn all sessions again."""
        self._seen, self._last = np.union1d(self._seen, rows), num_novel
        self._fit()

    def _fit(self) -> None:
        labels = self._labels[self._seen]
        inside = self._space.rows(self._train[self._seen])
        self._head = logistic_regression(inside, labels, int(labels.max()) + 1)

    def predict(self, vectors: Floats) -> tuple[Labels, Labels]:
        """Return the classes of vectors, and the best of those of the last session."""
        scores = self._space.rows(vectors) @ self._head[0] + self._head[1]
        return scores.argmax(axis=1), scores[:, -self._last :].argmax(axis=1)


def _file(part: str) -> Path:
    folder = os.environ.get("CRKD_VECTORS")
    if folder is None:
        raise InputError("CRKD_VECTORS is not set; give the folder of NAME-train.parquet files")
    return Path(folder) / f"cifar100-{part}.parquet"
