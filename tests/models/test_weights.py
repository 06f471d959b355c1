from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from crkd.core.errors import InputError
from crkd.models.architecture import Architecture
from crkd.models.backbones.build import build_backbone
from crkd.models.build import build_network
from crkd.models.weights import load_strict, read_weights


def donor() -> dict[str, torch.Tensor]:
    return dict(build_backbone("resnet8", image_size=32, seed=7).state_dict())


def started(path: Path):
    return build_backbone("resnet8", image_size=32, seed=1, weights=path)


@pytest.mark.parametrize("form", ["safetensors", "plain", "state_dict", "prefixed"])
def test_backbone_starts_from_a_file(tmp_path: Path, form: str):
    tensors = donor()
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        save_file(tensors, path)
    elif form == "plain":
        torch.save(tensors, path)
    elif form == "state_dict":
        torch.save({"epoch": 3, "state_dict": tensors}, path)
    else:
        wrapped = {f"module.encoder.{name}": tensor for name, tensor in tensors.items()}
        torch.save({"model": wrapped}, path)
    backbone = started(path)
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, tensors[name])
    assert backbone.weights_report.loaded == len(tensors)
    assert backbone.weights_report.ignored == ()


def test_a_classifier_in_the_file_is_left_out_and_reported(tmp_path: Path):
    path = tmp_path / "w.safetensors"
    save_file({**donor(), "fc.weight": torch.zeros(10, 64), "fc.bias": torch.zeros(10)}, path)
    report = started(path).weights_report
    assert set(report.ignored) == {"fc.weight", "fc.bias"}
    assert "classifier weights left out" in report.sentence()


def test_the_model_file_of_a_run_gives_its_backbone(tmp_path: Path):
    architecture = Architecture("resnet8", 32, num_known=3, num_novel=2, hidden=4, projection=4)
    network = build_network(architecture, seed=9)
    path = tmp_path / "model.safetensors"
    save_file(network.state_dict(), path)
    backbone = started(path)
    assert torch.equal(backbone.conv1.weight, network.backbone.conv1.weight)
    assert "known_head.prototypes" in backbone.weights_report.ignored


def test_timm_weights_go_by_the_names_of_timm(tmp_path: Path):
    source = build_backbone("timm:test_vit", image_size=32, seed=3)
    path = tmp_path / "vit.safetensors"
    save_file(source.loadable.state_dict(), path)
    loaded = build_backbone("timm:test_vit", image_size=32, seed=4, weights=path)
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name])


def test_all_faults_are_in_one_message_and_nothing_is_copied():
    backbone = build_backbone("resnet8", image_size=32, seed=1)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    tensors = donor()
    del tensors["bn1.weight"]
    tensors["conv1.weight"] = torch.zeros(16, 3, 7, 7)
    tensors["layer9.weight"] = torch.zeros(1)
    with pytest.raises(InputError) as caught:
        load_strict(backbone, tensors, source="the weights of x.pth")
    message = str(caught.value)
    assert "the weights of x.pth" in message
    assert "missing: bn1.weight" in message
    assert "unexpected: layer9.weight" in message
    assert "misshapen: conv1.weight (16, 3, 7, 7) instead of (16, 3, 3, 3)" in message
    assert "\n" not in message
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, before[name])


class Evil:
    def __reduce__(self):
        return (os.mkdir, (os.environ["CRKD_TEST_EVIL"],))


def test_a_pickle_in_the_file_is_refused_and_not_run(tmp_path: Path, monkeypatch):
    target = tmp_path / "made_by_the_pickle"
    monkeypatch.setenv("CRKD_TEST_EVIL", str(target))
    path = tmp_path / "evil.pth"
    torch.save({"conv1.weight": Evil()}, path)
    with pytest.raises(InputError, match="cannot be read"):
        read_weights(path)
    assert not target.exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_broken_and_absent_files_are_named(tmp_path: Path, name: str):
    path = tmp_path / name
    with pytest.raises(InputError, match=r"is not a file"):
        read_weights(path)
    for content in (b"", b"not weights at all", bytes(range(256)) * 8):
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"{name} cannot be read"):
            read_weights(path)


def test_a_file_without_tensors_is_refused(tmp_path: Path):
    path = tmp_path / "w.pth"
    for content in ({"epoch": 3}, [1, 2], 4.0):
        torch.save(content, path)
        with pytest.raises(InputError, match="holds no named tensors"):
            read_weights(path)
