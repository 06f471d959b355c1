from __future__ import annotations

from functools import partial

import pytest
import torch
import torchvision
from torch import Tensor
from torch.nn import functional as F

from crkd.core.errors import InputError
from crkd.models.backbones.base import BACKBONES, Backbone
from crkd.models.backbones.build import build_backbone
from crkd.models.backbones.cifar_resnet import CifarResNet

VIT = "timm:test_vit"


def num_parameters(name: str, num_classes: int = 100, image_size: int = 32) -> int:
    backbone = build_backbone(name, image_size=image_size)
    classifier = (backbone.num_features + 1) * num_classes
    return classifier + sum(p.numel() for p in backbone.parameters())


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("resnet20", 0.28),
        ("resnet32", 0.47),
        ("resnet56", 0.86),
        ("resnet110", 1.74),
        ("resnet8x4", 1.23),
        ("resnet32x4", 7.43),
    ],
)
def test_published_parameter_counts_with_a_100_class_linear_head(name: str, millions: float):
    assert round(num_parameters(name) / 1e6, 2) == millions


def test_resnet8_parameter_count_from_the_layer_list():
    def conv(cin: int, cout: int, side: int) -> int:
        return cin * cout * side**2 + 2 * cout  # the batch norm behind it

    expected = conv(3, 16, 3) + 2 * conv(16, 16, 3)
    for cin, cout in ((16, 32), (32, 64)):
        expected += conv(cin, cout, 3) + conv(cout, cout, 3) + conv(cin, cout, 1)
    assert num_parameters("resnet8", num_classes=100) == expected + 65 * 100


def test_resnet18_above_64_pixels_is_the_one_of_torchvision():
    ours = build_backbone("resnet18", image_size=224).eval()
    theirs = torchvision.models.resnet18()
    theirs.fc = torch.nn.Identity()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 70, 66)
    torch.testing.assert_close(ours(images), theirs.eval()(images), rtol=1e-5, atol=1e-5)


