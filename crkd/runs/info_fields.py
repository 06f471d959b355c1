"""Types and ranges of the entries of ``run.json``; run folders are untrusted input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from crkd.core.fields import (
    ANYTHING,
    DIGEST,
    Allowed,
    block,
    list_of,
    number,
    one_of,
    path_text,
    text,
    whole,
)

KINDS: Final = ("supervised", "discovered", "distilled", "baseline")
STATUSES: Final = ("running", "interrupted", "failed", "complete")

MAX_CLASSES: Final = 100_000
MAX_HEADS: Final = 1_000
MAX_SIDE: Final = 1 << 16
"""Largest image side in pixels, and largest length of a vector."""
MAX_NOTE: Final = 1 << 20

_SIDE: Final = whole(1, MAX_SIDE)
_NOTES: Final = list_of(text(MAX_NOTE), 0, 10_000)

FIELDS: Final[Mapping[str, Allowed]] = {
    "kind": one_of(*KINDS),
    "status": one_of(*STATUSES),
    "dataset": text(),
    "split": block(dict.fromkeys(("name", "fingerprint", "known"), text()), text()),
    "classes": Allowed(
        lambda v: isinstance(v, list) and len(v) <= MAX_CLASSES,
        f"a list of at most {MAX_CLASSES} classes",
    ),
    "preprocessing": block(
        {
            "image_size": _SIDE,
            "mean": list_of(number(-1e6, 1e6), 1, MAX_SIDE),
            "std": list_of(number(1e-12, 1e6), 1, MAX_SIDE),
        }
    ),
    "architecture": block({}, ANYTHING).or_null(),
    "chosen_head": whole(0, MAX_HEADS - 1).or_null(),
    "seed": whole(-(2**63), 2**63 - 1),
    "provenance": block({}, ANYTHING),
    "parent": block({"path": path_text(), "model_sha256": text(64).or_null()}, ANYTHING).or_null(),
    "model_sha256": DIGEST.or_null(),
    "notes": _NOTES,
    "started": text(100),
    "finished": text(100).or_null(),
    "seconds": number(0.0, 1e12),
    "schema_version": ANYTHING,
    "embedding": block({}, ANYTHING).or_null(),
    "baseline": text(100).or_null(),
    "own_notes": _NOTES,
}
OPTIONAL: Final = frozenset(
    (
        *("parent", "model_sha256", "notes", "started", "finished", "seconds"),
        *("embedding", "baseline", "own_notes"),
    )
)
"""Entries that older runs lack."""
