"""Discovery on frozen vectors, compared with k-means and with supervised discriminant analysis.

The vectors are those of a network that was trained on ImageNet's labels; results of this table are
not those of training from scratch. :mod:`benchmarks.vector_files` says where they come from; of
CIFAR-100 most settings use classes 0 to 19. The pixels of the digits are their vectors.
Accuracies are those of the novel training vectors, task-aware, where nothing else is said. True
labels are read after the discovery. A finished trial is a line of ``NAME.runs.jsonl``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.campaign import finished
from benchmarks.rows import row
from benchmarks.vector_files import Arrays, class_order, read, taken, thinned
from benchmarks.vector_references import joint_ceiling, matched, references, right
from crkd.runs.provenance import git_commit
from crkd.stages.vectors.discovery import VectorDiscovery, fit_discovery, further_discovery

COMMAND = "CRKD_VECTORS=FOLDER crkd bench vectors --json FILE"


class Setting(NamedTuple):
    """Classes and vectors of a trial.

    Attributes:
        data: "cifar100", "fashion" or "digits".
        classes: how many of the first classes are drawn from; an order permutes them.
        num_known: K; the others are novel.
        orders: orders of classes; 0 is the classes as they are.
        each: training vectors of a class, at most.
        thinned: every second novel class keeps a fifth of its vectors.
        further: novel classes that come in a second step.
        methods: of discovery.
        seeds: of everything drawn.
    """

    data: str
    classes: int
    num_known: int
    orders: tuple[int, ...] = (0,)
    each: int = 500
    thinned: bool = False
    further: int = 0
    methods: tuple[str, ...] = ("auto",)
    seeds: tuple[int, ...] = (0, 1, 2)


EIGHT = tuple(range(1, 9))

SETTINGS = {
    "cifar100 eight splits 10-10, heads": Setting("cifar100", 20, 10, EIGHT, methods=("heads",)),
    "cifar100 50-50, heads": Setting("cifar100", 100, 50, methods=("heads",), seeds=(0,)),
    "cifar100 10-10, 100 a class": Setting("cifar100", 20, 10, each=100),
    "cifar100 10-10, thinned": Setting("cifar100", 20, 10, (0, 1, 2), thinned=True, seeds=(0,)),
    "digits 5-5": Setting("digits", 10, 5),
    "fashion 5-5": Setting("fashion", 10, 5),
    "cifar100 10-5-3": Setting("cifar100", 18, 10, further=3),
    "cifar100 eight splits 10-10": Setting("cifar100", 20, 10, EIGHT, seeds=(0,)),
    "cifar100 10-10, 60 a class": Setting("cifar100", 20, 10, each=60),
    "cifar100 50-50": Setting("cifar100", 100, 50, seeds=(0,)),
    "cifar100 2-5": Setting("cifar100", 7, 2),
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


def rows(out: Path, *, jobs: int = 1) -> Iterator[dict[str, Any]]:
    """Yield mean, worst and the other measures of every setting; the baseline is k-means.

    Args:
        out: the result file; finished trials are kept in ``NAME.runs.jsonl``.
        jobs: processes, of one thread each.
    """
    for name, setting in SETTINGS.items():
        wanted = [
            Trial(name, order, method, seed)
            for method in setting.methods
            for seed in setting.seeds
            for order in setting.orders
        ]
        yield summary(name, finished(wanted, measure, out, jobs=jobs))


def summary(name: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of a setting.

    Args:
        name: of the setting.
        lines: of its trials.
    """
    means = {
        key: round(statistics.fmean(line[key] for line in lines), 2)
        for key, value in lines[0].items()
        if isinstance(value, float)
    }
    common = row("vectors", "%", name, means["novel"], means["kmeans"], complete=False)
    keys = ("novel", "kmeans", "ceiling", "seconds", "chosen", "contest")
    return {
        **common,
        **means,
        "worst": min(line["novel"] for line in lines),
        "worst_gain": round(min(line["novel"] - line["kmeans"] for line in lines), 2),
        "held_out_lost": round(means["novel"] - means["novel_held_out"], 2),
        "joint_known_lost": round(means["known_alone"] - means["known_joint"], 2),
        "joint_novel_lost": round(means["novel_held_out"] - means["novel_joint"], 2),
        "command": COMMAND,
        "commit": ", ".join(sorted({str(line["commit"]) for line in lines})),
        "trials": [{**line["run"], **{key: line[key] for key in keys}} for line in lines],
    }


def measure(trial: Trial) -> dict[str, Any]:
    """Discover, and return accuracies in percent and seconds of the processor."""
    setting = SETTINGS[trial.setting]
    train, test = (read(setting.data, part) for part in ("train", "test"))
    order = class_order(setting.classes, trial.order)
    last = len(order) - setting.further
    groups = [np.sort(order[: setting.num_known]), np.sort(order[setting.num_known : last])]
    known, novel = (taken(train, classes, setting.each) for classes in groups)
    held_out = [taken(test, classes, setting.each) for classes in groups]
    if setting.thinned:
        novel = thinned(novel, setting.each)
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
    measures |= references(found, novel, count, trial.seed)
    measures |= joint_ceiling(found, known, novel, held_out)
    measures |= accuracies(found, novel, held_out)
    if setting.further:
        fresh = np.sort(order[last:])
        measures |= second_step(found, train, test, [*groups, fresh], trial.seed, setting.each)
    return {**measures, "contest": found.contest.plain()["scores"], "commit": git_commit()}


def accuracies(found: VectorDiscovery, novel: Arrays, held_out: list[Arrays]) -> dict[str, float]:
    """Return the accuracies of training and held-out vectors; the matching is that of training."""
    count = found.gate.sizes[-1]
    clusters = of(found, novel[0]).novel.argmax(dim=1).numpy()
    class_of = matched(clusters, novel[1], count)
    known, unseen = (of(found, part[0]) for part in held_out)
    first = found.num_classes - count
    joint = unseen.joint.argmax(dim=1).numpy()
    # An old class is not novel: it counts as -1.
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