def reference_norm(state: dict[str, Tensor], x: Tensor, name: str) -> Tensor:
    """Batch norm in evaluation mode."""
    mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    shape = (1, -1, 1, 1)
    scaled = (x - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt()
    return scaled * weight.view(shape) + bias.view(shape)


def reference_resnet8(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """The 8-layer net in evaluation mode, written out layer by layer from the paper."""

    norm = partial(reference_norm, state)
    x = norm(F.conv2d(images, state["conv1.weight"], padding=1), "bn1").clamp(min=0)
    for layer, stride in ((1, 1), (2, 2), (3, 2)):
        name = f"layer{layer}.0"
        y = F.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1)
        y = norm(y, f"{name}.bn1").clamp(min=0)
        y = norm(F.conv2d(y, state[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
        if stride == 2:
            x = F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=2)
            x = norm(x, f"{name}.downsample.1")
        x = (x + y).clamp(min=0)
    return x.flatten(2).mean(dim=2)


def test_resnet8_computes_what_the_paper_draws():
    backbone = build_backbone("resnet8", image_size=32, seed=5).double()
    images = torch.randn(4, 3, 20, 20, dtype=torch.float64)
    backbone(images)  # fills the running statistics with something that is not 0 and 1
    backbone.eval()
    expected = reference_resnet8(backbone.state_dict(), images)
    torch.testing.assert_close(backbone(images), expected, rtol=1e-10, atol=1e-10)


def test_fast_resnet_is_a_strided_stem_and_convolutions_with_the_input_added_to_all_but_the_first():
    backbone = build_backbone("fast_resnet", image_size=32, seed=5).double()
    images = torch.randn(4, 3, 24, 24, dtype=torch.float64)
    backbone(images)
    state = backbone.eval().state_dict()
    norm = partial(reference_norm, state)
    x = norm(F.conv2d(images, state["stem.weight"], stride=2, padding=1), "norm").clamp(min=0)
    for stage, stride, depth in ((1, 1, 1), (2, 2, 2), (3, 2, 2)):
        for number in range(depth):
            name = f"stage{stage}.convs.{number}.weight"
            y = F.conv2d(x, state[name], stride=1 if number else stride, padding=1)
            y = norm(y, f"stage{stage}.norms.{number}")
            x = (x + y if number else y).clamp(min=0)
    expected = x.flatten(2).mean(dim=2)
    torch.testing.assert_close(backbone(images), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "name",
    [
        "resnet8",
        "resnet8x4",
        "fast_resnet",
        "resnet18",
        VIT,
        "timm:resnet10t",
        "timm:mobilenetv3_small_050",
    ],
)
@pytest.mark.parametrize("side", [16, 18, 32])
def test_every_side_passes_and_the_maps_have_the_stated_channels(name: str, side: int):
    backbone = build_backbone(name, image_size=32).eval()
    images = torch.randn(2, 3, side, side)
    features, maps = backbone.forward_with_maps(images)
    assert features.shape == (2, backbone.num_features)
    assert tuple(m.shape[1] for m in maps) == backbone.map_channels
    assert len(maps) >= 1
    torch.testing.assert_close(backbone(images), features)


@pytest.mark.parametrize(
    ("name", "sides"),
    [("resnet20", [32, 16, 8]), ("fast_resnet", [16, 8, 4]), ("resnet18", [32, 16, 8, 4])],
)
def test_maps_halve_from_stage_to_stage_and_end_in_the_features(name: str, sides: list[int]):
    backbone = build_backbone(name, image_size=32).eval()
    features, maps = backbone.forward_with_maps(torch.randn(2, 3, 32, 32))
    assert [m.shape[-1] for m in maps] == sides
    assert all((m >= 0).all() for m in maps)  # after the ReLU
    torch.testing.assert_close(maps[-1].mean(dim=(2, 3)), features)


def test_stem_follows_the_image_size():
    assert build_backbone("resnet18", image_size=64).conv1.stride == (1, 1)
    assert build_backbone("resnet18", image_size=65).conv1.stride == (2, 2)


def test_seed_decides_the_weights_and_spares_the_global_state():
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    first = build_backbone("resnet8", image_size=32, seed=1).state_dict()
    assert torch.equal(torch.rand(3), expected)
    second = build_backbone("resnet8", image_size=32, seed=1).state_dict()
    other = build_backbone("resnet8", image_size=32, seed=2).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_free_depths_and_widths_for_student_search():
    net = CifarResNet((1, 3, 2), (8, 8, 24, 40))
    features, maps = net.forward_with_maps(torch.randn(2, 3, 12, 12))
    assert features.shape == (2, 40)
    assert [m.shape[1] for m in maps] == [8, 24, 40]
    assert [len(stage) for stage in net.blocks()] == [1, 3, 2]


def test_only_the_last_block_of_a_vit_learns():
    backbone = build_backbone(VIT, image_size=32, trained_blocks=1)
    last = len(backbone.blocks()) - 1
    trained = {n for n, p in backbone.named_parameters() if p.requires_grad}
    assert trained
    assert all(name.startswith(f"net.blocks.{last}.") for name in trained)
    backbone(torch.randn(2, 3, 32, 32)).sum().backward()
    for name, parameter in backbone.named_parameters():
        assert (parameter.grad is not None) == (name in trained)


def test_frozen_stages_keep_their_batch_norm_and_the_last_one_does_not():
    backbone = build_backbone("resnet8", image_size=32, trained_blocks=1).train()
    before = {n: b.clone() for n, b in backbone.named_buffers()}
    backbone(torch.randn(8, 3, 16, 16))
    moved = {n for n, b in backbone.named_buffers() if not torch.equal(b, before[n])}
    assert moved
    assert all(name.startswith("layer3.") for name in moved)
    assert not backbone.layer1.training
    assert backbone.layer3.training


def test_zero_trained_blocks_freeze_everything():
    backbone = build_backbone("resnet8", image_size=32, trained_blocks=0).train()
    assert not any(p.requires_grad for p in backbone.parameters())
    assert not backbone.bn1.training


@pytest.mark.parametrize("blocks", [-1, 4])
def test_too_many_blocks_are_refused_with_the_count(blocks: int):
    with pytest.raises(InputError, match=f"trained_blocks is {blocks}.*3 blocks"):
        build_backbone("resnet8", image_size=32, trained_blocks=blocks)


def test_unknown_names_are_refused_with_the_choices():
    with pytest.raises(InputError, match=r"unknown backbone 'resnet9000'.*resnet8x4.*timm:NAME"):
        build_backbone("resnet9000", image_size=32)
    with pytest.raises(InputError, match=r"unknown timm model 'no_such_net'.*list_models"):
        build_backbone("timm:no_such_net", image_size=32)
    with pytest.raises(InputError, match="image_size is 0"):
        build_backbone("resnet8", image_size=0)


def test_registered_names_come_before_those_of_timm_and_the_prefix_reaches_timm():
    assert set(BACKBONES.names()) >= {"resnet8", "resnet18", "resnet32x4"}
    assert hasattr(build_backbone("resnet18", image_size=32), "layer1")
    assert hasattr(build_backbone("timm:resnet18", image_size=32), "net")
    assert hasattr(build_backbone("test_vit", image_size=32), "net")


def test_a_timm_model_without_maps_says_so(monkeypatch: pytest.MonkeyPatch):
    class Bare(torch.nn.Module):
        num_features = 3

        def forward(self, images: Tensor) -> Tensor:
            return images.mean(dim=(2, 3))

    monkeypatch.setattr("timm.create_model", lambda *_args, **_options: Bare())
    backbone = build_backbone("timm:resnet18", image_size=64)
    assert backbone.map_channels == ()
    assert backbone(torch.ones(2, 3, 8, 8)).shape == (2, 3)
    with pytest.raises(InputError, match="Bare gives no feature maps"):
        backbone.forward_with_maps(torch.ones(2, 3, 8, 8))


def test_a_timm_model_bound_to_one_side_takes_resized_crops():
    backbone = build_backbone("timm:resmlp_12_224", image_size=32).eval()
    large = torch.randn(1, 3, 32, 32)
    small = F.interpolate(large, (18, 18), mode="bilinear", antialias=True)
    back = F.interpolate(small, (32, 32), mode="bilinear", antialias=True)
    torch.testing.assert_close(backbone(small), backbone(back))
    assert (backbone(small) - backbone(large)).abs().max() > 1e-3


class Unfinished(Backbone):
    """A backbone whose constructor sets no attributes."""

    def __init__(self, image_size: int) -> None:
        super().__init__()

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))

    def forward_with_maps(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self(images), ()

    def blocks(self) -> list[torch.nn.Module]:
        return []


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda image_size: torch.nn.Flatten(), "is of the type Flatten; .*a subclass of"),
        (Unfinished, "no attribute num_features and no map_channels; .*constructor of Unfinished"),
    ],
)
def test_a_plug_in_that_is_no_backbone_is_refused(monkeypatch, factory, message: str):
    monkeypatch.setattr(BACKBONES, "get", lambda name: factory)
    with pytest.raises(InputError, match=f"the backbone 'resnet8' .*{message}"):
        build_backbone("resnet8", image_size=16)
