from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from crkd.core.errors import InputError
from crkd.models.backbones.build import build_backbone
from crkd.models.backbones.cifar_resnet import free_depths_name
from crkd.models.diswot import (
    Activations,
    classifier_gradient,
    diswot,
    relation_similarity,
    semantic_similarity,
    untrained_activations,
)
from crkd.models.flops import cost_of


def draw(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def semantic_as_published(teacher: Tensor, student: Tensor) -> float:
    """All (D, D) matrices of all classes, built and compared entry by entry."""
    total = 0.0
    for of_teacher, of_student in zip(teacher, student, strict=True):
        matrices = []
        for gradient in (of_teacher, of_student):
            matrix = torch.outer(gradient, gradient)
            norms = matrix.square().sum(dim=1, keepdim=True).sqrt()
            matrices.append(torch.where(norms > 0, matrix / norms, 0.0))
        total += float((matrices[0] - matrices[1]).square().sum())
    return -total / teacher.numel()


def relation_as_published(teacher: Tensor, student: Tensor) -> float:
    num = len(teacher)
    grams = []
    for maps in (teacher, student):
        gram = torch.tensor([[float((a * b).sum()) for b in maps] for a in maps])
        grams.append(gram / gram.square().sum(dim=1, keepdim=True).sqrt())
    return -float((grams[0] - grams[1]).square().sum()) / num**2


def test_the_gradient_is_that_of_autograd_on_a_real_net():
    images = draw(12, 3, 16, 16, seed=0)
    labels = torch.arange(12) % 5
    body = build_backbone("resnet8", image_size=16, seed=1).double()
    head = nn.Linear(64, 5, dtype=torch.float64)
    features = body(images)
    logits = head(features)
    F.cross_entropy(logits, labels).backward()
    found = classifier_gradient(features.detach(), logits.detach(), labels)
    torch.testing.assert_close(found, head.weight.grad, rtol=1e-12, atol=1e-15)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 10**6), st.booleans())
def test_the_closed_form_is_the_distance_of_the_matrices(
    classes: int, features: int, seed: int, dead: bool
):
    teacher, student = draw(classes, features, seed=seed), draw(classes, features, seed=seed + 1)
    if dead:  # a channel that no image excites, and a class without any gradient
        teacher[:, 0] = 0.0
        student[-1] = 0.0
    expected = semantic_as_published(teacher, student)
    assert semantic_similarity(teacher, student) == pytest.approx(expected, abs=1e-12)


def test_known_semantic_similarities():
    gradient = torch.tensor([[1.0, -2.0], [3.0, 0.5]])
    assert semantic_similarity(gradient, 7 * gradient) == pytest.approx(0, abs=1e-7)
    # Against its negative a class has the same products: rows and signs both turn round.
    assert semantic_similarity(gradient, -gradient) == pytest.approx(0, abs=1e-7)
    # cos = 0, so each of the four rows of both sides counts fully: 2 * 2 a class.
    orthogonal = torch.tensor([[2.0, 1.0], [-0.5, 3.0]])
    assert semantic_similarity(gradient, orthogonal) == pytest.approx(-2.0)


def test_gradients_too_small_to_square_count_like_any():
    teacher, student = draw(3, 8, seed=0), draw(3, 8, seed=1)
    expected = semantic_similarity(teacher, student)
    assert semantic_similarity(1e-200 * teacher, student) == pytest.approx(expected)


def test_relation_similarity_compares_samples_whatever_the_shape_of_their_maps():
    teacher, student = draw(6, 3, 4, 4, seed=0), draw(6, 5, 2, 2, seed=1)
    expected = relation_as_published(teacher, student)
    assert expected < -0.01
    assert relation_similarity(teacher, student) == pytest.approx(expected, rel=1e-6)
    assert relation_similarity(teacher, 3 * teacher) == pytest.approx(0, abs=1e-12)


def test_order_of_samples_changes_nothing_unless_it_differs():
    teacher, student = draw(7, 30, seed=0), draw(7, 20, seed=1)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    before = relation_similarity(teacher, student)
    assert relation_similarity(teacher[order], student[order]) == pytest.approx(before)
    assert relation_similarity(teacher, student[order]) != pytest.approx(before)


def activations(backbone: str, seed: int, images: Tensor) -> Activations:
    return untrained_activations(backbone, images, num_classes=4, image_size=16, seed=seed)


def test_equal_networks_reach_the_maximum_and_others_do_not():
    images, labels = draw(16, 3, 16, 16, seed=3).float(), torch.arange(16) % 4
    teacher = activations("resnet8", 0, images)
    same = diswot(teacher, activations("cifar_resnet_1-1-1", 0, images), labels)
    assert same.score == pytest.approx(0, abs=1e-9)
    other = diswot(teacher, activations("cifar_resnet_1-1-1", 1, images), labels)
    assert other.semantic < -0.01
    assert other.relation < -1e-6
    assert other.score == other.semantic + other.relation


def test_the_batch_norm_of_an_untrained_net_sees_the_batch():
    images = draw(16, 3, 16, 16, seed=3).float()
    together = activations("resnet8", 0, images).features
    apart = activations("resnet8", 0, images[:8]).features
    assert not torch.allclose(together[:8], apart)


def test_features_of_different_length_have_no_score():
    images, labels = draw(8, 3, 16, 16, seed=3).float(), torch.arange(8) % 4
    teacher, student = activations("resnet8x4", 0, images), activations("resnet8", 1, images)
    with pytest.raises(ValueError, match="cannot be compared"):
        diswot(teacher, student, labels)


def test_members_of_the_space_have_names():
    assert free_depths_name((3, 3, 3)) == "cifar_resnet_3-3-3"
    named = build_backbone("resnet20", image_size=32, seed=4).state_dict()
    free = build_backbone("cifar_resnet_3-3-3", image_size=32, seed=4).state_dict()
    assert all(torch.equal(free[key], value) for key, value in named.items())
    wide = build_backbone(free_depths_name((1, 3, 5), wide=True), image_size=32)
    assert wide.map_channels == (64, 128, 256)
    assert [len(stage) for stage in wide.blocks()] == [1, 3, 5]


@pytest.mark.parametrize("name", ["1-3", "0-1-1", "1-3-5x2", "1-3-5-7", "a-b-c"])
def test_names_of_another_form_are_refused(name: str):
    with pytest.raises(InputError, match=f"'cifar_resnet_{name}'.*as in cifar_resnet_1-3-5"):
        build_backbone(f"cifar_resnet_{name}", image_size=32)


def test_cost_from_the_layer_list():
    def conv(cin: int, cout: int, side: int, kernel: int = 9) -> tuple[int, int]:
        return cin * cout * kernel + 2 * cout, cin * cout * kernel * side**2

    layers = [conv(3, 16, 32), *[conv(16, 16, 32)] * 2]
    layers += [conv(16, 32, 16), *[conv(32, 32, 16)] * 3, conv(16, 32, 16, kernel=1)]
    layers += [conv(32, 64, 8), conv(64, 64, 8), conv(32, 64, 8, kernel=1), (65 * 100, 64 * 100)]
    params, flops = (sum(column) for column in zip(*layers, strict=True))
    assert cost_of("cifar_resnet_1-2-1", image_size=32, num_classes=100) == (params, flops)
