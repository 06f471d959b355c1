"""The shape of a student."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from torch import nn

from crkd.config.schema import Config
from crkd.core.types import HeadOutputs
from crkd.losses.distillation.simkd import SimKd
from crkd.losses.term import DistillationInputs
from crkd.models.architecture import Architecture
from crkd.models.build import build_network
from crkd.models.network import Network
from crkd.runs.load import OpenedRun
from crkd.stages.distill.student import student_architecture, student_network
from tests.support.small_runs import small_config, with_term

SHAPE = Architecture("resnet8", 16, num_known=5, num_novel=3, num_heads=1, hidden=16, projection=8)


def opened(shape: Architecture) -> OpenedRun:
    return cast(
        OpenedRun, SimpleNamespace(architecture=shape, network=build_network(shape, seed=1).eval())
    )


def config_for(name: str, *settings: str) -> Config:
    return small_config(*with_term("distill", name), *settings)


def kinds(network: Network) -> list[tuple[type[nn.Module], torch.Size]]:
    """Return types and shapes of all that follows the backbone."""
    heads = [network.known_head, *filter(None, [network.novel_heads])]
    return [(type(head), weight.shape) for head in heads for weight in head.parameters()]


@pytest.mark.parametrize("name", ["tfkd_self", "tolerant"])
@pytest.mark.parametrize(
    "shape",
    [
        SHAPE,
        dataclasses.replace(SHAPE, num_novel=0),
        dataclasses.replace(SHAPE, num_novel=0, known_head="linear"),
    ],
)
def test_a_method_of_equal_networks_has_the_teachers_kind_of_head(name: str, shape: Architecture):
    teacher = opened(shape)
    config = config_for(name)
    student = student_network(
        config, student_architecture(config, teacher, SHAPE.image_size), teacher.network, 3
    )
    assert kinds(student) == kinds(teacher.network)
    assert all(parameter.requires_grad for parameter in student.parameters())
    weights = [network.known_head.state_dict() for network in (student, teacher.network)]
    assert not torch.equal(*(next(iter(each.values())) for each in weights)), "it starts afresh"


@pytest.mark.parametrize("name", ["kd", "tfkd_self"])
def test_a_given_head_is_taken_and_linear_is_the_default_of_other_methods(name: str):
    given = student_architecture(
        config_for(name, "distill.head=prototype"), opened(SHAPE), SHAPE.image_size
    )
    assert (given.known_head, given.joint) == ("prototype", True)
    assert student_architecture(config_for("kd"), opened(SHAPE), 8).known_head == "linear"


def test_simkd_pools_to_the_teachers_size_before_the_projector():
    """Value and gradient of the release: pooled, projected, compared."""
    teacher = opened(dataclasses.replace(SHAPE, backbone="resnet18"))
    config = config_for("simkd", "distill.student=resnet8")
    shape = student_architecture(config, teacher, SHAPE.image_size)
    assert (shape.projected, shape.projected_stride) == (512, 2)
    student = student_network(config, shape, teacher.network, 3).double().train()
    images = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        features, theirs = teacher.network.double().backbone.forward_with_maps(images)
    outputs = student([images], maps=True)
    target = HeadOutputs(features[None], outputs.known_logits, maps=(theirs,))
    loss = SimKd()(DistillationInputs(outputs, target))
    loss.backward()
    wanted = {key: p.grad.clone() for key, p in student.backbone.named_parameters()}
    student.zero_grad()
    _, maps = student.backbone.body.forward_with_maps(images)
    assert maps[-1].shape[-1] == 2 * theirs[-1].shape[-1] == 4
    corners = [maps[-1][:, :, y::2, x::2] for y in (0, 1) for x in (0, 1)]
    projected = student.backbone.projector(sum(corners) / 4)
    released = (projected - theirs[-1]).square().mean()
    released.backward()
    assert loss.item() == pytest.approx(released.item(), rel=1e-10)
    for key, parameter in student.backbone.named_parameters():
        torch.testing.assert_close(wanted[key], parameter.grad, msg=key)


def test_simkd_keeps_a_map_that_is_not_larger():
    teacher = opened(SHAPE)
    config = config_for("simkd", "distill.student=resnet18")
    assert student_architecture(config, teacher, SHAPE.image_size).projected_stride == 1
