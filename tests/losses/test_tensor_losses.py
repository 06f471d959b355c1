"""The losses on plain tensors give what the terms give on one view."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from crkd import losses
from crkd.core.errors import InputError
from crkd.losses.distillation.class_relation import class_relation
from crkd.losses.distillation.kd import kd
from crkd.losses.distillation.lwf import lwf

PIXELS, DIGITS = (torch.tensor(part) for part in load_digits(return_X_y=True))
ROWS = PIXELS[:32].float() / 16
LABELS = DIGITS[:32]


@pytest.fixture
def logits() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    student, teacher = nn.Linear(64, 10), nn.Linear(64, 10)
    return student(ROWS), teacher(ROWS)


@pytest.fixture
def maps() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    torch.manual_seed(0)
    images = ROWS.view(-1, 1, 8, 8)
    student, teacher = ([nn.Conv2d(1, c, 3)(images) for c in widths] for widths in ((4, 6), (5, 7)))
    return student, teacher


def test_functions_and_modules_agree(logits) -> None:
    student, teacher = logits
    assert torch.equal(losses.KDLoss(temperature=3.0)(*logits), kd(*logits, temperature=3.0))
    assert torch.equal(losses.LwFLoss()(*logits), lwf(*logits))
    known, novel, taught = student[:, :6], student[:, 6:], teacher[:, :6]
    wanted = class_relation(known[None], novel[None, None], taught[None])
    assert torch.equal(losses.ClassRelationLoss()(known, novel, taught), wanted)
    two_heads = torch.stack([novel, -novel])
    wanted = class_relation(known[None], two_heads[None], taught[None])
    assert torch.equal(losses.ClassRelationLoss()(known, two_heads, taught), wanted)


@pytest.mark.parametrize("kind", ["KDLoss", "LwFLoss", "FKDLoss", "MLLDLoss", "SelfTeacherLoss"])
def test_logits_train_the_student_alone(logits, kind: str) -> None:
    for tensor in logits:
        tensor.retain_grad()
    getattr(losses, kind)()(*logits).backward()
    assert logits[0].grad.abs().sum() > 0
    assert logits[1].grad is None or not logits[1].grad.any() or kind == "FKDLoss"


@pytest.mark.parametrize("kind", ["FitNetLoss", "SemCKDLoss", "SimKDLoss", "VIDLoss"])
def test_maps_train_the_student(maps, kind: str) -> None:
    student, teacher = maps
    if kind == "SimKDLoss":
        loss, teacher = losses.SimKDLoss(), [*student[:1], student[1].detach() + 1]
    else:
        loss = getattr(losses, kind)((4, 6), (5, 7))
    for tensor in student:
        tensor.retain_grad()
    loss(student, teacher).backward()
    assert student[-1].grad.abs().sum() > 0


def test_the_others_train_the_student(maps, logits) -> None:
    student, teacher = logits
    head = nn.Linear(7, 10)
    features = maps[1][1].mean(dim=(2, 3))
    found = {
        "srrl": losses.SRRLLoss((4, 6), 7, head)(maps[0][1], features, head(features)),
        "features": losses.FeatureLoss(10, 10)(student, teacher),
        "contrastive": losses.ContrastiveLoss(10)(torch.stack([student, student + 0.1])),
        "ferkd": losses.FerKDLoss()(student, teacher, LABELS),
        "virtual teacher": losses.VirtualTeacherLoss()(student, LABELS),
        "top scores": losses.TopScoreLoss(10)(student),
    }
    for name, loss in found.items():
        assert loss.ndim == 0, name
        assert loss.isfinite(), name
        assert loss.requires_grad, name


def test_options_are_checked() -> None:
    with pytest.raises(InputError, match="temperature"):
        losses.KDLoss(temperature=0.0)
