from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from crkd.core.errors import InputError
from crkd.core.types import HeadOutputs
from crkd.losses.distillation.srrl import Srrl
from crkd.losses.term import DistillationInputs, TermContext, build_term
from crkd.models.heads.prototype import LinearHead, PrototypeHead

CHANNELS, FEATURES, KNOWN = (2, 3), 5, 4


def head_for(kind: str) -> nn.Module:
    torch.manual_seed(7)
    head = LinearHead(FEATURES, KNOWN) if kind == "linear" else PrototypeHead(FEATURES, KNOWN)
    return head.double()


def term_for(head: nn.Module | None = None, **options: object) -> Srrl:
    head = head_for("linear") if head is None else head
    torch.manual_seed(0)
    term = Srrl(CHANNELS, FEATURES, head, **options).double()
    with torch.no_grad():
        term.connector.norm.weight.uniform_(0.5, 1.5)
        term.connector.norm.bias.uniform_(-0.5, 0.5)
    return term


def student_maps(
    seed: int = 0, rows: int = 3, channels: tuple[int, ...] = CHANNELS
) -> list[list[torch.Tensor]]:
    make = torch.Generator().manual_seed(seed)
    return [
        [
            torch.randn(rows, c, 4 >> stage, 4 >> stage, generator=make, dtype=torch.float64)
            .relu()
            .requires_grad_()
            for stage, c in enumerate(channels)
        ]
        for _ in range(2)
    ]


def student_outputs(maps: list[list[torch.Tensor]]) -> HeadOutputs:
    rows = len(maps[0][0])
    views = tuple(tuple(view) for view in maps)
    return HeadOutputs(torch.zeros(2, rows, 3), torch.zeros(2, rows, KNOWN), maps=views)


def teacher_outputs(head: nn.Module, rows: int = 3) -> HeadOutputs:
    make = torch.Generator().manual_seed(1)
    features = torch.randn(2, rows, FEATURES, generator=make, dtype=torch.float64).abs()
    logits = head(features.flatten(0, 1)).view(2, rows, KNOWN).detach()
    return HeadOutputs(features.requires_grad_(), logits.requires_grad_())


def formula(
    maps: np.ndarray,
    teacher: HeadOutputs,
    parts: dict[str, np.ndarray],
    head: dict[str, np.ndarray],
    weight: float,
    relu: bool = True,
) -> float:
    """Feature matching and logit matching, written out for maps of views times rows."""
    mixed = np.einsum("oc,nchw->nohw", parts["conv"], maps)
    mean = mixed.mean(axis=(0, 2, 3), keepdims=True)
    variance = ((mixed - mean) ** 2).mean(axis=(0, 2, 3), keepdims=True)
    normed = (mixed - mean) / np.sqrt(variance + 1e-5)
    normed = normed * parts["weight"][:, None, None] + parts["bias"][:, None, None]
    s = (np.maximum(normed, 0) if relu else normed).mean(axis=(2, 3))
    if "prototypes" in head:
        logits = s / np.linalg.norm(s, axis=1, keepdims=True) @ head["prototypes"].T / 0.1
    else:
        logits = s @ head["weight"].T + head["bias"]
    h = teacher.features.detach().numpy().reshape(-1, FEATURES)
    z = teacher.known_logits.detach().numpy().reshape(-1, KNOWN)
    return float(((s - h) ** 2).mean() + weight * ((logits - z) ** 2).mean())


@pytest.mark.parametrize("kind", ["linear", "prototype"])
@pytest.mark.parametrize("options", [{}, {"regression_weight": 5.0, "relu": False}])
def test_value_and_gradient_against_the_formula(kind: str, options: dict):
    head, maps = head_for(kind), student_maps()
    teacher, term = teacher_outputs(head), term_for(head, **options)
    loss = term(DistillationInputs(student_outputs(maps), teacher))
    loss.backward()
    connector = term.connector
    parameters = {
        "conv": connector.conv.weight,
        "weight": connector.norm.weight,
        "bias": connector.norm.bias,
    }
    arrays = {name: p.detach().numpy().copy() for name, p in parameters.items()}
    arrays["conv"] = arrays["conv"][:, :, 0, 0]
    gradients = {name: p.grad.numpy() for name, p in parameters.items()}
    gradients["conv"] = gradients["conv"][:, :, 0, 0]
    gradients["maps"] = np.concatenate([view[-1].grad.numpy() for view in maps])
    last = np.concatenate([view[-1].detach().numpy() for view in maps])
    frozen = {name: value.numpy() for name, value in head.state_dict().items()}

    def value() -> float:
        weight = options.get("regression_weight", 1.0)
        return formula(last, teacher, arrays, frozen, weight, options.get("relu", True))

    assert loss.item() == pytest.approx(value(), rel=1e-10)
    rng, step = np.random.default_rng(0), 1e-6
    for name, array in (*arrays.items(), ("maps", last)):
        for flat in rng.choice(array.size, size=min(10, array.size), replace=False):
            index = np.unravel_index(flat, array.shape)
            kept, values = array[index], []
            for shift in (step, -step):
                array[index] = kept + shift
                values.append(value())
            array[index] = kept
            numeric = (values[0] - values[1]) / (2 * step)
            assert gradients[name][index] == pytest.approx(numeric, rel=1e-5, abs=1e-6)


