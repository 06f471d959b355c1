from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from crkd.core.errors import InputError
from crkd.core.seeding import seeded
from crkd.models.heads.prototype import LinearHead, NovelHeads, PrototypeHead


def test_prototype_logits_by_hand():
    head = PrototypeHead(2, 3, temperature=0.5)
    with torch.no_grad():
        head.prototypes.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]))
    logits = head(torch.tensor([[3.0, 4.0]]))  # direction (0.6, 0.8)
    torch.testing.assert_close(logits, torch.tensor([[1.2, 1.6, 2.0]]))


def test_prototype_logits_are_bounded_cosines_of_any_feature_length():
    head = PrototypeHead(16, 5).double()
    features = torch.randn(7, 16, dtype=torch.float64)
    unit = features.numpy() / np.linalg.norm(features.numpy(), axis=1, keepdims=True)
    expected = unit @ head.prototypes.detach().numpy().T / 0.1
    np.testing.assert_allclose(head(features).detach().numpy(), expected, rtol=1e-12)
    torch.testing.assert_close(head(features * 1000), head(features))
    assert head(features).abs().max() <= 10 + 1e-9


def test_prototypes_start_and_end_at_length_one():
    for head in (PrototypeHead(8, 3), NovelHeads(8, 3, 2, hidden=4, projection=6)):
        torch.testing.assert_close(
            head.prototypes.norm(dim=-1), torch.ones(head.prototypes.shape[:-1])
        )
        before = head.prototypes.detach().clone()
        with torch.no_grad():
            head.prototypes.mul_(3.7)
        head.normalize_prototypes()
        torch.testing.assert_close(head.prototypes.detach(), before)


def test_linear_head_is_a_plain_linear_layer():
    head = LinearHead(4, 3)
    features = torch.randn(2, 4)
    torch.testing.assert_close(head(features), features @ head.weight.T + head.bias)


class LoopHead(nn.Module):
    """One novel head the plain way."""

    def __init__(self, heads: NovelHeads, index: int, hidden: int) -> None:
        super().__init__()
        rows = slice(index * hidden, (index + 1) * hidden)
        projection, _ = heads.projection_weight.shape[1:]
        self.mlp = nn.Sequential(
            nn.Linear(heads.hidden.in_features, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, projection),
        )
        self.last = nn.Linear(projection, heads.prototypes.shape[1], bias=False)
        with torch.no_grad():
            self.mlp[0].weight.copy_(heads.hidden.weight[rows])
            self.mlp[0].bias.copy_(heads.hidden.bias[rows])
            self.mlp[3].weight.copy_(heads.projection_weight[index])
            self.mlp[3].bias.copy_(heads.projection_bias[index])
            self.last.weight.copy_(heads.prototypes[index])

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.last(F.normalize(self.mlp(features), dim=1)) / 0.1


def test_batched_heads_equal_separate_stacks_forward_backward_and_statistics():
    hidden = 12
    heads = NovelHeads(6, 5, 3, hidden=hidden, projection=4).double()
    loop = [LoopHead(heads, index, hidden).double() for index in range(3)]
    for _ in range(2):  # two batches, so that the running statistics have a history
        features = torch.randn(9, 6, dtype=torch.float64)
        ours_in = features.clone().requires_grad_()
        theirs_in = features.clone().requires_grad_()
        ours = heads(ours_in)
        theirs = torch.stack([head(theirs_in) for head in loop])
        torch.testing.assert_close(ours, theirs)
        mix = torch.randn_like(ours)
        (ours * mix).sum().backward()
        (theirs * mix).sum().backward()
        torch.testing.assert_close(ours_in.grad, theirs_in.grad)
    for index, head in enumerate(loop):
        rows = slice(index * hidden, (index + 1) * hidden)
        pairs = [
            (heads.hidden.weight.grad[rows], head.mlp[0].weight.grad),
            (heads.hidden.bias.grad[rows], head.mlp[0].bias.grad),
            (heads.norm.weight.grad[rows], head.mlp[1].weight.grad),
            (heads.norm.bias.grad[rows], head.mlp[1].bias.grad),
            (heads.projection_weight.grad[index], head.mlp[3].weight.grad),
            (heads.projection_bias.grad[index], head.mlp[3].bias.grad),
            (heads.prototypes.grad[index], head.last.weight.grad),
            (heads.norm.running_mean[rows], head.mlp[1].running_mean),
            (heads.norm.running_var[rows], head.mlp[1].running_var),
        ]
        for ours, theirs in pairs:
            torch.testing.assert_close(ours, theirs)
    heads.eval()
    features = torch.randn(4, 6, dtype=torch.float64)
    expected = torch.stack([head.eval()(features) for head in loop])
    torch.testing.assert_close(heads(features), expected)


