"""Pseudo-labels of unlabeled images that may be of known classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from crkd.config.schema import AssignmentConfig
from crkd.core.errors import InputError
from crkd.models.heads.prototype import NovelHeads
from crkd.ot import sinkhorn
from crkd.stages.discover.mixed import class_shares, two_shares
from crkd.stages.discover.pseudo_labels import Assigner

KNOWN, NOVEL, ROWS = 3, 2, 60
CPU = torch.device("cpu")
SHARES = torch.tensor([0.1, 0.1, 0.1, 0.35, 0.35])


@pytest.fixture(scope="module")
def heads() -> NovelHeads:
    torch.manual_seed(0)
    return NovelHeads(8, NOVEL, 2, hidden=6, projection=4)


@pytest.fixture(scope="module")
def logits(heads: NovelHeads) -> torch.Tensor:
    """Joint logits ``(1, H, N, C)`` of a trained known head and of fresh novel heads."""
    draw = torch.Generator().manual_seed(1)
    rows = torch.randn(ROWS, 8, generator=draw)
    known = F.normalize(rows, dim=1) @ F.normalize(rows[:KNOWN], dim=1).T / 0.1 + 3
    novel = heads(rows).detach()
    return torch.cat([known.expand(2, -1, -1), novel], dim=-1)[None]


def test_rows_sum_to_one_and_classes_have_their_shares(
    heads: NovelHeads, logits: torch.Tensor
) -> None:
    assigner = Assigner(heads, AssignmentConfig(), CPU, shares=SHARES)
    pseudo = assigner(logits, heads.prototypes)
    assert pseudo.shape == (1, 2, ROWS, KNOWN + NOVEL)
    torch.testing.assert_close(pseudo.sum(-1), torch.ones(1, 2, ROWS))
    assert (pseudo.mean(-2) - SHARES).abs().sum(-1).max() < 0.02
    # The iterations of a novel head alone are too few.
    few = sinkhorn(0.1 * logits, epsilon=0.05, num_iters=3, class_marginal=SHARES)
    assert (few.mean(-2) - SHARES).abs().sum(-1).min() > 0.2


def test_an_estimated_prior_starts_at_the_shares(heads: NovelHeads, logits: torch.Tensor) -> None:
    settings = AssignmentConfig(prior="estimated", prior_momentum=0.5)
    assigner = Assigner(heads, settings, CPU, shares=SHARES)
    torch.testing.assert_close(assigner.prior.marginal(), SHARES.expand(2, -1))
    assigner(logits, heads.prototypes)
    moved = assigner.prior.marginal()
    assert moved[0, :KNOWN].sum() > SHARES[:KNOWN].sum() + 0.1, "predictions are of known classes"


def test_the_queue_is_refused(heads: NovelHeads) -> None:
    with pytest.raises(InputError, match="the queue keeps no features of known classes"):
        Assigner(heads, AssignmentConfig(queue=8), CPU, shares=SHARES)


def test_shares_follow_from_the_fraction_of_labeled_images() -> None:
    """Two known classes of 40 and 80 images, a quarter labeled, and 150 novel images of three."""
    shares = class_shares(np.array([10, 20]), 30 + 60 + 150, 3, 0.25)
    np.testing.assert_allclose(shares * 240, [30, 60, 50, 50, 50])


@pytest.mark.parametrize(
    ("labeled", "fraction", "expected"),
    [
        ([10, 1000], 1.0, [25, 25, 25, 25]),
        ([0, 20], 0.5, [80 / 3, 20, 80 / 3, 80 / 3]),
    ],
    ids=["own images", "a class without labeled images"],
)
def test_classes_of_unknown_size_share_the_rest(
    labeled: list[int], fraction: float, expected: list[float]
) -> None:
    shares = class_shares(np.array(labeled), 100, 2, fraction)
    np.testing.assert_allclose(100 * shares, expected)


def test_a_novel_class_is_never_empty() -> None:
    shares = class_shares(np.array([100]), 90, 2, 0.5)
    np.testing.assert_allclose(shares, np.array([100, 1, 1]) / 102)


@given(st.floats(0, 1), st.integers(1, 500), st.integers(1, 20), st.integers(1, 20))
def test_shares_of_two_kinds(known: float, images: int, num_known: int, num_novel: int) -> None:
    shares = two_shares(known, images, num_known, num_novel)
    assert shares.sum() == pytest.approx(1)
    assert (shares > 0).all()
    assert len(set(shares[:num_known])) == len(set(shares[num_known:])) == 1
    if known * images >= num_known and (1 - known) * images >= num_novel:
        assert shares[:num_known].sum() == pytest.approx(known)
