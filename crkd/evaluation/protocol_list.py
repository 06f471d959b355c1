"""The protocols of the field that crkd computes, each with its name, rule and source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

JOINT_GROUPS: Final = ("all", "known", "novel")
"""All, Old and New in the words of generalized category discovery (GCD)."""


@dataclass(frozen=True)
class Protocol:
    """One way to score predictions.

    Attributes:
        title: name in tables.
        head: logits whose argmax is scored: "novel" (M outputs), "joint" (K + M) or "known" (K).
        parts: parts of the data that are scored, each alone.
        groups: groups of images by their true class.
        rule: map from outputs to classes, one sentence.
        source: papers, and names in their releases. A version such as v1 is the end of a name
            ``split_cluster_acc_v1``.
        needs_known_outputs: outputs 0 to K - 1 must be the known classes in their order.
        is_variant: tables show it for generalized category discovery, or on request. All other
            protocols are in every table.
    """

    title: str
    head: str
    parts: tuple[str, ...]
    groups: tuple[str, ...]
    rule: str
    source: str
    needs_known_outputs: bool
    is_variant: bool = False


PROTOCOLS: Final[Mapping[str, Protocol]] = MappingProxyType(
    {
        "task_aware": Protocol(
            title="task-aware",
            head="novel",
            parts=("train", "test"),
            groups=("novel",),
            rule="One matching of the novel outputs to the novel classes, on the scored novel "
            "images.",
            source="UNO (Fini et al., ICCV 2021; unlab) and rKD (Gu et al., ICCV 2023; "
            "cluster_eval), their main results on train.",
            needs_known_outputs=False,
        ),
        "task_agnostic": Protocol(
            title="task-agnostic",
            head="joint",
            parts=("test",),
            groups=JOINT_GROUPS,
            rule="Known outputs are their classes; novel outputs have the map of the novel head on "
            "the novel training images.",
            source="FRoST (Roy et al., ECCV 2022), the frozen map; group known: UNO "
            "(incremental/lab), rKD v1.",
            needs_known_outputs=True,
        ),
        "joint_hungarian": Protocol(
            title="joint Hungarian",
            head="joint",
            parts=("train", "test"),
            groups=JOINT_GROUPS,
            rule="One matching of all outputs to all classes, on the scored images.",
            source="GCD v2 (Vaze et al., CVPR 2022; split_cluster_acc_v2); rKD v2, its result on "
            "test; group all: rKD v1.",
            needs_known_outputs=False,
        ),
        "separate_hungarian": Protocol(
            title="separate Hungarian",
            head="joint",
            parts=("train", "test"),
            groups=JOINT_GROUPS,
            rule="Two matchings of all outputs, one on the scored images of known classes, one on "
            "those of novel classes.",
            source="GCD v1 (Vaze et al., CVPR 2022; split_cluster_acc_v1); group novel: UNO "
            "(incremental/unlab), rKD v1.",
            needs_known_outputs=False,
            is_variant=True,
        ),
        "novel_hungarian": Protocol(
            title="novel Hungarian",
            head="joint",
            parts=("train", "test"),
            groups=JOINT_GROUPS,
            rule="Known outputs are their classes; novel outputs are matched to the novel classes, "
            "on the scored images.",
            source="rKD v3 (Gu et al., ICCV 2023; split_cluster_acc_v3).",
            needs_known_outputs=True,
            is_variant=True,
        ),
        "supervised": Protocol(
            title="known head alone",
            head="known",
            parts=("test",),
            groups=("known",),
            rule="None: outputs are classes.",
            source="UNO (Fini et al., ICCV 2021; lab).",
            needs_known_outputs=True,
        ),
    }
)
"""Key in ``metrics.json`` -> protocol, in the order of the tables."""
