from __future__ import annotations

import pytest
import torch

from crkd.losses.targets import joint_targets


def test_two_labeled_and_one_unlabeled_by_hand():
    pseudo = torch.tensor([[[[0.25, 0.75]]], [[[0.5, 0.5]]]])  # V 2, H 1, N 1, M 2
    targets = joint_targets(torch.tensor([2, 0]), pseudo, num_known=3)
    expected = torch.tensor(
        [
            [[[0, 0, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0.25, 0.75]]],
            [[[0, 0, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0.5, 0.5]]],
        ]
    )
    assert torch.equal(targets, expected)


@pytest.mark.parametrize(("labeled", "unlabeled"), [(0, 4), (4, 0), (3, 2)])
def test_rows_sum_to_one_and_keep_to_their_side(labeled: int, unlabeled: int):
    labels = torch.arange(labeled)
    pseudo = torch.randn(2, 3, unlabeled, 5, dtype=torch.float64).softmax(-1)
    targets = joint_targets(labels, pseudo, num_known=6)
    assert targets.shape == (2, 3, labeled + unlabeled, 11)
    assert targets.dtype == pseudo.dtype
    torch.testing.assert_close(targets.sum(-1), torch.ones_like(targets[..., 0]))
    assert not targets[:, :, :labeled, 6:].any()
    assert not targets[:, :, labeled:, :6].any()
    assert torch.equal(targets[:, :, :labeled].argmax(-1), labels.expand(2, 3, -1))


def test_pseudo_labels_over_all_classes_may_be_of_known_ones():
    pseudo = torch.tensor([[[[0.5, 0.1, 0.4]]]])  # V 1, H 1, N 1, C 3
    targets = joint_targets(torch.tensor([1]), pseudo, num_known=2, all_classes=True)
    assert torch.equal(targets, torch.tensor([[[[0.0, 1.0, 0.0], [0.5, 0.1, 0.4]]]]))
    torch.testing.assert_close(targets.sum(-1), torch.ones(1, 1, 2))
