"""A plan of discoveries on feature vectors: base session, then sessions without old samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats
from crkd.config.schema import Config
from crkd.core.counted import counted
from crkd.core.errors import InputError, listed
from crkd.core.shuffle import stable_shuffle
from crkd.data.splits.sessions import SessionSizes, sessions
from crkd.data.vectors.table import FeatureTable, read_features
from crkd.evaluation.protocols import fit_cluster_map
from crkd.evaluation.sessions import plan_metrics, session_entry
from crkd.stages.plan_folder import PlanFolder
from crkd.stages.vectors.learners import Discovered, Learner, NearestMeans

Labels = NDArray[np.int64]
METHODS: Final = ("remember", "kmeans")
"""Our discovery, and nearest class means with k-means."""


class PlanData(NamedTuple):
    """Vectors of a plan, with classes numbered in its order.

    Attributes:
        train: table of the training vectors.
        labels: ``(N,)`` their classes, -1 for classes that the plan leaves out.
        test: ``(n, D)`` test vectors.
        test_labels: ``(n,)`` their classes.
        names: of the classes.
    """

    train: FeatureTable
    labels: Labels
    test: Floats
    test_labels: Labels
    names: list[str]


def run_vector_plan(
    config: Config,
    sizes: Sequence[int],
    out: str | Path,
    *,
    method: str = "remember",
    mixed: SessionSizes | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Run every session of a plan and return the metrics of the plan.

    Labels of a session's vectors are read after its discovery, for the evaluation.

    Args:
        config: its ``data.features`` names labeled training and test vectors of all classes.
        sizes: number of classes of each session, the base session first.
        out: parent folder; gets ``step-1``, ``step-2``, ..., and the files of
            :class:`~crkd.stages.plan_folder.PlanFolder`.
        method: a name of :data:`METHODS`.
        mixed: sizes of a session that mixes new and old classes.
        resume: keep finished sessions.

    Raises:
        InputError: the plan, a file or the folder is unusable, or the folder holds another plan.
    """
    if method not in METHODS:
        raise InputError(f"--method {method!r} is unknown; choose one of: {listed(METHODS)}")
    if method == "remember" and sizes[0] < 2:
        raise InputError(
            f"--plan begins with {sizes[0]} class, and a discovery on vectors needs two known "
            "classes or more; raise the first number"
        )
    plan = PlanFolder(out, config, sizes, method, mixed)
    plan.check(resume=resume)
    data = plan_data(config, sum(sizes))
    drawn = sessions(
        data.labels,
        sizes,
        labeled_fraction=config.data.labeled_fraction,
        mixed=mixed,
        seed=config.seed,
    )
    plan.begin()
    learner: Learner
    if method == "remember":
        learner = Discovered(config, data.train, data.names, plan.path, mixed=mixed is not None)
    else:
        learner = NearestMeans(data.train.features, config.seed)
    metrics: dict[str, Any] = {}
    for found in learn_plan(learner, data, drawn, sizes):
        metrics = plan.record(found)
    return metrics


def learn_plan(
    learner: Learner,
    data: PlanData,
    drawn: list[Labels],
    sizes: Sequence[int],
) -> Iterator[dict[str, Any]]:
    """Yield the metrics of the plan after every session.

    Args:
        learner: learns the sessions.
        data: vectors of the plan; labels of a session are read after the learner has learned it.
        drawn: positions of the training vectors of each session.
        sizes: number of classes of each session, the base session first.
    """
    class_of: Labels = np.arange(sizes[0])
    steps: list[dict[str, Any]] = []
    for number, rows in enumerate(drawn):
        seen = sum(sizes[: number + 1])
        if number == 0:
            learner.start(rows, data.labels[rows])
        else:
            learner.extend(rows, sizes[number])
            _, novel = learner.predict(data.train.features[rows])
            found = fit_cluster_map(
                novel,
                data.labels[rows],
                num_known=seen - sizes[number],
                num_novel=sizes[number],
                num_classes=seen,
            )
            assert found is not None
            class_of = np.concatenate([class_of, found])
        test = data.test_labels < seen
        outputs, _ = learner.predict(data.test[test])
        entry = session_entry(outputs, class_of, data.test_labels[test], sizes[: number + 1])
        steps.append({"stage": "discover" if number else "known", **entry})
        yield {"steps": steps, **plan_metrics(steps)}


def plan_data(config: Config, num_classes: int) -> PlanData:
    """Read the training and test vectors of a plan.

    The order of the classes is that of their names; ``class_order_seed`` permutes it.

    Raises:
        InputError: there are not two files with labels, too few classes, or a split is configured.
    """
    files = config.data.features
    if config.data.subset < 1:
        raise InputError("data.subset does not apply to a plan on vectors; leave it out")
    if config.split is not None:
        raise InputError(
            f"--split {config.split} does not apply to a plan on vectors: their labels name the "
            "classes; leave it out"
        )
    if len(files) != 2:
        given = counted(len(files), "file")
        raise InputError(f"--features names {given}; a plan needs two: TRAIN TEST")
    train, test = (read_features(file) for file in files)
    for table in (train, test):
        if table.labels is None or "" in table.labels:
            raise InputError(
                f"{table.path} has vectors without a label; a plan needs the class of every vector"
            )
    assert train.labels is not None
    assert test.labels is not None
    if train.features.shape[1] != test.features.shape[1]:
        raise InputError(
            f"the vectors of {train.path} have {train.features.shape[1]} dimensions, those of "
            f"{test.path} have {test.features.shape[1]}; make both with the same network"
        )
    names = sorted(set(train.labels))
    if num_classes > len(names):
        raise InputError(
            f"--plan takes {num_classes} classes, but {train.path} has {len(names)}; lower it"
        )
    if config.class_order_seed is not None:
        names = [names[n] for n in stable_shuffle(len(names), config.class_order_seed)]
    names = names[:num_classes]
    place = {name: label for label, name in enumerate(names)}
    labels = np.array([place.get(name, -1) for name in train.labels])
    kept = np.flatnonzero([name in place for name in test.labels])
    test_labels = np.array([place[test.labels[n]] for n in kept], np.int64)
    return PlanData(train, labels, test.features[kept], test_labels, names)
