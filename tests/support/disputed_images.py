"""A review whose network would call some images known."""

from __future__ import annotations

import dataclasses

import numpy as np

from crkd.review.run_outputs import Evidence
from crkd.stages.forward import Outputs


def with_disputes(evidence: Evidence, rows: list[int], known: int, *, mixed: bool) -> Evidence:
    """Return the evidence with logits of one known class just above all others for some images."""
    old = evidence.outputs
    logits = old.known_logits.copy()
    logits[rows] = -5.0
    logits[rows, known] = old.novel_logits[:, rows].max(axis=(0, 2)) + 0.5
    outputs = Outputs(old.features, logits, old.novel_logits)
    config = evidence.opened.config
    config = dataclasses.replace(config, discover=dataclasses.replace(config.discover, mixed=mixed))
    opened = dataclasses.replace(evidence.opened, config=config)
    fresh = dataclasses.replace(evidence, outputs=outputs, opened=opened)
    assert (np.asarray(fresh.outputs.joint[fresh.head])[rows] == known).all()
    return fresh
