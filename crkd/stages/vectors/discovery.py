"""Discovery on frozen vectors: known head, novel classes, and one prediction for all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crkd.clustering.kmeans import Floats, unit_rows
from crkd.clustering.logistic import logistic_regression
from crkd.clustering.tied_mixtures import TiedMixtures
from crkd.clustering.whitening import WhitenedSpace
from crkd.core.threads import one_thread
from crkd.stages.vectors.arguments import check_choice, checked_known, checked_rows
from crkd.stages.vectors.candidates import METHODS, NovelHead
from crkd.stages.vectors.contest import Contest, hold_contest
from crkd.stages.vectors.discovery_input import DiscoveryInput
from crkd.stages.vectors.gate import Gate, fit_gate
from crkd.stages.vectors.sizes import estimated_class_shares
from crkd.stages.vectors.spaces import discovery_spaces, starting_spaces

SAMPLED = 200
"""Rows drawn of every class whose vectors are not kept."""
WITHOUT_LABELS = "heads"
"""Method where no class is known, so that no contest can be held."""


class Prediction(NamedTuple):
    """Predictions for N vectors.

    Attributes:
        joint: ``(N, C)`` float32 log-probabilities, known classes first, then novel ones in the
            order of their steps.
        known: ``(N, K)`` float32 logits of the known head alone.
        novel: ``(N, M)`` float32 logits of the classes of the last step alone.
    """

    joint: Tensor
    known: Tensor
    novel: Tensor


@dataclass(frozen=True, eq=False)
class VectorDiscovery:
    """Result of a discovery; it contains no vector.

    Attributes:
        space: whitened by the known classes, or by clusters if none is known; the methods that use
            labels work in it.
        gate: separates the groups of classes.
        heads: head of each group: the known classes, then those of each step.
        contest: how the method was chosen.
    """

    space: WhitenedSpace
    gate: Gate
    heads: tuple[NovelHead, ...]
    contest: Contest

    @property
    def num_known(self) -> int:
        """K; 0 if no class is known."""
        return self.gate.sizes[0]

    @property
    def num_classes(self) -> int:
        """C, known classes and those of all steps."""
        return sum(self.gate.sizes)

    def predict(self, vectors: Tensor) -> Prediction:
        """Predict the classes of ``(N, D)`` vectors, seen or unseen.

        Raises:
            InputError: the vectors have another length or a value that is not finite.
        """
        host = checked_rows("vectors", vectors)
        heads = [head.logits(host) for head in self.heads]
        joint = self.gate.joint(host, heads).astype(np.float32)
        return Prediction(*(torch.from_numpy(part) for part in (joint, heads[0], heads[-1])))


@one_thread()
def fit_discovery(
    known: Tensor,
    known_labels: Tensor,
    novel: Tensor,
    num_novel: int,
    *,
    method: str = "auto",
    seed: int = 0,
    mixed: bool = False,
    log: Callable[[str], None] = lambda line: None,
) -> VectorDiscovery:
    """Learn the known classes and find the novel ones.

    Stage 1 is logistic regression in the space whitened by the known classes. Stage 2 is
    the candidate that a contest on hidden known classes chooses
    (:func:`~crkd.stages.vectors.contest.hold_contest`), or the one asked for. No label of a novel
    vector is read anywhere.

    Without known classes, M clusters of k-means take their place in the whitening, and the method
    is :data:`WITHOUT_LABELS` unless another one is asked for.

    Args:
        known: ``(n, D)`` finite vectors of known classes; n is 0 if no class is known.
        known_labels: ``(n,)`` int64 in ``[0, K)``, each class at least once.
        novel: ``(m, D)`` finite vectors of novel classes.
        num_novel: M, from 1 to m.
        method: "auto", or a name of :data:`~crkd.stages.vectors.candidates.METHODS`.
        seed: of everything drawn. The same seed gives the same bits on the same machine.
        mixed: whether some of the novel vectors may be of known classes, although they do not look
            so. The joint prediction is then not balanced on them.
        log: receives the progress of the contest.

    Raises:
        InputError: an argument is unusable.
    """
    rows, labels = checked_known(known, known_labels)
    fresh = checked_rows("novel", novel)
    check_choice(method, num_novel, len(fresh))
    space, wide = discovery_spaces(rows, labels, fresh, num_clusters=num_novel, seed=seed)
    inputs = DiscoveryInput(fresh, num_novel, space, wide, seed)
    if method != "auto":
        contest = _asked(method)
    elif len(rows):
        shares = estimated_class_shares(inputs, seed)
        contest = hold_contest(rows, labels, shares, seed=seed, log=log)
    else:
        contest = Contest((), (), WITHOUT_LABELS, "no class is known, so no contest was held")
    fresh_head = METHODS[contest.chosen](inputs, seed)
    inside = wide.rows(rows)
    head, memory = _learned_known(wide, inside, labels)
    clusters = fresh_head.logits(fresh).argmax(axis=1)
    sizes, old = (memory.num_classes,), (inside, labels)
    gate = _gate(wide, sizes, memory, old, fresh, clusters, num_novel, mixed=mixed)
    return VectorDiscovery(space, gate, (head, fresh_head), contest)


@one_thread()
def fit_known(known: Tensor, known_labels: Tensor, unlabeled: Tensor) -> VectorDiscovery:
    """Learn the known classes alone: stage 1 without a stage 2.

    Args:
        known: ``(n, D)`` finite vectors of known classes; n is 0 if no class is known.
        known_labels: ``(n,)`` int64 in ``[0, K)``, each class at least once.
        unlabeled: ``(m, D)`` further vectors, which shape the principal components; m may be 0 if
            a class is known.

    Raises:
        InputError: an argument is unusable.
    """
    space, wide = starting_spaces(known, known_labels, unlabeled)
    rows, labels = checked_known(known, known_labels)
    head, memory = _learned_known(wide, wide.rows(rows), labels)
    gate = Gate(wide, head.weights, head.biases, (memory.num_classes,), memory)
    return VectorDiscovery(space, gate, (head,), _asked("known classes"))


@one_thread()
def further_discovery(
    found: VectorDiscovery,
    novel: Tensor,
    num_novel: int,
    *,
    method: str = "auto",
    seed: int = 0,
    mixed: bool = False,
) -> VectorDiscovery:
    """Find more classes, without a vector of those that are there.

    The space stays, and so do the heads of all old groups; of the old classes nothing is used but
    their prototypes. Rows are drawn around them, against which the gate learns the new group.

    Args:
        found: the discovery so far.
        novel: ``(m, D)`` finite vectors of further classes.
        num_novel: how many classes, from 1 to m.
        method: "auto" takes what the first discovery chose; or a name of the candidates.
        seed: of everything drawn.
        mixed: see :func:`fit_discovery`.

    Raises:
        InputError: an argument is unusable.
    """
    fresh = checked_rows("novel", novel)
    check_choice(method, num_novel, len(fresh))
    contest = found.contest if method == "auto" else _asked(method)
    gate = found.gate
    inputs = DiscoveryInput(fresh, num_novel, found.space, gate.space, seed)
    fresh_head = METHODS[contest.chosen](inputs, seed)
    old = _remembered(gate.memory, seed)
    clusters = fresh_head.logits(fresh).argmax(axis=1)
    gate = _gate(gate.space, gate.sizes, gate.memory, old, fresh, clusters, num_novel, mixed=mixed)
    return VectorDiscovery(found.space, gate, (*found.heads, fresh_head), contest)


@one_thread()
def relabeled(
    found: VectorDiscovery,
    novel: Tensor,
    labels: NDArray[np.int64],
    num_classes: int,
    known: tuple[Tensor, NDArray[np.int64]] | None = None,
    more_known: tuple[Tensor, NDArray[np.int64]] | None = None,
) -> VectorDiscovery:
    """Return the discovery with other classes in the last group, such as those of a review.

    Args:
        found: the discovery.
        novel: ``(m, D)`` vectors of the last group.
        labels: ``(m,)`` int64 new class of each, in ``[-1, num_classes)``; -1 is left out.
        num_classes: number of the new classes, each with a vector.
        known: vectors ``(n, D)`` and classes of the earlier groups; None draws them from the class
            statistics.
        more_known: further vectors ``(m', D)`` of classes of the earlier groups, such as those that
            a review puts there. The heads of their groups are fitted to these and to the known or
            drawn ones, and the class statistics remember them.
    """
    kept = labels >= 0
    fresh, clusters = checked_rows("novel", novel)[kept], labels[kept]
    inside = found.space.rows(fresh)
    head = NovelHead(found.space, *logistic_regression(inside, clusters, num_classes))
    gate = found.gate
    sizes = gate.sizes[:-1]
    memory = gate.memory.first(sum(sizes))
    if known is None:
        old = _remembered(memory, 0)
    else:
        old = (gate.space.rows(checked_rows("known", known[0])), known[1])
    heads = found.heads[:-1]
    if more_known is not None and len(more_known[1]):
        rows = gate.space.rows(checked_rows("more_known", more_known[0]))
        old = (np.concatenate([old[0], rows]), np.concatenate([old[1], more_known[1]]))
        heads = _fitted_again(gate.space, heads, *old, more_known[1])
        memory = memory.joined(rows, more_known[1])
    gate = _gate(gate.space, sizes, memory, old, fresh, clusters, num_classes)
    return VectorDiscovery(found.space, gate, (*heads, head), found.contest)


def _learned_known(
    space: WhitenedSpace, rows: Floats, labels: NDArray[np.int64]
) -> tuple[NovelHead, TiedMixtures]:
    """Return the head and the prototypes of the known classes, of their rows in the space."""
    width, count = space.projection.shape[1], int(labels.max(initial=-1)) + 1
    if count == 0:
        head = NovelHead(space, np.zeros((width, 0), np.float32), np.zeros(0, np.float32))
        return head, TiedMixtures.none(width)
    head = NovelHead(space, *logistic_regression(rows, labels, count))
    return head, TiedMixtures.fit(rows, labels, count)


def _fitted_again(
    space: WhitenedSpace,
    heads: tuple[NovelHead, ...],
    rows: Floats,
    labels: NDArray[np.int64],
    changed: NDArray[np.int64],
) -> tuple[NovelHead, ...]:
    """Return the heads; those of groups with changed classes are fitted to ``(n, k)`` rows.

    A head decides alone between the classes of its group, so it has to know what they receive.
    """
    group_of = np.repeat(np.arange(len(heads)), [head.weights.shape[1] for head in heads])
    fitted = list(heads)
    for group in np.unique(group_of[changed]):
        own, mine = np.flatnonzero(group_of == group), group_of[labels] == group
        found = logistic_regression(rows[mine], labels[mine] - own[0], len(own))
        fitted[group] = NovelHead(space, *found)
    return tuple(fitted)


def _gate(
    space: WhitenedSpace,
    sizes: tuple[int, ...],
    memory: TiedMixtures,
    old: tuple[Floats, NDArray[np.int64]],
    fresh: Floats,
    clusters: NDArray[np.int64],
    count: int,
    *,
    mixed: bool = False,
) -> Gate:
    """Return the gate of old groups and a new one.

    Args:
        space: of the gate.
        sizes: of the old groups.
        memory: of the old classes.
        old: rows of the old classes in the space, ``(n, k)``, and their classes.
        fresh: ``(m, D)`` vectors of the new group.
        clusters: ``(m,)`` class of each vector within the new group.
        count: classes of the new group.
        mixed: whether vectors of the new group may be of old classes.
    """
    before = sum(sizes)
    inside = space.rows(fresh)
    rows = np.concatenate([old[0], inside])
    labels = np.concatenate([old[1], before + clusters])
    gate = fit_gate(space, rows, labels, (*sizes, count), memory, balanced=not mixed)
    # Vectors of old classes would move the prototypes of new ones.
    kept = gate.scores(inside).argmax(axis=1) >= before if mixed else np.ones(len(inside), bool)
    kept |= not kept.any()
    fitted = TiedMixtures.fit(inside[kept], clusters[kept], count)
    return dataclasses.replace(gate, memory=memory.followed_by(fitted))


def _remembered(memory: TiedMixtures, seed: int) -> tuple[Floats, NDArray[np.int64]]:
    """Return rows of classes whose vectors are not kept, at unit length like all rows."""
    rows, labels = memory.sample(SAMPLED, seed=seed)
    return unit_rows(rows), labels


def _asked(method: str) -> Contest:
    return Contest((), (), method, "it was asked for")
