from __future__ import annotations

import pytest
import torch

from crkd.core.errors import InputError
from crkd.ot import sinkhorn
from crkd.ot.queue import FeatureQueue


def ring_of(queue: FeatureQueue) -> list[float]:
    return sorted(queue.scores(torch.ones(1, 1, 1)).flatten().tolist())


def test_the_oldest_features_give_way() -> None:
    queue = FeatureQueue(1, 5, 1)
    for start in (1, 4, 7):
        queue.push(torch.arange(start, start + 3.0).reshape(1, 3, 1))
    assert ring_of(queue) == [5, 6, 7, 8, 9]


def test_a_batch_larger_than_the_queue_leaves_its_end() -> None:
    queue = FeatureQueue(1, 3, 1)
    queue.push(torch.arange(2.0).reshape(1, 2, 1))
    queue.push(torch.arange(10.0).reshape(1, 10, 1))
    assert ring_of(queue) == [7, 8, 9]


def test_an_empty_queue_changes_no_assignment() -> None:
    torch.manual_seed(0)
    features, prototypes = torch.randn(2, 12, 4), torch.randn(2, 3, 4)
    scores = (features @ prototypes.mT).expand(2, 2, 12, 3)
    queue = FeatureQueue(2, 20, 4)
    extended = queue.extend(scores, prototypes)
    assert extended.shape == (2, 2, 32, 3)
    result = sinkhorn(extended, epsilon=0.5, num_iters=3)[..., :12, :]
    torch.testing.assert_close(
        result, sinkhorn(scores, epsilon=0.5, num_iters=3), atol=1e-5, rtol=0
    )


def test_a_full_queue_represents_the_whole_data() -> None:
    """A batch of one class alone is torn apart, unless the queue shows the others."""
    torch.manual_seed(0)
    prototypes = torch.eye(2)[None]
    batch = torch.tensor([[1.0, 0.0]]).expand(1, 8, 2) + 0.05 * torch.randn(1, 8, 2)
    queue = FeatureQueue(1, 64, 2)
    kinds = torch.eye(2).repeat_interleave(32, 0)[None] + 0.05 * torch.randn(1, 64, 2)
    queue.push(kinds)
    scores = batch @ prototypes.mT
    alone = sinkhorn(scores, epsilon=0.05, num_iters=50)
    with_queue = sinkhorn(queue.extend(scores, prototypes), epsilon=0.05, num_iters=50)[:, :8]
    assert float(alone[..., 0].mean()) < 0.6
    assert float(with_queue[..., 0].min()) > 0.95


def test_state_survives_a_checkpoint() -> None:
    queue = FeatureQueue(1, 4, 1)
    queue.push(torch.arange(3.0).reshape(1, 3, 1))
    other = FeatureQueue(1, 4, 1)
    other.load_state_dict(queue.state_dict())
    for one in (queue, other):
        one.push(torch.tensor([[[8.0], [9.0]]]))
    assert ring_of(queue) == ring_of(other) == [1, 2, 8, 9]


def test_a_queue_without_places_is_a_mistake() -> None:
    with pytest.raises(InputError, match="size must be at least 1, got 0"):
        FeatureQueue(1, 0, 4)


def test_autocast_has_no_effect_on_the_scores() -> None:
    torch.manual_seed(0)
    queue = FeatureQueue(1, 4, 16)
    queue.push(torch.randn(1, 4, 16))
    prototypes = torch.randn(1, 3, 16)
    with torch.autocast("cpu", torch.bfloat16):
        scores = queue.scores(prototypes)
    assert torch.equal(scores, queue.scores(prototypes))
