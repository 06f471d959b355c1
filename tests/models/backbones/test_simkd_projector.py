from __future__ import annotations

import pytest
import torch

from crkd.core.errors import InputError
from crkd.models.architecture import Architecture
from crkd.models.backbones.build import build_backbone
from crkd.models.backbones.simkd_projector import ProjectedBackbone
from crkd.models.build import build_network
from crkd.models.network import with_one_head

SHAPE = Architecture("resnet8", 32, num_known=5, num_novel=3, num_heads=2, hidden=16, projection=8)


def test_a_projected_feature_is_the_mean_of_the_projected_map():
    backbone = ProjectedBackbone(build_backbone("resnet8", image_size=32), 128).eval()
    features, maps = backbone.forward_with_maps(torch.randn(4, 3, 32, 32))
    assert features.shape == (4, 128)
    assert [m.shape[1] for m in maps] == [16, 32, 128] == list(backbone.map_channels)
    torch.testing.assert_close(features, maps[-1].mean(dim=(2, 3)))


def test_the_projector_of_a_256_channel_pair_has_the_published_size():
    body = build_backbone("resnet8x4", image_size=32)
    backbone = ProjectedBackbone(body, 256)
    count = sum(p.numel() for p in backbone.projector.parameters())
    assert count == 214_016


def test_a_projector_needs_maps():
    body = build_backbone("timm:test_vit", image_size=32)
    body.map_channels = ()
    with pytest.raises(InputError, match="feature map"):
        ProjectedBackbone(body, 64)


@pytest.mark.parametrize("head", [0, 1])
def test_one_head_alone_predicts_as_it_did_among_others(head: int):
    network = build_network(SHAPE, seed=3).train()
    views = [torch.randn(6, 3, 32, 32)]
    network(views)  # batch norm statistics of its own for each channel
    network.eval()
    alone = with_one_head(network, head)(views)
    torch.testing.assert_close(alone.novel_logits[:, 0], network(views).novel_logits[:, head])
    torch.testing.assert_close(alone.known_logits, network(views).known_logits)


def test_a_joint_head_is_divided_into_known_and_novel_columns():
    joint = Architecture("resnet8", 32, num_known=5, num_novel=3, joint=True)
    network = build_network(joint).eval()
    views = [torch.randn(2, 3, 32, 32)]
    outputs = network(views)
    assert outputs.known_logits.shape == (1, 2, 5)
    assert outputs.novel_logits.shape == (1, 1, 2, 3)
    whole = network.known_head(network.backbone(views[0]))
    torch.testing.assert_close(outputs.joint_logits()[0, 0], whole)


def test_an_architecture_survives_its_file():
    assert Architecture.from_plain(SHAPE.plain(), "run.json") == SHAPE


@pytest.mark.parametrize(
    "change", [{"num_known": "5"}, {"joint": 1}, {"temperature": "1"}, {"extra": 1}]
)
def test_a_foreign_architecture_is_refused(change: dict[str, object]):
    with pytest.raises(InputError, match=r"run\.json"):
        Architecture.from_plain({**SHAPE.plain(), **change}, "run.json")


@pytest.mark.parametrize(("size", "side"), [(32, 4), (28, 4), (16, 2)])
def test_a_stride_shrinks_the_map_before_the_projector(size: int, side: int):
    body = build_backbone("resnet8", image_size=32)
    backbone = ProjectedBackbone(body, 128, stride=2).eval()
    _, maps = backbone.forward_with_maps(torch.randn(2, 3, size, size))
    assert maps[-1].shape == (2, 128, side, side)


def test_older_architectures_have_no_stride():
    older = {k: v for k, v in SHAPE.plain().items() if k != "projected_stride"}
    assert Architecture.from_plain(older, "run.json") == SHAPE
    with pytest.raises(InputError, match="projected_stride is 0"):
        Architecture.from_plain({**older, "projected_stride": 0}, "run.json")