def test_zero_where_the_student_is_the_teacher_and_the_connector_the_identity():
    head = head_for("linear")
    maps = student_maps(channels=(2, FEATURES))
    term = Srrl((2, FEATURES), FEATURES, head).double().eval()
    nn.init.dirac_(term.connector.conv.weight)
    term.connector.norm.running_var.fill_(1 - term.connector.norm.eps)
    features = torch.stack([view[-1].detach().mean(dim=(2, 3)) for view in maps])
    same = HeadOutputs(features, head(features).detach())
    loss = term(DistillationInputs(student_outputs(maps), same))
    assert loss.item() == pytest.approx(0, abs=1e-20)
    shifted = same._replace(known_logits=same.known_logits + 2)
    assert term(DistillationInputs(student_outputs(maps), shifted)).item() == pytest.approx(4)


@pytest.mark.parametrize("kind", ["linear", "prototype"])
def test_gradients_pass_through_the_classifier_and_none_stays_in_it(kind: str):
    head = head_for(kind)
    teacher = teacher_outputs(head)
    gradients = []
    for weight in (0.0, 1.0):
        maps = student_maps()
        term = term_for(head, regression_weight=weight)
        term(DistillationInputs(student_outputs(maps), teacher, None, 1)).backward()
        gradients.append(torch.cat([view[-1].grad for view in maps]))
        assert all(view[0].grad is None for view in maps)
        assert all(p.grad is None for p in (*head.parameters(), *term.teacher_head.parameters()))
    through_the_head = gradients[1] - gradients[0]
    assert through_the_head.flatten(1).any(dim=1).all()
    assert teacher.features.grad is None
    assert teacher.known_logits.grad is None
    # The teacher itself is left as it was, trainable or not.
    assert all(p.requires_grad for p in head.parameters())


def test_the_classifier_is_a_frozen_copy_in_evaluation_mode():
    head = nn.Sequential(nn.Dropout(0.9), head_for("linear"))
    term = term_for(head).train()
    assert term.connector.norm.training
    assert not any(module.training for module in term.teacher_head.modules())
    features = torch.ones(2, FEATURES, dtype=torch.float64)
    before = term.teacher_head(features)
    with torch.no_grad():
        head[1].weight.zero_()
    assert torch.equal(term.teacher_head(features), before)


def test_one_step_changes_every_parameter_it_trains_and_not_the_classifier():
    head = head_for("linear")
    term = term_for(head)
    before = copy.deepcopy(term.state_dict())
    trained = {name: p for name, p in term.named_parameters() if p.requires_grad}
    assert all(name.startswith("connector.") for name in trained)
    assert len(trained) == 3
    inputs = DistillationInputs(student_outputs(student_maps()), teacher_outputs(head))
    optimizer = torch.optim.SGD(trained.values(), lr=0.05)
    first = term(inputs)
    first.backward()
    optimizer.step()
    for name, value in term.state_dict().items():
        if name in trained:
            assert (value != before[name]).any(), name
        elif name.startswith("teacher_head."):
            assert torch.equal(value, before[name]), name
    assert term(inputs) < first


def test_where_it_applies_and_its_options():
    context = TermContext(KNOWN, 3, FEATURES, CHANNELS, (4, FEATURES), head_for("linear"))
    for stage in ("discover", "distill"):
        term = build_term("srrl", stage=stage, context=context)
        assert isinstance(term, Srrl)
        assert term.regression_weight == 1.0
        assert term.connector.conv.weight.shape == (FEATURES, 3, 1, 1)

    def refused(message: str, context: TermContext = context, **options: object) -> None:
        with pytest.raises(InputError, match=message):
            build_term("srrl", stage="discover", context=context, options=options)

    for weight in (-1.0, math.nan, math.inf):
        refused("srrl: regression_weight is", regression_weight=weight)
    refused("teacher's classifier, and this teacher has none", context._replace(teacher_head=None))
    refused("last feature map, and this backbone has none", context._replace(student_channels=()))


def test_the_published_number_of_parameters():
    term = Srrl((64, 128, 256), 256, nn.Linear(256, 100))
    assert sum(p.numel() for p in term.connector.parameters()) == 66048
