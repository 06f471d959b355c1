"""The losses on plain tensors give what the terms give on one view."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from crkd import losses
from crkd.core.errors import InputError
from crkd.core.types import HeadOutputs
from crkd.losses.distillation.class_relation import class_relation
from crkd.losses.distillation.ferkd import FerKd
from crkd.losses.distillation.kd import kd
from crkd.losses.distillation.lwf import lwf
from crkd.losses.term import DistillationInputs

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


def test_ferkd_compares_labeled_and_unlabeled_samples_apart_in_any_order(logits) -> None:
    student, teacher = (tensor.detach() for tensor in logits)
    teacher = teacher * torch.where(torch.arange(32) < 12, 9.0, 1.0).unsqueeze(1)
    labels = LABELS.where(torch.arange(32) < 12, -1)
    term = FerKd()
    outputs = [HeadOutputs(torch.zeros(1, 32, 0), x.unsqueeze(0)) for x in (student, teacher)]
    wanted = term(DistillationInputs(*outputs, labels, 12))
    assert torch.equal(losses.FerKDLoss()(student, teacher, labels), wanted)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    found = losses.FerKDLoss()(student[order], teacher[order], labels[order])
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        ("FerKDLoss", {"on": "pseudo"}, "on is 'pseudo'"),
        ("VirtualTeacherLoss", {"on": "pseudo"}, "on is 'pseudo'"),
        ("FerKDLoss", {"self_mix": 0.5}, "self_mix is 0.5"),
        ("MLLDLoss", {"views": "weak_strong"}, "views is 'weak_strong'"),
    ],
)
def test_options_that_tensors_cannot_serve_are_refused(kind: str, options: dict, named: str):
    with pytest.raises(InputError, match=f"{kind}: {named}"):
        getattr(losses, kind)(**options)


def test_shapes_are_not_broadcast() -> None:
    student, one = torch.zeros(4, 5), torch.zeros(4, 1)
    for kind in ("KDLoss", "LwFLoss", "FKDLoss", "MLLDLoss", "SelfTeacherLoss"):
        with pytest.raises(InputError, match="same classes"):
            getattr(losses, kind)()(student, one)
    with pytest.raises(InputError, match="same classes"):
        losses.FerKDLoss()(student, one, torch.zeros(4, dtype=torch.int64))
    with pytest.raises(InputError, match="same classes"):
        losses.ClassRelationLoss()(student, student, one)
    with pytest.raises(InputError, match="features"):
        losses.FeatureLoss(5, 5)(student, torch.zeros(1, 5))
    with pytest.raises(InputError, match=r"MLLDLoss takes logits \(B, K\)"):
        losses.MLLDLoss()(torch.zeros(2, 4, 5), torch.zeros(2, 4, 5))


@pytest.mark.parametrize("kind", ["KDLoss", "LwFLoss", "FKDLoss", "SelfTeacherLoss"])
def test_a_class_that_the_teacher_leaves_out_does_not_count(kind: str) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 6, 5, dtype=torch.float64)
    teacher[:, 2] = -torch.inf
    probabilities = [(row / 4).softmax(dim=-1) for row in teacher]
    for hidden in (False, True):
        logits = student.clone()
        if hidden:
            logits[:, 2] = -torch.inf
        logits.requires_grad_()
        options = {} if kind == "FKDLoss" else {"temperature": 4.0}
        loss = getattr(losses, kind)(**options)(logits, teacher)
        rows = []
        for n in range(6):
            p = probabilities[n] if kind != "FKDLoss" else teacher[n].softmax(dim=-1)
            log_q = (logits[n] / (1 if kind == "FKDLoss" else 4)).log_softmax(dim=-1)
            kept = [k for k in range(5) if k != 2]
            value = -(p[kept] * log_q[kept]).sum()
            if kind in ("KDLoss", "SelfTeacherLoss"):
                value = 16 * (value + (p[kept] * p[kept].log()).sum())
            rows.append(value)
        torch.testing.assert_close(loss, torch.stack(rows).mean())
        (gradient,) = torch.autograd.grad(loss, logits)
        assert gradient.isfinite().all()


def test_a_hidden_class_is_no_class_at_all() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 6, 5, dtype=torch.float64)
    novel = torch.randn(6, 3, dtype=torch.float64)
    for hidden in (student, teacher):
        hidden[:, 4] = -torch.inf
    for form in ("cross_entropy", "kl"):
        loss = losses.ClassRelationLoss(form=form)
        wanted = loss(student[:, :4], novel, teacher[:, :4])
        torch.testing.assert_close(loss(student, novel, teacher), wanted)
    instances = losses.MLLDLoss(batch_weight=0.0, class_weight=0.0)
    wanted = instances(student[:, :4], teacher[:, :4])
    torch.testing.assert_close(instances(student, teacher), wanted)
    assert losses.MLLDLoss()(student, teacher).isfinite()


def test_nan_of_the_teacher_is_not_hidden() -> None:
    student, teacher = torch.zeros(2, 4, 5)
    teacher[0, 0] = torch.nan
    for kind in ("KDLoss", "LwFLoss", "FKDLoss", "MLLDLoss", "SelfTeacherLoss"):
        assert getattr(losses, kind)()(student, teacher).isnan()


def test_maps_are_not_broadcast(maps) -> None:
    student, teacher = maps
    first = [one[:1] for one in teacher]
    for kind in ("FitNetLoss", "SemCKDLoss", "VIDLoss"):
        loss = getattr(losses, kind)((4, 6), (5, 7))
        with pytest.raises(InputError, match=f"{kind} was given maps .* the same B samples"):
            loss(student, first)
        with pytest.raises(InputError, match=f"{kind} takes lists of maps"):
            loss(student[0], teacher)
    one_channel = student[1][:, :1]
    with pytest.raises(InputError, match="the same samples and the same width"):
        losses.SimKDLoss()([one_channel], teacher)
    srrl = losses.SRRLLoss((4, 6), 7, nn.Linear(7, 10))
    with pytest.raises(InputError, match="the same samples and the same width"):
        srrl(student[1], torch.zeros(1, 7), torch.zeros(32, 10))
    with pytest.raises(InputError, match="the same samples and the same width"):
        srrl(student[1], torch.zeros(32, 7), torch.zeros(32, 1))


def test_labels_are_not_broadcast(logits) -> None:
    student, teacher = logits
    for labels in (LABELS[:1], LABELS[:31], LABELS.float()):
        with pytest.raises(InputError, match=r"labels is torch.* one integer for each"):
            losses.FerKDLoss()(student, teacher, labels)
        with pytest.raises(InputError, match=r"labels is torch.* one integer for each"):
            losses.VirtualTeacherLoss()(student, labels)
    with pytest.raises(InputError, match="labels holds 12, but the logits have 10 classes"):
        losses.FerKDLoss()(student, teacher, LABELS.where(LABELS < 9, 12))
    assert torch.equal(
        losses.FerKDLoss()(student, teacher, LABELS.int()),
        losses.FerKDLoss()(student, teacher, LABELS),
    )


def test_other_shapes_are_named(logits) -> None:
    student, teacher = logits
    for novel in (student[:1], student[None, :1], student[0]):
        with pytest.raises(InputError, match="student_novel has the shape"):
            losses.ClassRelationLoss()(student, novel, teacher)
    with pytest.raises(InputError, match=r"features .* must be \(V, B, D\)"):
        losses.ContrastiveLoss(10)(student)


def test_missing_maps_are_named(maps) -> None:
    student, teacher = maps
    with pytest.raises(InputError, match="0 maps of the student"):
        losses.VIDLoss((4, 6), (5, 7))([], teacher)
    for kind in ("FitNetLoss", "SemCKDLoss", "VIDLoss"):
        with pytest.raises(InputError, match="stage 2, but was given 1 maps"):
            getattr(losses, kind)((4, 6), (5, 7))(student[:1], teacher)
