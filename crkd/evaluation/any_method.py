"""Scores of the predictions of any method, under the protocols that they support."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crkd.core.errors import InputError
from crkd.evaluation.hungarian import hungarian_outcomes
from crkd.evaluation.matching import Ids, as_ids, check_range
from crkd.evaluation.predictions import MAX_CLASSES, PARTS
from crkd.evaluation.protocol_list import PROTOCOLS
from crkd.evaluation.protocols import (
    Outcome,
    fit_cluster_map,
    supervised,
    task_agnostic,
    task_aware,
)

SCHEMA_VERSION = 1
_NO_KNOWN_OUTPUT = "no output is a known class"
_NOT_MIXED = "some labeled images must be of known and some of novel classes"
_IMAGES = {"train": "training images", "test": "test images"}


def evaluate_outputs(
    prediction: ArrayLike,
    label: ArrayLike,
    *,
    num_known: int,
    part: str | Sequence[str] = "train",
    clusters_only: bool = False,
) -> dict[str, Any]:
    """Score one prediction for each image, of any method, under the protocols that it supports.

    A prediction is the argmax over all K + M outputs. Where it is a novel output, it is also the
    argmax of the novel outputs alone. A protocol of the novel head is therefore supported if every
    image that it scores has a novel output, and one of the known head if each has a known output.

    Args:
        prediction: ``(N,)`` output ids: 0 to K - 1 are the known classes in their order, the
            others are novel clusters. There may be more or fewer clusters than classes.
        label: ``(N,)`` class ids, below K for known classes; -1 if unknown.
        num_known: K; 0 for clusters without known classes.
        part: "train" (unlabeled training images) or "test"; one for all images, or N of them.
        clusters_only: ``prediction`` holds cluster ids from 0, and none of them is a known class,
            as for k-means on all images.

    Returns:
        A JSON-serializable tree.

        * ``[protocol][part][group][measure]``: what the predictions support; the measures are
          those of :func:`crkd.evaluation.scores.score`.
        * ``["sources"][protocol]``: ``title``, ``rule`` and ``source`` of these protocols.
        * ``["not_supported"]``: sentences that name all other protocols and the reason.
        * ``["counts"]``: numbers of known classes, of outputs, and of images of each part.

    Raises:
        InputError: an array has another length or type, an id is out of range, or no image has a
            label.

    >>> metrics = evaluate_outputs([0, 0, 3, 2, 3], [0, 0, 1, 1, 2], num_known=1)
    >>> metrics["joint_hungarian"]["train"]["all"]["acc"]
    0.8
    >>> metrics["not_supported"][0]
    "part 'test': no image."
    """
    outputs = _checked(prediction, label, part, num_known, clusters_only)
    outcomes, reasons = _outcomes(outputs)
    scores: dict[str, Any] = {}
    for protocol in PROTOCOLS:
        for place, outcome in outcomes[protocol].items():
            groups = {name: score for name, score in outcome.groups.items() if score["num_images"]}
            if groups:
                scores.setdefault(protocol, {})[place] = groups
    return {
        "schema_version": SCHEMA_VERSION,
        **scores,
        "sources": {
            key: {"title": entry.title, "rule": entry.rule, "source": entry.source}
            for key, entry in PROTOCOLS.items()
            if key in scores
        },
        "not_supported": _sentences(outputs, reasons),
        "counts": outputs.counts(),
    }


@dataclass(frozen=True, eq=False)
class _Outputs:
    """Checked outputs and labels.

    Attributes:
        parts: part -> output ids and class ids of its images with a label, ``(n,)`` each.
        num_images: part -> number of all its images.
        num_known: K.
        num_novel: M.
        num_classes: K + the number of true novel classes.
        num_used: number of different outputs.
        clusters_only: no output is a known class.
    """

    parts: Mapping[str, tuple[Ids, Ids]]
    num_images: Mapping[str, int]
    num_known: int
    num_novel: int
    num_classes: int
    num_used: int
    clusters_only: bool

    @property
    def sizes(self) -> dict[str, int]:
        return {"num_known": self.num_known, "num_classes": self.num_classes}

    def novel_head(self, part: str) -> tuple[Ids, Ids, str | None]:
        """Return novel outputs and classes of the novel images, and the reason why not."""
        outputs, truth = self.parts[part]
        rows = truth >= self.num_known
        outputs, novel = outputs[rows], truth[rows]
        images = f"novel {_IMAGES[part]}"
        if not len(novel):
            return outputs, novel, f"there are no labeled {images}"
        if self.clusters_only:
            reason = f"the clusters hold other images than {images}"
            return outputs, novel, None if rows.all() else reason
        known = int(np.sum(outputs < self.num_known))
        reason = (
            f"{known:,} of {len(novel):,} {images} have a known output, so the output of the novel "
            "head is not given"
        )
        return outputs - self.num_known, novel, reason if known else None

    def counts(self) -> dict[str, Any]:
        """Return the numbers of classes, outputs and images."""
        found: dict[str, Any] = {
            "known_classes": self.num_known,
            "outputs_used": self.num_used,
            "heads": 1,
        }
        for part, (_, truth) in self.parts.items():
            known = int(np.sum(truth < self.num_known))
            found[part] = {
                "images": self.num_images[part],
                "known": known,
                "novel": len(truth) - known,
                "unlabeled": self.num_images[part] - len(truth),
            }
        return found


def _checked(
    prediction: ArrayLike,
    label: ArrayLike,
    part: str | Sequence[str],
    num_known: int,
    clusters_only: bool,
) -> _Outputs:
    if not isinstance(num_known, int | np.integer) or not 0 <= num_known < MAX_CLASSES:
        raise InputError(
            f"num_known is {num_known}; it must be a whole number from 0 to {MAX_CLASSES - 1}"
        )
    num_known = int(num_known)
    outputs, truth = as_ids(prediction, "prediction"), as_ids(label, "label")
    parts: NDArray[Any] = np.full(len(outputs), part) if isinstance(part, str) else np.array(part)
    if not len(outputs) == len(truth) == len(parts):
        raise InputError(
            f"prediction, label and part have {len(outputs)}, {len(truth)} and {len(parts)} "
            "entries; give one of each an image"
        )
    check_range(outputs, MAX_CLASSES, "prediction")
    check_range(truth[truth != -1], MAX_CLASSES, "label")
    unknown = sorted({str(name) for name in parts.tolist()} - set(PARTS))
    if unknown:
        raise InputError(f"part holds {unknown[0]!r}; every entry must be one of: train, test")
    labeled = truth >= 0
    if not labeled.any():
        raise InputError("label holds no class of any image; accuracy needs at least one")
    return _Outputs(
        parts={
            name: (outputs[rows], truth[rows])
            for name in PARTS
            for rows in [labeled & (parts == name)]
        },
        num_images={name: int(np.sum(parts == name)) for name in PARTS},
        num_known=num_known,
        num_novel=max(0, 1 + int(outputs.max()) - num_known),
        num_classes=max(num_known, 1 + int(truth.max())),
        num_used=len(np.unique(outputs)),
        clusters_only=clusters_only,
    )


def _outcomes(
    table: _Outputs,
) -> tuple[dict[str, dict[str, Outcome]], dict[tuple[str, str], str]]:
    """Return the outcome of each supported protocol and part, and the reasons for the others."""
    outcomes: dict[str, dict[str, Outcome]] = {protocol: {} for protocol in PROTOCOLS}
    reasons: dict[tuple[str, str], str] = {}
    clusters = table.num_novel + (table.num_known if table.clusters_only else 0)
    for part in PARTS:
        novel, truth, reason = table.novel_head(part)
        if reason:
            reasons["task_aware", part] = reason
        else:
            outcome = task_aware(novel, truth, num_novel=clusters, **table.sizes)
            outcomes["task_aware"][part] = outcome
    outcomes |= hungarian_outcomes(table.parts, num_novel=table.num_novel, **table.sizes)
    for protocol in ("joint_hungarian", "novel_hungarian"):
        if not outcomes[protocol]["train"].groups["all"]["num_images"]:
            reasons[protocol, "train"] = _NOT_MIXED
    if table.clusters_only:
        for protocol, entry in PROTOCOLS.items():
            if entry.needs_known_outputs:
                outcomes[protocol] = {}
                reasons |= {(protocol, part): _NO_KNOWN_OUTPUT for part in entry.parts}
        return outcomes, reasons
    _fixed_outcomes(table, outcomes, reasons)
    return outcomes, reasons


def _fixed_outcomes(
    table: _Outputs,
    outcomes: dict[str, dict[str, Outcome]],
    reasons: dict[tuple[str, str], str],
) -> None:
    """Add the protocols that fit nothing to the test images."""
    outputs, truth = table.parts["test"]
    novel, novel_truth, reason = table.novel_head("train")
    frozen = None
    if reason:
        reasons["task_agnostic", "test"] = (
            f"{reason}; without the map of the novel head, only known images have a score"
        )
    else:
        frozen = fit_cluster_map(novel, novel_truth, num_novel=table.num_novel, **table.sizes)
    outcomes["task_agnostic"]["test"] = task_agnostic(outputs, truth, frozen, **table.sizes)
    known = truth < table.num_known
    elsewhere = int(np.sum(outputs[known] >= table.num_known))
    if elsewhere:
        reasons["supervised", "test"] = (
            f"{elsewhere:,} of {known.sum():,} known test images have a novel output, so the "
            "output of the known head is not given"
        )
    else:
        outcomes["supervised"]["test"] = supervised(outputs, truth, **table.sizes)


def _sentences(table: _Outputs, reasons: Mapping[tuple[str, str], str]) -> list[str]:
    """Return one sentence for each part without labels and each other reason."""
    empty = [part for part, (outputs, _) in table.parts.items() if not len(outputs)]
    places: dict[str, dict[str, list[str]]] = {}
    for (protocol, part), reason in reasons.items():
        if part not in empty:
            places.setdefault(reason, {}).setdefault(PROTOCOLS[protocol].title, []).append(part)
    sentences = [
        f"part {part!r}: no image{' has a label' if table.num_images[part] else ''}."
        for part in empty
    ]
    for part, (_, truth) in table.parts.items():
        known = truth < table.num_known
        if len(truth) and (known.all() or not known.any()):
            kind = "novel" if known.all() else "known"
            sentences.append(f"part {part!r}: no image of a {kind} class, so no group 'all'.")
    for reason, titles in places.items():
        named = ", ".join(f"{title} ({', '.join(parts)})" for title, parts in titles.items())
        sentences.append(f"{named}: {reason}.")
    return sentences
