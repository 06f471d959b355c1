"""Baselines on feature vectors: k-means, semi-supervised k-means and SimGCD's classifier.

Like our discovery, a baseline is free in its space, and it chooses by a contest on hidden known
classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats, unit_rows
from crkd.clustering.whitening import WhitenedSpace, principal_space, whitened_spaces
from crkd.config.schema import Config
from crkd.core.threads import one_thread
from crkd.evaluation.matching import clustering_accuracy
from crkd.runs.atomic_files import write_json
from crkd.runs.folder import RunFolder
from crkd.stages.baselines.kmeans import METHODS as KMEANS
from crkd.stages.baselines.kmeans import MIXED, closeness
from crkd.stages.baselines.run_entry import baseline_entry, run_baseline
from crkd.stages.baselines.simgcd_head import simgcd_head
from crkd.stages.forward import Outputs
from crkd.stages.run_data import check_num_novel
from crkd.stages.vectors.contest import FEWEST_KNOWN
from crkd.stages.vectors.data import CPU, VectorData, vector_data

Labels = NDArray[np.int64]
Centers = Callable[[Floats, Labels, Floats, int, Config], Floats]
CHOICE: Final = "choice.json"
"""The settings of a baseline, their accuracy on hidden known classes, and the chosen one."""
WIDTH: Final = 256
DRAWS: Final = 2


class Setting(NamedTuple):
    """A way to run a baseline.

    Attributes:
        whitened: whether the space is whitened by the known classes; otherwise it has the
            principal components of all vectors.
        dropout: of the views, for SimGCD.
    """

    whitened: bool
    dropout: float = 0.0

    @property
    def title(self) -> str:
        """The setting in words."""
        space = "whitened" if self.whitened else "principal components"
        return f"{space}, dropout {self.dropout:g}" if self.dropout else space


SPACES: Final = (Setting(False), Setting(True))
SETTINGS: Final[Mapping[str, tuple[Setting, ...]]] = {
    "kmeans": SPACES,
    "semi-kmeans": SPACES,
    "simgcd": (Setting(False, 0.1), Setting(True, 0.1), Setting(True, 0.3)),
}


class VectorBaseline(NamedTuple):
    """A fitted baseline.

    Attributes:
        space: of the vectors.
        centers: ``(K + M, k)`` float32; a vector has the class of the nearest one.
        setting: the chosen setting.
        scores: setting -> percent of hidden vectors that were right, one for each draw; empty
            where there was nothing to choose by.
    """

    space: WhitenedSpace
    centers: Floats
    setting: Setting
    scores: dict[Setting, list[float]]

    def logits(self, vectors: Floats) -> Floats:
        """Return logits ``(N, K + M)``; the nearest center has the largest."""
        return closeness(self.space.rows(vectors), self.centers)


@one_thread()
def fit_baseline(
    name: str, known: Floats, labels: Labels, unlabeled: Floats, num_novel: int, config: Config
) -> VectorBaseline:
    """Choose the setting of a baseline on hidden known classes, and fit it.

    In each draw half of the known classes are hidden. In the mixed setting the labeled vectors of
    the others are divided: one half is unlabeled then.

    Args:
        name: a key of :data:`SETTINGS`.
        known: ``(n, D)`` labeled vectors.
        labels: ``(n,)`` in ``[0, K)``.
        unlabeled: ``(N, D)`` vectors.
        num_novel: M.
        config: seed, restarts of k-means, and whether unlabeled vectors may be of known classes.
    """
    scores: dict[Setting, list[float]] = {}
    settings = SETTINGS[name]
    num_known = int(labels.max()) + 1
    if num_known >= FEWEST_KNOWN:
        for draw in range(DRAWS):
            kept, rest = _hide(labels, config, draw)
            fewer = np.unique(labels[kept], return_inverse=True)[1].astype(np.int64)
            count = len(np.unique(labels)) - int(fewer.max()) - 1
            for setting in settings:
                space, centers = _fitted(
                    name, setting, known[kept], fewer, known[rest], count, config
                )
                found = VectorBaseline(space, centers, setting, {}).logits(known[rest])
                if not config.mixed:
                    found = found[:, len(centers) - count :]
                right = 100 * clustering_accuracy(found.argmax(axis=1), labels[rest])
                scores.setdefault(setting, []).append(right)
    chosen = max(scores, key=lambda setting: sum(scores[setting])) if scores else settings[-1]
    space, centers = _fitted(name, chosen, known, labels, unlabeled, num_novel, config)
    return VectorBaseline(space, centers, chosen, scores)


def _hide(labels: Labels, config: Config, draw: int) -> tuple[Labels, Labels]:
    """Return the rows that stay labeled and those that are unlabeled."""
    draws = np.random.default_rng([config.seed, 8, draw])
    order = draws.permutation(int(labels.max()) + 1)
    hidden = np.isin(labels, order[: len(order) // 2])
    inside, novel = draws.permutation(np.flatnonzero(~hidden)), np.flatnonzero(hidden)
    if not config.mixed:
        return np.sort(inside), novel
    # Every second row of each class, so that each class keeps some.
    inside = inside[np.argsort(labels[inside], kind="stable")]
    return np.sort(inside[::2]), np.sort(np.concatenate([inside[1::2], novel]))


def _fitted(
    name: str,
    setting: Setting,
    known: Floats,
    labels: Labels,
    unlabeled: Floats,
    num_novel: int,
    config: Config,
) -> tuple[WhitenedSpace, Floats]:
    if setting.whitened:
        (space,) = whitened_spaces(known, labels, unlabeled, [WIDTH])
    else:
        space = principal_space(np.concatenate([known, unlabeled]), width=WIDTH)
    rows = space.rows(known), space.rows(unlabeled)
    if name == "simgcd":
        centers = simgcd_head(
            rows[0],
            labels,
            rows[1],
            num_novel,
            dropout=setting.dropout,
            entropy_weight=config.discover.entropy_weight,
            seed=config.seed,
        )
        return space, centers
    centers_of: Centers = MIXED[1] if config.mixed and name == "kmeans" else KMEANS[name][1]
    return space, centers_of(rows[0], labels, unit_rows(rows[1]), num_novel, config)


def baseline_on_vectors(config: Config, out: str | Path, method: str) -> RunFolder:
    """Run a baseline on the files of a configuration and return its finished run folder.

    Args:
        config: its ``data.features`` names known and unlabeled vectors.
        out: the run folder to write.
        method: a key of :data:`SETTINGS`.

    Raises:
        InputError: the configuration, a file or the folder is unusable.
    """
    data = vector_data(config)
    info = baseline_entry(config, data, method, [f"baseline on frozen vectors: {method}"])
    known, unlabeled = data.subsets.known_train, data.subsets.unlabeled
    check_num_novel(info.num_novel, len(unlabeled), "unlabeled vectors")

    def compute(run: RunFolder) -> dict[str, Outputs]:
        vectors = data.of(known).numpy(), data.of(unlabeled).numpy()
        found = fit_baseline(method, vectors[0], known.labels, vectors[1], info.num_novel, config)
        choice = {setting.title: values for setting, values in found.scores.items()}
        write_json(run.path / CHOICE, {"chosen": found.setting.title, "scores": choice})
        return _outputs(found, data)

    return run_baseline(config, out, data, info, compute, device=CPU, resume=False, resumable=False)


def _outputs(found: VectorBaseline, data: VectorData) -> dict[str, Outputs]:
    outputs = {}
    for name, subset in data.evaluated().items():
        vectors = data.of(subset).numpy()
        logits = found.logits(vectors)
        outputs[name] = Outputs(
            vectors, logits[:, : data.num_known], logits[None, :, data.num_known :]
        )
    return outputs
