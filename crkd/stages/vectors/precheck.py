"""Check of a discovery on vectors: whether nearly all of them may be of known classes."""

from __future__ import annotations

from typing import Final

import numpy as np

from crkd.clustering.novelty.known_or_novel import NEIGHBORS, mostly_known
from crkd.core.errors import InputError
from crkd.runs.folder import RunFolder
from crkd.stages.vectors.data import VectorData
from crkd.stages.vectors.gate import Gate
from crkd.stages.vectors.outliers import vector_test

ONLY_KNOWN: Final = 0.93
"""Least share of vectors that fit a class of the run, at which they may hold no new class. By the
threshold, at least 95 % of the run's own vectors fit."""

MOSTLY_KNOWN: Final = 0.8
"""Least estimated share of known classes at which a first discovery is remarked on. A test holds
that digits of known classes alone exceed it, and that digits of novel classes alone do not."""


def remark_on_known(data: VectorData) -> str | None:
    """Return a sentence if most unlabeled vectors look like known classes.

    A discovery would divide these classes again, and its clusters would look stable.

    Args:
        data: of a first discovery.

    Returns:
        None if they do not, if ``discover.precheck`` is off, or if there are too few labeled
        vectors for an estimate.
    """
    known, novel = data.fitted_known, data.fitted_novel
    if not data.config.discover.precheck or len(known) < NEIGHBORS[0] * max(data.num_known, 1):
        return None
    labeled, unlabeled = data.of(known).numpy(), data.of(novel).numpy()
    check = mostly_known(
        labeled, known.labels, unlabeled, least=MOSTLY_KNOWN, seed=data.config.seed
    )
    if check is None:
        return None
    return (
        f"{check.count:,} of {len(novel):,} unlabeled samples look like known classes by estimate, "
        "and a discovery divides such classes again; add --mixed, or sort the samples with predict"
    )


def check_new(parent: RunFolder, gate: Gate, data: VectorData) -> None:
    """Refuse unlabeled vectors of which nearly all fit a class of the parent.

    A discovery would only divide these classes. A vector fits if ``predict`` and ``watch`` call it
    no outlier, so they propose no step that is refused. Runs without a test of outliers are not
    checked.

    Args:
        parent: the run that is extended.
        gate: of the parent.
        data: the new vectors.

    Raises:
        InputError: nearly all vectors fit, and ``discover.precheck`` is on; or a file of the test
            is missing or damaged.
    """
    beyond = vector_test(parent, gate) if data.config.discover.precheck else None
    if beyond is None:
        return
    vectors = data.of(data.fitted_novel).numpy()
    fitting = int(np.sum(~beyond(gate.space.rows(vectors), vectors)))
    if fitting >= ONLY_KNOWN * len(vectors):
        raise InputError(
            f"{fitting:,} of {len(vectors):,} unlabeled samples fit a class that {parent.path} "
            "knows, so that no class is added; sort them with predict, or continue with "
            "--set discover.precheck=false"
        )