def test_initial_weights_are_those_of_separate_linear_layers():
    with seeded(4):
        heads = NovelHeads(6, 5, 2, hidden=8, projection=3)
    with seeded(4):
        for index in range(2):
            first, second = nn.Linear(6, 8), nn.Linear(8, 3)
            last = nn.Linear(3, 5, bias=False)
            rows = slice(8 * index, 8 * index + 8)
            assert torch.equal(heads.hidden.weight[rows], first.weight)
            assert torch.equal(heads.hidden.bias[rows], first.bias)
            assert torch.equal(heads.projection_weight[index], second.weight)
            assert torch.equal(heads.projection_bias[index], second.bias)
            torch.testing.assert_close(heads.prototypes[index], F.normalize(last.weight, dim=1))


def test_heads_differ_from_each_other_and_more_heads_leave_the_first_alone():
    with seeded(4):
        two = NovelHeads(6, 5, 2, hidden=8, projection=3)
    with seeded(4):
        three = NovelHeads(6, 5, 3, hidden=8, projection=3)
    assert torch.equal(two.prototypes, three.prototypes[:2])
    assert not torch.equal(two.prototypes[0], two.prototypes[1])


def test_projections_are_what_the_prototypes_see():
    heads = NovelHeads(6, 5, 3, hidden=8, projection=4).eval()
    features = torch.randn(7, 6)
    projections = heads.projections(features)
    assert projections.shape == (3, 7, 4)
    unit = F.normalize(projections, dim=-1)
    expected = torch.einsum("hbp,hmp->hbm", unit, heads.prototypes) / 0.1
    torch.testing.assert_close(heads(features), expected)


def test_cosines_stay_in_float32_under_bfloat16_autocast():
    torch.manual_seed(0)
    head = PrototypeHead(256, 50)
    features = F.normalize(head.prototypes[:4].detach() + 0.01 * torch.randn(4, 256), dim=1)
    exact = head.double()(features.double())
    head.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = head(features)
        naive = F.normalize(features, dim=1) @ head.prototypes.mT / head.temperature
    assert ours.dtype == torch.float32
    assert (ours - exact).abs().max() < 1e-4
    assert (naive - exact).abs().max() > 1e-2  # what the float32 product is there to avoid


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: PrototypeHead(4, 0), "num_classes is 0"),
        (lambda: PrototypeHead(4, 2, temperature=0.0), "temperature is 0.0"),
        (lambda: LinearHead(4, -1), "num_classes is -1"),
        (lambda: NovelHeads(4, 3, 0), "num_heads is 0"),
        (lambda: NovelHeads(4, 3, 1, hidden=0), "hidden is 0"),
    ],
)
def test_counts_out_of_range_are_named(make, named: str):
    with pytest.raises(InputError, match=named):
        make()


def test_prototypes_point_at_clusters():
    generator = torch.Generator().manual_seed(0)
    centers = 3 * torch.randn(3, 12, generator=generator)
    truth = torch.arange(90) % 3
    features = 5 + centers[truth] + 0.1 * torch.randn(90, 12, generator=generator)
    with seeded(0):
        heads = NovelHeads(12, 4, 2, hidden=32, projection=16)
    running, last = heads.norm.running_mean.clone(), heads.prototypes.detach()[:, 3].clone()
    heads.point_at(features, torch.stack([truth, (truth + 1) % 3]))
    torch.testing.assert_close(heads.prototypes.norm(dim=-1), torch.ones(2, 4))
    torch.testing.assert_close(heads.norm.running_mean, running)
    torch.testing.assert_close(heads.prototypes.detach()[:, 3], last)
    predictions = heads(features)[..., :3].argmax(-1)
    assert torch.equal(predictions[0], truth)
    assert torch.equal(predictions[1], (truth + 1) % 3)


def test_a_copy_of_one_head_does_not_change_the_random_state():
    heads = NovelHeads(8, 3, 2, hidden=4, projection=6)
    before = torch.get_rng_state()
    heads.single(1)
    assert torch.equal(torch.get_rng_state(), before)
