"""Pretrained backbones: their weights, their forms, and what is said where something is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from crkd.core.errors import InputError
from crkd.models.pretrained import lite0
from crkd.models.pretrained.base import PretrainedBackbone
from crkd.models.pretrained.choose_form import choose_form
from crkd.models.pretrained.embedder import Embedder, Form
from crkd.models.pretrained.fused import fused
from crkd.models.pretrained.open import open_pretrained

SIZE = 48
PIXELS = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def backbone() -> PretrainedBackbone:
    return open_pretrained("lite0", image_size=SIZE)


def expected(network: nn.Module, mean: float = 127.0, std: float = 128.0) -> np.ndarray:
    images = torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        return network((images - mean) / std).numpy()


def test_lite0_has_the_published_weights(backbone: PretrainedBackbone):
    published = list(torch.load(lite0.weights_file(), weights_only=True).values())
    network = backbone.network
    assert network is not None
    own = list(network.state_dict().values())
    # The classifier's weight and bias are left out.
    assert len(own) == len(published) - 2
    assert all(torch.equal(a, b) for a, b in zip(own, published, strict=False))


@pytest.mark.parametrize(("runtime", "close"), [("torch", 1e-4), ("torch-bf16", 0.6)])
def test_a_form_gives_the_features_of_timm(
    backbone: PretrainedBackbone, runtime: str, close: float
):
    found = Embedder(backbone, Form(runtime, 4))(PIXELS)
    assert found.dtype == np.float32
    assert backbone.network is not None
    wanted = expected(backbone.network)
    np.testing.assert_allclose(found, wanted, atol=close)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    assert ((found * wanted).sum(axis=1) / lengths).min() > 0.99


def test_onnx_runtime_gives_the_features_of_timm(backbone: PretrainedBackbone, tmp_path: Path):
    pytest.importorskip("onnxruntime")
    embedder = Embedder(backbone, Form("onnx", 4))
    assert backbone.network is not None
    np.testing.assert_allclose(embedder(PIXELS), expected(backbone.network), atol=1e-4)


def test_an_onnx_file_is_a_backbone(tmp_path: Path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("ReduceMean", ["images"], ["features"], axes=[2, 3], keepdims=0)],
        "colors",
        [info("images", onnx.TensorProto.FLOAT, ["batch", 3, "side", "side"])],
        [info("features", onnx.TensorProto.FLOAT, ["batch", 3])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, tmp_path / "colors.onnx")
    backbone = open_pretrained(str(tmp_path / "colors.onnx"), image_size=SIZE)
    assert backbone.num_features == 3
    found = choose_form(backbone, PIXELS).embedder(PIXELS)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    wanted = ((PIXELS / 255.0 - mean) / std).mean(axis=(1, 2))
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    with pytest.raises(InputError, match="--runtime torch does not apply"):
        choose_form(backbone, PIXELS, runtime="torch")


@pytest.mark.parametrize("runtime", ["torch", "torch-bf16"])
def test_a_vector_depends_on_its_image_alone(backbone: PretrainedBackbone, runtime: str):
    embedder = Embedder(backbone, Form(runtime, 4))
    together = embedder(PIXELS)
    alone = np.concatenate([embedder(PIXELS[n : n + 1]) for n in range(5)])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together, embedder(PIXELS[::-1])[::-1])


def test_a_trial_takes_the_form_of_the_highest_rate(backbone: PretrainedBackbone):
    chosen = choose_form(backbone, PIXELS)
    assert len(chosen.rates) >= 1
    assert chosen.embedder.form.runtime == max(chosen.rates, key=lambda name: chosen.rates[name])


def test_few_images_are_enough_to_find_places_that_matter(
    backbone: PretrainedBackbone, monkeypatch: pytest.MonkeyPatch
):
    def by_place(self: Embedder, pixels: np.ndarray) -> np.ndarray:
        return np.arange(len(pixels), dtype=np.float32)[:, None] + pixels.mean(axis=(1, 2))

    monkeypatch.setattr(Embedder, "__call__", by_place)
    for count in (1, 2, 5):
        chosen = choose_form(backbone, PIXELS[:count], runtime="torch")
        assert chosen.embedder.form.batch_size == 1


def test_layers_that_do_not_fit_together_stay_as_they_are():
    class Twice(nn.Module):
        """The output of the convolution goes to batch norm and around it."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.norm = nn.BatchNorm2d(4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            maps = self.conv(images)
            return (self.norm(maps) + maps).mean((2, 3))

    torch.manual_seed(0)
    network = Twice().eval()
    network.norm.running_mean += 1.0
    example = torch.randn(2, 3, 8, 8)
    assert fused(network, example) is network


def test_a_changed_weight_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    changed = tmp_path / "weights.pth"
    changed.write_bytes(b"x" + lite0.weights_file().read_bytes()[1:])
    monkeypatch.setattr(lite0, "weights_file", lambda: changed)
    with pytest.raises(InputError, match=r"SHA-256.*pip install"):
        open_pretrained("lite0")


def test_a_timm_model_takes_a_local_file_and_says_what_does_not_fit(tmp_path: Path):
    torch.manual_seed(0)
    made = timm.create_model("test_vit").eval()
    save_file(made.state_dict(), tmp_path / "vit.safetensors")
    backbone = open_pretrained("timm:test_vit", weights=tmp_path / "vit.safetensors")
    assert backbone.preprocessing.image_size == 160
    made.reset_classifier(0)
    view = torch.randn(2, 3, 160, 160)
    assert backbone.network is not None
    assert torch.equal(backbone.network(view), made(view))
    assert backbone.num_features == made(view).shape[1]
    smaller = open_pretrained("test_vit", weights=tmp_path / "vit.safetensors", image_size=96)
    assert smaller.network is not None
    assert smaller.network(torch.randn(1, 3, 96, 96)).shape == (1, backbone.num_features)
    with pytest.raises(InputError, match=r"do not fit --backbone 'test_resnet'"):
        open_pretrained("test_resnet", weights=tmp_path / "vit.safetensors")


def test_nothing_is_downloaded_unasked(monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a download")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    with pytest.raises(InputError, match=r"--download.*--backbone-weights"):
        open_pretrained("vit_small_patch14_dinov2.lvd142m")


def test_unknown_names_are_refused_with_a_remedy(tmp_path: Path):
    with pytest.raises(InputError, match=r"'lite00'.*timm.list_pretrained"):
        open_pretrained("lite00")
    with pytest.raises(InputError, match="does not apply to --backbone 'lite0'"):
        open_pretrained("lite0", weights=tmp_path / "x")
    with pytest.raises(InputError, match="is not a file"):
        open_pretrained(str(tmp_path / "x.onnx"))
    with pytest.raises(InputError, match="--image-size 8"):
        open_pretrained("lite0", image_size=8)
