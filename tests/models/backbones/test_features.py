from __future__ import annotations

import pytest
import torch

from crkd.core.errors import InputError
from crkd.models.backbones.build import build_backbone
from crkd.models.backbones.features import FeatureBackbone


def fitted(vectors: torch.Tensor) -> FeatureBackbone:
    backbone = build_backbone("features", image_size=vectors.shape[1])
    assert isinstance(backbone, FeatureBackbone)
    backbone.fit(vectors)
    return backbone


def test_it_centers_and_keeps_the_shape_of_the_cloud():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(500, 4, generator=generator) * torch.tensor([1.0, 2.0, 3.0, 4.0]) + 7.0
    scaled = fitted(vectors)(vectors)
    torch.testing.assert_close(scaled.mean(dim=0), torch.zeros(4), rtol=0.0, atol=1e-5)
    assert scaled.square().mean().item() == pytest.approx(1.0, abs=1e-5)
    ratios = torch.pdist(vectors[:20]) / torch.pdist(scaled[:20])
    torch.testing.assert_close(ratios, ratios[:1].expand_as(ratios))


def test_equal_vectors_stay_finite_and_nothing_is_trained():
    backbone = fitted(torch.ones(3, 2))
    assert backbone(torch.ones(1, 2)).tolist() == [[0.0, 0.0]]
    assert not list(backbone.parameters())
    assert set(backbone.state_dict()) == {"center", "spread"}


def test_images_are_refused():
    backbone = fitted(torch.rand(4, 8))
    for wrong in (torch.rand(2, 3, 8, 8), torch.rand(2, 7)):
        with pytest.raises(InputError, match="feature vectors of length 8"):
            backbone(wrong)
    with pytest.raises(InputError, match="no feature maps"):
        backbone.forward_with_maps(torch.rand(2, 8))
