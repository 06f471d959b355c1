"""Learners of a plan on vectors: our discovery, and nearest class means with k-means."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats, kmeans, unit_rows
from crkd.config.schema import Config
from crkd.core.threads import one_thread
from crkd.data.vectors.row_file import VectorRows
from crkd.data.vectors.selected_rows import write_rows
from crkd.data.vectors.table import FeatureTable
from crkd.runs.folder import RunFolder
from crkd.stages.plan_folder import step_settings
from crkd.stages.vectors.discovery import VectorDiscovery, fit_known
from crkd.stages.vectors.run import discover_vectors
from crkd.stages.vectors.start import opened_discovery
from crkd.training.finished import finished

Indices = NDArray[np.int64]
Labels = NDArray[np.int64]
STEPS: Final = 100
"""Iterations of k-means with fixed means, at most."""


class Learner(Protocol):
    """Learns one session after another; it sees no label but those of the base session."""

    def start(self, rows: Indices, labels: Labels) -> None:
        """Learn the base session.

        Args:
            rows: ``(n,)`` positions in the table of training vectors.
            labels: ``(n,)`` classes of the base session.
        """

    def extend(self, rows: Indices, num_novel: int) -> None:
        """Find the classes of the next session among unlabeled rows."""

    def predict(self, vectors: Floats) -> tuple[Labels, Labels]:
        """Return outputs in ``[0, C)`` and clusters of the last session in ``[0, M)``."""


class Discovered:
    """Our discovery: a run folder for each session after the base session.

    Args:
        config: of the runs.
        train: all training vectors; the rows of a session become a file of their own.
        names: of the classes of the plan.
        folder: gets ``step-N`` and ``vectors``.
        mixed: whether a session has vectors of old classes too.
    """

    def __init__(
        self,
        config: Config,
        train: FeatureTable,
        names: Sequence[str],
        folder: Path,
        *,
        mixed: bool,
    ) -> None:
        discover = dataclasses.replace(config.discover, precheck=False, mixed=mixed)
        data = dataclasses.replace(config.data, labeled_fraction=1.0, validation_fraction=0.0)
        self._config = dataclasses.replace(
            config, discover=discover, data=data, class_order_seed=None
        )
        self._train, self._names, self._folder, self._steps = train, names, folder, 0
        self._base_file: Path | None = None
        self._base: Labels | None = None
        self._found: VectorDiscovery | None = None
        (folder / "vectors").mkdir(parents=True, exist_ok=True)

    def start(self, rows: Indices, labels: Labels) -> None:
        """Learn the base session in memory; the first discovery does it again for its run."""
        self._base_file = self._write(rows, 0)
        vectors = torch.from_numpy(self._train.features[rows])
        self._found = fit_known(vectors, torch.from_numpy(labels), vectors[:0])

    def extend(self, rows: Indices, num_novel: int) -> None:
        """Discover in a run folder; a finished one is read."""
        self._steps += 1
        place = self._folder / f"step-{self._steps}"
        files = [self._write(rows, self._steps)]
        if self._steps == 1:
            assert self._base_file is not None
            files = [self._base_file, *files]
        config = dataclasses.replace(
            self._config,
            data=dataclasses.replace(self._config.data, features=tuple(map(str, files))),
            discover=dataclasses.replace(self._config.discover, num_novel=num_novel),
        )
        parent = self._folder / f"step-{self._steps - 1}" if self._steps > 1 else None

        def work(resume: bool) -> RunFolder:
            return discover_vectors(config, place, parent, resume=resume)

        run = finished(place, config, step_settings, work)
        if self._steps == 1:
            # A run sorts the known classes by name.
            known = [entry.name for entry in run.read_info().classes if not entry.was_discovered]
            self._base = np.array([self._names.index(name) for name in known])
        self._found = opened_discovery(run)

    def predict(self, vectors: Floats) -> tuple[Labels, Labels]:
        """Return joint predictions and those of the last head."""
        assert self._found is not None
        found = self._found.predict(torch.from_numpy(vectors))
        joint = found.joint.argmax(dim=1).numpy()
        if self._base is not None:
            base = joint < len(self._base)
            joint[base] = self._base[joint[base]]
        return joint, found.novel.argmax(dim=1).numpy()

    def _write(self, rows: Indices, number: int) -> Path:
        return write_rows(self._train, rows, self._folder / "vectors", f"session-{number}")


class NearestMeans:
    """The easy baseline: class means at unit length, and k-means for the new classes.

    The means of old classes stay where they are. The new centroids start from k-means on all
    vectors of the session and move with the vectors that are nearest to them.

    Args:
        train: ``(N, D)`` training vectors; those of a session are read when it comes.
        seed: of k-means.
    """

    def __init__(self, train: VectorRows, seed: int) -> None:
        self._train, self._seed, self._last = train, seed, 0
        self._means: Floats = np.zeros((0, train.shape[1]), np.float32)

    def start(self, rows: Indices, labels: Labels) -> None:
        """Take the means of the base classes."""
        values = unit_rows(self._train[rows])
        classes = range(int(labels.max()) + 1)
        self._means = unit_rows(np.stack([values[labels == c].mean(axis=0) for c in classes]))

    @one_thread()
    def extend(self, rows: Indices, num_novel: int) -> None:
        """Cluster the session."""
        values = unit_rows(self._train[rows])
        fixed = len(self._means)
        found = unit_rows(kmeans(values, num_novel, seed=self._seed).centroids)
        means = np.concatenate([self._means, found])
        nearest = np.full(len(values), -1)
        for _ in range(STEPS):
            before, nearest = nearest, (values @ means.T).argmax(axis=1)
            if np.array_equal(before, nearest):
                break
            for cluster in range(fixed, len(means)):
                members = values[nearest == cluster]
                # An empty cluster is not moved.
                if len(members):
                    means[cluster] = members.mean(axis=0)
            means[fixed:] = unit_rows(means[fixed:])
        self._means, self._last = means, num_novel

    def predict(self, vectors: Floats) -> tuple[Labels, Labels]:
        """Return the nearest of all means, and of those of the last session."""
        scores = unit_rows(vectors) @ self._means.T
        last = scores[:, -self._last :] if self._last else scores
        return scores.argmax(axis=1).astype(np.int64), last.argmax(axis=1).astype(np.int64)
