"""The discovery step written plainly: loops over views, heads and assignment problems.

What is fast in crkd is written here the long way round, as released code does. It is what the
benchmark's speed is compared with, and what the tests compare the losses with.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crkd.config.schema import DiscoverConfig
from crkd.models.heads.prototype import NovelHeads
from crkd.models.network import Network

Rows = list[Tensor]
"""One tensor a view."""


class PlainHead(nn.Module):
    """One novel head with weights of its own, taken out of the stacked ones."""

    def __init__(self, heads: NovelHeads, number: int) -> None:
        super().__init__()
        width = len(heads.hidden.bias) // heads.num_heads
        rows = slice(number * width, (number + 1) * width)
        self.temperature = heads.temperature
        self.hidden = nn.Linear(heads.hidden.in_features, width)
        self.norm = nn.BatchNorm1d(width)
        self.projection = nn.Linear(width, heads.projection_weight.shape[1])
        self.prototypes = nn.Parameter(heads.prototypes[number].detach().clone())
        with torch.no_grad():
            self.hidden.weight.copy_(heads.hidden.weight[rows])
            self.hidden.bias.copy_(heads.hidden.bias[rows])
            self.projection.weight.copy_(heads.projection_weight[number])
            self.projection.bias.copy_(heads.projection_bias[number])

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(B, M)`` logits of ``(B, D)`` features."""
        projected = self.projection(F.relu(self.norm(self.hidden(features))))
        return F.normalize(projected, dim=1) @ self.prototypes.T / self.temperature


class PlainDiscovery(nn.Module):
    """Student, teacher and step of class-relation distillation, with no thought of speed.

    Args:
        network: the student to copy, with novel heads and a prototype head.
        teacher: the frozen stage-1 network to copy.
        settings: of the discovery, with the class-relation term alone.
        joint_forward: pass views of one size through the network as one batch, so that batch norm
            sees what it sees in :class:`Network`; else view after view, as released code does.
    """

    def __init__(
        self,
        network: Network,
        teacher: Network,
        settings: DiscoverConfig,
        *,
        joint_forward: bool = False,
    ) -> None:
        super().__init__()
        assert network.novel_heads is not None
        self.settings, self.joint_forward = settings, joint_forward
        self.temperature = network.novel_heads.temperature
        self.backbone = copy.deepcopy(network.backbone)
        self.known_head = copy.deepcopy(network.known_head)
        self.heads = nn.ModuleList(
            PlainHead(network.novel_heads, h) for h in range(network.novel_heads.num_heads)
        )
        self.teacher = copy.deepcopy(teacher).eval()
        optimizer = settings.optimizer
        trained = [p for p in self.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(
            trained,
            lr=optimizer.lr,
            momentum=optimizer.momentum,
            weight_decay=optimizer.weight_decay,
            foreach=False,
        )

    def losses(self, views: Sequence[Tensor], labels: Tensor, num_labeled: int) -> Tensor:
        """Return the loss of a batch, labeled rows first."""
        known, novel = self._forward(views)
        num_known = known[0].shape[1]
        total = known[0].new_zeros(())
        for head in range(len(self.heads)):
            joint = [torch.cat([k, n], dim=1) for k, n in zip(known, novel[head], strict=True)]
            total = total + self._swapped(joint, novel[head], labels, num_labeled, num_known)
        loss = total / len(self.heads)
        (term,) = self.settings.distillation
        assert term.weight is not None, "the plain step wants the weight as a number"
        return loss + term.weight * self._class_relation(views, known, novel, num_labeled)

    def step(self, views: Sequence[Tensor], labels: Tensor, num_labeled: int, rate: float) -> float:
        """Train on a batch and return its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self.losses(views, labels, num_labeled)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        with torch.no_grad():
            for head in [self.known_head, *self.heads]:
                head.prototypes.copy_(F.normalize(head.prototypes, dim=1))
        return loss.item()

    def _forward(self, views: Sequence[Tensor]) -> tuple[Rows, list[Rows]]:
        """Return known logits of each view, and novel logits of each head and view."""
        if not self.joint_forward:
            features = [self.backbone(view) for view in views]
            novel = [[head(rows) for rows in features] for head in self.heads]
        else:
            features = []
            for size in dict.fromkeys(view.shape[-1] for view in views):
                same = [view for view in views if view.shape[-1] == size]
                features += self.backbone(torch.cat(same)).chunk(len(same))
            together = torch.cat(features)
            novel = [list(head(together).chunk(len(views))) for head in self.heads]
        return [self.known_head(rows) for rows in features], novel

    def _swapped(
        self, joint: Rows, novel: Rows, labels: Tensor, num_labeled: int, num_known: int
    ) -> Tensor:
        """Every large view's target is predicted from every other view."""
        num_large = self.settings.num_large
        total = joint[0].new_zeros(())
        for a in range(num_large):
            target = torch.zeros_like(joint[a])
            target[:num_labeled, :num_known] = F.one_hot(labels[:num_labeled], num_known).to(target)
            target[num_labeled:, num_known:] = self._assign(novel[a][num_labeled:].detach())
            for v in range(len(joint)):
                if v != a:
                    total = total - (target * joint[v].log_softmax(dim=1)).sum(dim=1).mean()
        return total / (num_large * (len(joint) - 1))

    def _assign(self, logits: Tensor) -> Tensor:
        """Return the pseudo-labels ``(N, M)`` of one view and head by Sinkhorn's iterations."""
        settings = self.settings.assignment
        plan = (logits * self.temperature / settings.epsilon).exp().T
        plan = plan / plan.sum()
        num_classes, num_samples = plan.shape
        for _ in range(settings.num_iters):
            plan = plan / plan.sum(dim=1, keepdim=True) / num_classes
            plan = plan / plan.sum(dim=0, keepdim=True) / num_samples
        return (plan * num_samples).T

    def _class_relation(
        self, views: Sequence[Tensor], known: Rows, novel: list[Rows], num_labeled: int
    ) -> Tensor:
        """Cross-entropy with the teacher's known classes, weighted by the known mass."""
        temperature = 4.0
        errors, masses = [], []
        for v in range(self.settings.num_large):
            with torch.no_grad():
                taught = self.teacher([views[v][num_labeled:]]).known_logits[0]
            p = (taught / temperature).softmax(dim=1)
            student = known[v][num_labeled:] / temperature
            error = -(p * student.log_softmax(dim=1)).sum(dim=1)
            for head in novel:
                joint = torch.cat([student, head[v][num_labeled:] / temperature], dim=1)
                errors.append(error)
                masses.append(joint.softmax(dim=1)[:, : student.shape[1]].sum(dim=1))
        error, mass = torch.cat(errors), torch.cat(masses)
        return temperature**2 * (error * mass / mass.mean()).mean()
