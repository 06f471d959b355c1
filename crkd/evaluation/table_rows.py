"""Rows of result tables: one score each, of a run, of its baselines and of its oracle head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from crkd.evaluation.protocol_list import PROTOCOLS
from crkd.evaluation.scores import MEASURES, Score

ORACLE: Final = "oracle"
WITHOUT_SPREAD: Final[Mapping[str, float | None]] = dict.fromkeys(MEASURES)
"""Spreads of a score without a spread over heads."""
# The oracle line comes below the main line of each of these protocols.
_WITH_ORACLE = {
    "task_aware": ("train", "novel"),
    "task_agnostic": ("test", "all"),
    "joint_hungarian": ("test", "all"),
}


@dataclass(frozen=True)
class TableRow:
    """One score.

    Attributes:
        protocol: key in :data:`crkd.evaluation.protocol_list.PROTOCOLS`.
        part: part of the data.
        group: group of images.
        method: "" for the mean over the heads of a run, "oracle", or the name of a baseline.
        score: result of :func:`crkd.evaluation.scores.score`, or its mean over heads.
        spread: measure -> standard deviation over heads; None where there is none.
    """

    protocol: str
    part: str
    group: str
    method: str
    score: Score
    spread: Mapping[str, float | None]


def table_rows(metrics: Mapping[str, Any], *, variants: bool = False) -> list[TableRow]:
    """Return the rows of a result table in its order.

    Args:
        metrics: result of :func:`crkd.evaluation.report.evaluate` or
            :func:`crkd.evaluation.any_method.evaluate_outputs`, or its JSON form.
        variants: also the protocols that are variants. They are always there if the unlabeled
            training images hold known classes (generalized category discovery).
    """
    heads = metrics["counts"]["heads"]
    # With one head there is nothing to choose.
    oracle = metrics["oracle"] if has_oracle(metrics) else None
    rows = []
    for protocol in shown_protocols(metrics, variants=variants):
        for part, group in shown_groups(metrics, protocol):
            place = (protocol, part, group)
            rows.append(TableRow(*place, "", _leaf(metrics, *place), spread_of(metrics, *place)))
            for name, baseline in metrics.get("baselines", {}).items():
                score = baseline.get(protocol, {}).get(part, {}).get(group)
                if score is not None and score["num_images"]:
                    rows.append(TableRow(*place, name, score, WITHOUT_SPREAD))
            if oracle and _WITH_ORACLE.get(protocol) == (part, group):
                rows.append(TableRow(*place, ORACLE, _leaf(oracle, *place), WITHOUT_SPREAD))
    return rows if heads else [row for row in rows if row.protocol == "supervised"]


def has_oracle(metrics: Mapping[str, Any]) -> bool:
    """Return whether a table has lines of an oracle head: there are labels to choose it by."""
    several = bool(metrics["counts"]["heads"] > 1)
    return several and metrics.get("oracle", {}).get("head") is not None


def shown_protocols(metrics: Mapping[str, Any], *, variants: bool = False) -> list[str]:
    """Return the protocols of a table, see :func:`table_rows`."""
    mixed = metrics.get("joint_hungarian", {}).get("train", {}).get("all", {}).get("num_images")
    every = variants or bool(mixed)
    # An earlier version of crkd knew fewer protocols.
    return [
        protocol
        for protocol, entry in PROTOCOLS.items()
        if protocol in metrics and (every or not entry.is_variant)
    ]


def shown_groups(metrics: Mapping[str, Any], protocol: str) -> Iterator[tuple[str, str]]:
    """Yield part and group of every row of a protocol.

    The joint head on training images has rows only where there are scores: outside of generalized
    category discovery there are none. A part without any image has no row.
    """
    for part in PROTOCOLS[protocol].parts:
        if not metrics["counts"][part]["images"]:
            continue
        for group, score in metrics.get(protocol, {}).get(part, {}).items():
            if score["num_images"] or part == "test" or protocol == "task_aware":
                yield part, group


def spread_of(
    metrics: Mapping[str, Any], protocol: str, part: str, group: str
) -> Mapping[str, float | None]:
    """Return the standard deviation over heads of every measure."""
    # All heads share the known head, and a single head has no spread.
    if protocol == "supervised" or metrics["counts"]["heads"] < 2:
        return WITHOUT_SPREAD
    groups = metrics["spread_over_heads"].get(protocol, {}).get(part, {})
    spread: Mapping[str, float | None] = groups.get(group, WITHOUT_SPREAD)
    return spread


def _leaf(tree: Mapping[str, Any], protocol: str, part: str, group: str) -> Score:
    score: Score = tree[protocol][part][group]
    return score
