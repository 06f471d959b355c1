"""Discovery on frozen vectors, compared with k-means and with supervised discriminant analysis.

The vectors are those of a network that was trained on ImageNet's labels; results of this table are
not those of training from scratch. The folder ``CRKD_VECTORS`` holds ``NAME-train.npz`` and
``NAME-test.npz`` with x ``(N, D)`` and y ``(N,)`` for cifar100 (its classes 0 to 19 serve) and
fashion; the digits need no file. Their pixels are the vectors. Accuracies are those of the
novel training vectors, task-aware, where nothing else is said. True labels are read after the
discovery. A finished trial is a line of ``NAME.runs.jsonl``.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.campaign import finished
from benchmarks.rows import row
from crkd.clustering.shared_gaussians import SharedGaussians
from crkd.core.errors import InputError
from crkd.evaluation.matching import contingency, match
from crkd.stages.vectors.candidates import CANDIDATES
from crkd.stages.vectors.discovery import VectorDiscovery, fit_discovery, further_discovery
from crkd.stages.vectors.material import Material

Arrays = tuple[NDArray[np.float32], NDArray[np.int64]]

SEEDS = (0, 1, 2)


class Setting(NamedTuple):
    """What is discovered.

    Attributes:
        data: "cifar100", "fashion" or "digits".
        classes: how many of the first classes are drawn from; an order permutes them.
        num_known: K; the others are novel.
        orders: orders of classes; 0 is the classes as they are.
        each: training vectors of a class, at most.
        thinned: every second novel class keeps a fifth of its vectors.
        further: novel classes that come in a second step.
        methods: of discovery.
    """

    data: str
    classes: int
    num_known: int
    orders: tuple[int, ...] = (0,)
    each: int = 500
    thinned: bool = False
    further: int = 0
    methods: tuple[str, ...] = ("auto",)


SETTINGS = {
    "cifar100 eight splits 10-10": Setting("cifar100", 20, 10, tuple(range(1, 9))),
    "cifar100 10-10": Setting("cifar100", 20, 10),
    "cifar100 10-10, 100 a class": Setting("cifar100", 20, 10, each=100),
    "cifar100 10-10, 60 a class": Setting("cifar100", 20, 10, each=60),
    "cifar100 10-10, thinned": Setting("cifar100", 20, 10, thinned=True),
    "cifar100 2-5": Setting("cifar100", 7, 2),
    "cifar100 10-5-3": Setting("cifar100", 18, 10, further=3),
    "cifar100 50-50": Setting("cifar100", 100, 50, methods=("heads",)),
    "fashion 5-5": Setting("fashion", 10, 5),
    "digits 5-5": Setting("digits", 10, 5),
}


class Trial(NamedTuple):
    """One discovery.

    Attributes:
        setting: a key of ``SETTINGS``.
        order: of the classes.
        method: "auto" or a candidate.
        seed: of everything drawn.
    """

    setting: str
    order: int
    method: str
    seed: int


def rows(out: Path, *, jobs: int = 1) -> list[dict[str, Any]]:
    """Return mean, worst and the other measures of every setting; baseline is k-means.

    Args:
        out: the result file; finished trials are kept in ``NAME.runs.jsonl``.
        jobs: processes, of one thread each.
    """
    wanted = [
        Trial(name, order, method, seed)
        for name, setting in SETTINGS.items()
        for method in setting.methods
        for seed in SEEDS
        for order in setting.orders
    ]
    lines = finished(wanted, measure, out, jobs=jobs)
    made = []
    for name in SETTINGS:
        mine = [line for line in lines if line["run"]["setting"] == name]
        means = {
            key: round(statistics.fmean(line[key] for line in mine), 2)
            for key, value in mine[0].items()
            if isinstance(value, float)
        }
        told = row("vectors", "%", name, means["novel"], means["kmeans"], complete=False)
        worst = min(line["novel"] for line in mine)
        gap = min(line["novel"] - line["kmeans"] for line in mine)
        made.append({**told, **means, "worst": worst, "worst_gain": gap, "trials": len(mine)})
    return made


def measure(trial: Trial) -> dict[str, Any]:
    """Discover, and return accuracies in percent and seconds of the processor."""
    setting = SETTINGS[trial.setting]
    train, test = (read(setting.data, part) for part in ("train", "test"))
    order = class_order(setting.classes, trial.order)
    last = len(order) - setting.further
    groups = [np.sort(order[: setting.num_known]), np.sort(order[setting.num_known : last])]
    known, novel = (taken(train, classes, setting.each) for classes in groups)
    if setting.thinned:
        rank = np.concatenate([np.arange(n) for n in np.bincount(novel[1])])
        kept = (novel[1] % 2 == 0) | (rank < setting.each // 5)
        novel = (novel[0][kept], novel[1][kept])
    count = len(groups[1])
    start = time.process_time()
    found = fit_discovery(
        torch.from_numpy(known[0]),
        torch.from_numpy(known[1]),
        torch.from_numpy(novel[0]),
        count,
        method=trial.method,
        seed=trial.seed,
    )
    seconds = time.process_time() - start
    measures: dict[str, Any] = {"seconds": seconds, "chosen": found.contest.chosen}
    measures |= baselines(found, novel, count, trial.seed)
    measures |= accuracies(found, novel, [taken(test, classes, setting.each) for classes in groups])
    if setting.further:
        fresh = np.sort(order[last:])
        measures |= second_step(found, train, test, [*groups, fresh], trial.seed, setting.each)
    return {**measures, "contest": found.contest.plain()["scores"]}


def class_order(classes: int, number: int) -> NDArray[np.int64]:
    """Return the classes as they are for 0, else the draw of that number from one generator."""
    draw, order = np.random.default_rng(0), np.arange(classes)
    for _ in range(number):
        order = draw.permutation(classes)
    return order


def read(data: str, part: str) -> Arrays:
    """Return the vectors and labels of a part of a data set.

    Raises:
        InputError: there is no folder of vectors.
    """
    if data == "digits":
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        mine = (np.arange(len(labels)) % 5 == 0) == (part == "test")
        return pixels[mine].astype(np.float32), labels[mine].astype(np.int64)
    folder = os.environ.get("CRKD_VECTORS")
    if folder is None:
        raise InputError("CRKD_VECTORS is not set; give the folder of NAME-train.npz files")
    with np.load(Path(folder) / f"{data}-{part}.npz") as file:
        return file["x"].astype(np.float32), file["y"].astype(np.int64)


def taken(source: Arrays, classes: NDArray[np.int64], each: int) -> Arrays:
    """Return the first vectors of every class, and labels from 0."""
    rows = [np.flatnonzero(source[1] == label)[:each] for label in classes]
    labels = np.repeat(np.arange(len(classes)), [len(part) for part in rows])
    return source[0][np.concatenate(rows)], labels


def baselines(found: VectorDiscovery, novel: Arrays, count: int, seed: int) -> dict[str, float]:
    """Return k-means, whitened k-means, and discriminant analysis with the true labels."""
    material = Material(novel[0], count, found.space, found.gate.space, seed)
    measures = {}
    for name in ("kmeans", "whitened_kmeans"):
        clusters = CANDIDATES[name](material, seed).logits(novel[0]).argmax(axis=1)
        measures[name] = right(clusters, novel[1], matched(clusters, novel[1], count))
    inside = found.space.rows(novel[0])
    weights, biases = SharedGaussians.fit(inside, novel[1], count).classifier()
    told = (inside @ weights + biases).argmax(axis=1)
    return {**measures, "ceiling": right(told, novel[1], np.arange(count))}


def accuracies(found: VectorDiscovery, novel: Arrays, held_out: list[Arrays]) -> dict[str, float]:
    """Return the accuracies of training and held-out vectors; the matching is that of training."""
    count = found.gate.sizes[-1]
    clusters = of(found, novel[0]).novel.argmax(dim=1).numpy()
    class_of = matched(clusters, novel[1], count)
    known, unseen = (of(found, part[0]) for part in held_out)
    first = found.num_classes - count
    joint = unseen.joint.argmax(dim=1).numpy()
    # An old class is no novel one: it counts as -1.
    class_of_all = np.concatenate([np.full(first, -1), class_of])
    return {
        "novel": right(clusters, novel[1], class_of),
        "novel_held_out": right(unseen.novel.argmax(dim=1).numpy(), held_out[1][1], class_of),
        "novel_joint": right(joint, held_out[1][1], class_of_all),
        "known_alone": right(
            known.known.argmax(dim=1).numpy(), held_out[0][1], np.arange(found.num_known)
        ),
        "known_joint": right(
            known.joint.argmax(dim=1).numpy(), held_out[0][1], np.arange(found.num_classes)
        ),
    }


def second_step(
    found: VectorDiscovery,
    train: Arrays,
    test: Arrays,
    groups: list[NDArray[np.int64]],
    seed: int,
    each: int,
) -> dict[str, float]:
    """Return the joint accuracies after a further step, on held-out vectors.

    Args:
        found: after the first step.
        train: vectors and labels.
        test: likewise.
        groups: known classes, those of the first step, and those of the second.
        seed: of everything drawn.
        each: training vectors of a class.
    """
    fresh = taken(train, groups[2], each)
    more = further_discovery(found, torch.from_numpy(fresh[0]), len(groups[2]), seed=seed)
    first, middle = (taken(part, groups[1], each) for part in (train, test))
    old = taken(test, groups[0], each)
    class_of = matched(of(found, first[0]).novel.argmax(1).numpy(), first[1], len(groups[1]))
    classes = np.concatenate([np.arange(len(groups[0])), len(groups[0]) + class_of])
    classes = np.concatenate([classes, np.full(len(groups[2]), -1)])
    held_out = (
        np.concatenate([old[0], middle[0]]),
        np.concatenate([old[1], len(groups[0]) + middle[1]]),
    )
    before, after = (
        right(of(one, held_out[0]).joint.argmax(dim=1).numpy(), held_out[1], classes)
        for one in (found, more)
    )
    last = accuracies(more, fresh, [old, taken(test, groups[2], each)])
    return {
        "step2_new_joint": last["novel_joint"],
        "step2_new": last["novel"],
        "step2_old_before": before,
        "step2_old_after": after,
    }


def of(found: VectorDiscovery, vectors: NDArray[np.float32]) -> Any:
    """Return the predictions of a discovery for vectors."""
    return found.predict(torch.from_numpy(vectors))


def matched(clusters: NDArray[np.int64], truth: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the class that each cluster is matched to."""
    return match(contingency(clusters, truth, count, count))


def right(
    clusters: NDArray[np.int64], truth: NDArray[np.int64], class_of: NDArray[np.int64]
) -> float:
    """Return the percent of rows whose cluster is matched to their class."""
    return round(100 * float((class_of[clusters] == truth).mean()), 2)
