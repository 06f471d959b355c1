from __future__ import annotations

import dataclasses

import pytest
import torch

from crkd.core.errors import InputError
from crkd.models.architecture import Architecture
from crkd.models.build import build_network
from crkd.models.network import absorbed
from crkd.models.weights import load_strict

SHAPE = Architecture("resnet8", 32, num_known=5, num_novel=3, num_heads=2, hidden=16, projection=8)
VIEWS = [torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))]


@pytest.mark.parametrize("head", [0, 1])
def test_novel_classes_become_known_ones_with_the_same_predictions(head: int):
    network = build_network(SHAPE, seed=1).eval()
    before = network(VIEWS).joint_logits()[:, head]
    after = absorbed(network, head)(VIEWS)
    assert after.novel_logits is None
    torch.testing.assert_close(after.known_logits, before)


def test_an_absorbed_network_opens_again_and_grows_once_more():
    first = absorbed(build_network(SHAPE, seed=1).eval(), 1)
    shape = SHAPE.absorbed()
    assert (shape.num_known, shape.num_novel, shape.groups) == (8, 0, (3,))
    again = build_network(shape)
    load_strict(again, first.state_dict())
    torch.testing.assert_close(again.eval()(VIEWS).known_logits, first(VIEWS).known_logits)

    grown = build_network(dataclasses.replace(shape, num_novel=2), seed=2)
    grown.backbone.load_state_dict(first.backbone.state_dict())
    grown.known_head.load_state_dict(first.known_head.state_dict())
    second = absorbed(grown.eval(), 0)
    assert second(VIEWS).known_logits.shape[-1] == 10
    torch.testing.assert_close(second(VIEWS).known_logits[..., :8], first(VIEWS).known_logits)


def test_training_on_new_images_leaves_the_statistics_of_old_groups_alone():
    network = absorbed(build_network(SHAPE, seed=1), 0).train()
    statistics = network.known_head.found[0].norm.running_mean.clone()
    network(VIEWS)
    assert torch.equal(network.known_head.found[0].norm.running_mean, statistics)


def test_a_joint_head_is_absorbed_as_it_is():
    joint = Architecture("resnet8", 32, num_known=5, num_novel=3, joint=True)
    network = build_network(joint).eval()
    shape = joint.absorbed()
    assert (shape.num_known, shape.groups, shape.joint) == (8, (), False)
    again = build_network(shape)
    load_strict(again, absorbed(network, 0).state_dict())
    torch.testing.assert_close(
        again.eval()(VIEWS).known_logits, network(VIEWS).joint_logits()[:, 0]
    )


@pytest.mark.parametrize("groups", [(5,), (0,), (3, 2)])
def test_groups_that_leave_no_first_class_are_refused(groups: tuple[int, ...]):
    with pytest.raises(InputError, match="groups"):
        dataclasses.replace(SHAPE, groups=groups)
