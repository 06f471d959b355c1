"""The losses of one discovery step together: traceable, and without a look at the host."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from crkd.core.types import HeadOutputs
from crkd.losses.distillation.class_relation import ClassRelation
from crkd.losses.supervised import cross_entropy
from crkd.losses.swapped_prediction import swapped_prediction
from crkd.losses.targets import joint_targets
from crkd.losses.term import DistillationInputs

LABELS = torch.tensor([0, 2, 1])
KNOWN, NOVEL, HEADS, LARGE = 4, 3, 2, 2


def step(known: torch.Tensor, novel: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """All losses of a step on ``(V, B, K)``, ``(V, H, B, M)`` and ``(V_large, B, K)`` logits."""
    num_labeled = len(LABELS)
    joint = torch.cat([known.unsqueeze(1).expand(-1, HEADS, -1, -1), novel], dim=-1)
    pseudo = novel[:LARGE, :, num_labeled:].detach().softmax(-1)
    swapped = swapped_prediction(joint, joint_targets(LABELS, pseudo, KNOWN)).mean()
    student = HeadOutputs(known[:LARGE, :, :1], known[:LARGE], novel[:LARGE])
    old = HeadOutputs(teacher[:, :, :1], teacher)
    relation = ClassRelation()(DistillationInputs(student, old, None, num_labeled))
    supervised = cross_entropy(known[:, :num_labeled], LABELS, label_smoothing=0.1)
    return swapped + 0.1 * relation + supervised


def logits() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, 8, KNOWN), (4, HEADS, 8, NOVEL), (LARGE, 8, KNOWN))
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def test_the_losses_are_one_graph_with_the_same_gradients():
    torch._dynamo.reset()
    plain, traced = logits(), logits()
    expected = step(*plain)
    ours = torch.compile(step, backend="aot_eager", fullgraph=True)(*traced)
    torch.testing.assert_close(ours, expected)
    ours.backward()
    expected.backward()
    for leaf, twin in zip(traced[:2], plain[:2], strict=True):
        torch.testing.assert_close(leaf.grad, twin.grad)
    assert traced[2].grad is None


class NoHostLook(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func not in (
            torch.ops.aten._local_scalar_dense.default,
            torch.ops.aten.nonzero.default,
        ), func
        return func(*args, **(kwargs or {}))


def test_the_losses_look_at_nothing_on_the_host():
    leaves = logits()
    with NoHostLook():
        step(*leaves).backward()
    assert all(leaf.grad.any() for leaf in leaves[:2])


def test_bfloat16_autocast_leaves_value_and_gradient_finite():
    leaves = logits()
    halves = [leaf.to(torch.bfloat16) * 10 for leaf in leaves]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = step(*halves)
    loss.backward()
    assert loss.dtype == torch.float32
    exact = step(*(half.detach().double() for half in halves))
    assert loss.item() == pytest.approx(exact.item(), rel=1e-4)
    assert all(leaf.grad.isfinite().all() for leaf in leaves[:2])
