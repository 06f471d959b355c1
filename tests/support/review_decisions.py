"""Decisions of a review, written and applied."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crkd.commands.main import run_verb
from crkd.review.class_summaries import found_classes
from crkd.review.run_outputs import Evidence


def write_decisions(
    path: Path, evidence: Evidence, classes: list[Any], images: Sequence[Any] = (), version: int = 3
) -> Path:
    content = {
        "format": "crkd-review",
        "version": version,
        "model_sha256": evidence.opened.info.model_sha256,
        "classes": classes,
        "images": list(images),
    }
    if version >= 3:
        content["shown_sha256"] = evidence.shown_sha256
    path.write_text(json.dumps(content))
    return path


def applied(
    tmp_path: Path,
    evidence: Evidence,
    *decisions: list[Any],
    flags: tuple[str, ...] = (),
    version: int = 3,
) -> Path:
    file = write_decisions(tmp_path / "decisions.json", evidence, *decisions, version=version)
    out = tmp_path / "named"
    assert (
        run_verb(
            "apply-review", [str(evidence.opened.run.path), str(file), "--out", str(out), *flags]
        )
        == 0
    )
    return out


def by_size(evidence: Evidence) -> list[int]:
    """Discovered classes, largest first."""
    found = found_classes(evidence)
    return [entry.id for entry in sorted(found, key=lambda e: -len(e.members))]
