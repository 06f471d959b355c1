from __future__ import annotations

import pytest
import torch
from safetensors.torch import load, save
from torch.utils._python_dispatch import TorchDispatchMode

from crkd.core.errors import InputError
from crkd.models.architecture import Architecture
from crkd.models.build import build_network
from crkd.models.network import Network, freeze
from crkd.models.weights import load_strict
from tests.reference.uno import OneViewAfterTheOther

SMALL = {
    "backbone": "resnet8",
    "image_size": 32,
    "num_known": 5,
    "num_novel": 3,
    "num_heads": 2,
    "hidden": 16,
    "projection": 8,
}


def small(**changes: object) -> Network:
    seed, per_view = changes.pop("seed", 0), bool(changes.pop("batch_norm_per_view", False))
    shape = Architecture(**{**SMALL, **changes})
    return build_network(shape, seed=seed, batch_norm_per_view=per_view)


def views(*sides: int, batch: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, 3, side, side, generator=generator) for side in sides]


def test_shapes_of_a_multi_crop_step():
    network = small(overclustering=4)
    outputs = network(views(32, 32, 18, 18), maps=True)
    assert outputs.features.shape == (4, 4, 64)
    assert outputs.known_logits.shape == (4, 4, 5)
    assert outputs.novel_logits.shape == (4, 2, 4, 3)
    assert outputs.over_logits.shape == (4, 2, 4, 12)
    assert [m.shape[-1] for m in outputs.maps[0]] == [32, 16, 8]
    assert [m.shape[-1] for m in outputs.maps[3]] == [18, 9, 5]
    assert outputs.joint_logits().shape == (4, 2, 4, 8)


@pytest.mark.parametrize("sides", [(20,), (20, 20), (20, 12, 20, 12), (12, 20, 16)])
def test_views_together_say_what_each_says_alone(sides: tuple[int, ...]):
    network = small(overclustering=2).eval()
    together = network(views(*sides), maps=True)
    for position, view in enumerate(views(*sides)):
        alone = network([view], maps=True)
        for ours, theirs in (
            (together.features, alone.features),
            (together.known_logits, alone.known_logits),
            (together.novel_logits, alone.novel_logits),
            (together.over_logits, alone.over_logits),
        ):
            torch.testing.assert_close(ours[position], theirs[0], rtol=1e-5, atol=1e-5)
        for ours, theirs in zip(together.maps[position], alone.maps[0], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_views_of_one_size_share_a_backbone_call_and_its_batch_statistics():
    network = small(num_novel=0)
    calls = []
    network.backbone.register_forward_hook(lambda _m, args, _out: calls.append(args[0].shape))
    network(views(20, 20, 12, 12))
    assert [tuple(shape) for shape in calls] == [(8, 3, 20, 20), (8, 3, 12, 12)]


@pytest.mark.parametrize("sides", [(20, 20), (20, 20, 12, 12), (12, 20, 12)])
def test_batch_norm_per_view_is_one_view_after_the_other(sides: tuple[int, ...]):
    """Outputs and statistics of two steps, against torch's batch norm and separate heads."""
    network = small(overclustering=2, batch_norm_per_view=True)
    release = OneViewAfterTheOther(network)
    together = small(overclustering=2)
    for scale in (1.0, 2.0):
        inputs = [scale * (number + 1) * view for number, view in enumerate(views(*sides))]
        ours, theirs = network(inputs), release(inputs)
        given = (ours.features, ours.known_logits, ours.novel_logits, ours.over_logits)
        for mine, expected in zip(given, theirs, strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)
        joint = together(inputs)
    expected = release.backbone.state_dict()
    for name, value in network.backbone.state_dict().items():
        torch.testing.assert_close(value, expected[name], msg=name)
    for number, heads in enumerate((network.novel_heads, network.over_heads)):
        assert int(heads.norm.num_batches_tracked) == 2 * len(sides)
        for name in ("running_mean", "running_var"):
            value = getattr(heads.norm, name)
            torch.testing.assert_close(value, release.statistics(number, name), msg=name)
    # Common statistics are something else.
    assert not torch.allclose(joint.novel_logits, ours.novel_logits, atol=0.1)


def test_batch_norm_per_view_changes_nothing_in_evaluation():
    plain, per_view = small().eval(), small(batch_norm_per_view=True).eval()
    inputs = views(16, 16, 12)
    ours, theirs = per_view(inputs), plain(inputs)
    assert torch.equal(ours.features, theirs.features)
    assert torch.equal(ours.joint_logits(), theirs.joint_logits())


def test_batch_norm_per_view_keeps_maps_and_projections_in_the_order_of_the_views():
    network = small(batch_norm_per_view=True)
    outputs = network(views(16, 12, 16), maps=True, projections=True)
    assert outputs.projections.shape == (3, 2, 4, 8)
    assert [maps[-1].shape[-1] for maps in outputs.maps] == [4, 3, 4]
    with pytest.raises(InputError, match="set batch_norm_per_view to false"):
        network(views(16), replayed=torch.zeros(2, 64))


def test_joint_logits_are_known_then_novel_for_every_head():
    network = small().eval()
    outputs = network(views(16, 16))
    joint = outputs.joint_logits()
    for head in range(2):
        assert torch.equal(joint[:, head, :, :5], outputs.known_logits)
        assert torch.equal(joint[:, head, :, 5:], outputs.novel_logits[:, head])


def test_before_discovery_there_are_known_logits_alone():
    network = small(num_novel=0)
    outputs = network(views(16))
    assert outputs.novel_logits is None
    assert outputs.over_logits is None
    assert outputs.joint_logits().shape == (1, 1, 4, 5)


def test_normalize_prototypes_reaches_every_head():
    network = small(overclustering=2)
    heads = (network.known_head, network.novel_heads, network.over_heads)
    with torch.no_grad():
        for head in heads:
            head.prototypes.mul_(2.5)
    network.normalize_prototypes()
    for head in heads:
        norms = head.prototypes.norm(dim=-1)
        torch.testing.assert_close(norms, torch.ones_like(norms))


def test_linear_known_head_gives_plain_logits():
    network = small(known_head="linear").eval()
    outputs = network(views(16))
    head = network.known_head
    expected = outputs.features[0] @ head.weight.T + head.bias
    torch.testing.assert_close(outputs.known_logits[0], expected)


def test_same_seed_same_weights_and_the_global_state_is_untouched():
    state = torch.get_rng_state()
    first, second, other = small(seed=1), small(seed=1), small(seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])
    for name, parameter in other.named_parameters():
        if parameter.dim() > 1:
            assert not torch.equal(parameter, first.state_dict()[name]), name


def test_adding_a_part_leaves_the_initial_weights_of_the_others():
    plain = small(num_novel=0, seed=3).state_dict()
    more = small(overclustering=2, num_known=9, seed=3).state_dict()
    novel = small(seed=3).state_dict()
    shared = {n for n in plain if n.startswith("backbone.")}
    assert all(torch.equal(plain[n], more[n]) for n in shared)
    assert all(torch.equal(novel[n], more[n]) for n in novel if n.startswith("novel_heads."))


def test_novel_and_over_heads_of_one_size_start_apart():
    network = small(overclustering=1)
    assert not torch.equal(network.novel_heads.prototypes, network.over_heads.prototypes)


def test_frozen_teacher_is_apart_from_the_student():
    student = small()
    teacher = freeze(student)
    assert not teacher.training
    assert not any(p.requires_grad for p in teacher.parameters())
    assert all(p.requires_grad for p in student.parameters())
    before = {n: t.clone() for n, t in teacher.state_dict().items()}
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    student(views(16))
    teacher(views(16))
    assert all(torch.equal(t, before[n]) for n, t in teacher.state_dict().items())


def test_state_goes_through_safetensors_and_back():
    network = small(overclustering=2, seed=1)
    network(views(16))  # moves the running statistics
    tensors = load(save(network.state_dict()))
    other = small(overclustering=2, seed=2)
    load_strict(other, tensors)
    for name, tensor in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)
    assert {n.split(".")[0] for n in tensors} == {
        "backbone",
        "known_head",
        "novel_heads",
        "over_heads",
    }


def test_weights_without_novel_heads_are_refused_and_none_is_copied():
    stage_one = small(num_novel=0, seed=1)
    network = small(seed=2)
    before = network.known_head.prototypes.detach().clone()
    with pytest.raises(InputError, match=r"missing: novel_heads\.projection_weight"):
        load_strict(network, stage_one.state_dict())
    assert torch.equal(network.known_head.prototypes, before)
    assert not torch.equal(network.known_head.prototypes, stage_one.known_head.prototypes)


# Without maps, the compiled training step below goes through aot_eager.
@pytest.mark.parametrize(("backend", "maps"), [("eager", False), ("aot_eager", True)])
def test_forward_is_one_graph(backend: str, maps: bool):
    torch._dynamo.reset()
    network = small(overclustering=2).eval()
    compiled = torch.compile(network, backend=backend, fullgraph=True)
    inputs = views(16, 16, 12, 12)
    plain, traced = network(inputs, maps=maps), compiled(inputs, maps=maps)
    torch.testing.assert_close(traced.novel_logits, plain.novel_logits)
    torch.testing.assert_close(traced.known_logits, plain.known_logits)
    assert len(traced.maps) == (4 if maps else 0)


@pytest.mark.parametrize("per_view", [False, True])
def test_a_compiled_training_step_has_the_gradients_of_the_plain_one(per_view: bool):
    torch._dynamo.reset()
    plain, twin = (small(seed=1, batch_norm_per_view=per_view) for _ in range(2))
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
    for call in (plain, compiled):
        outputs = call(views(16, 12) if per_view else views(16, 16, 12, 12))
        outputs.joint_logits().square().mean().backward()
    for (name, ours), theirs in zip(twin.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6, msg=name)
    for ours, theirs in zip(twin.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)


class NoHostLook(TorchDispatchMode):
    """Fails where a value is read on the host or a shape depends on one."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func not in (
            torch.ops.aten._local_scalar_dense.default,
            torch.ops.aten.nonzero.default,
            torch.ops.aten.equal.default,
        ), func
        return func(*args, **(kwargs or {}))


def test_a_training_step_looks_at_nothing_on_the_host():
    network = small(overclustering=2)
    with NoHostLook():
        outputs = network(views(16, 16, 12))
        outputs.joint_logits().sum().backward()
        network.normalize_prototypes()
    with pytest.raises(AssertionError, match="local_scalar"), NoHostLook():
        outputs.features.sum().item()


def test_bfloat16_autocast_is_finite_and_near_float32():
    network = small()
    inputs = views(16, 16)
    plain = network(inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = network(inputs)
        mixed.joint_logits().square().mean().backward()
    assert mixed.known_logits.dtype == mixed.novel_logits.dtype == torch.float32
    assert (mixed.known_logits - plain.known_logits).abs().max() < 0.5
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_bad_arguments_are_named():
    with pytest.raises(InputError, match=r"unknown known head 'cosine'.*prototype, linear"):
        small(known_head="cosine")
    with pytest.raises(InputError, match="num_novel is -1"):
        small(num_novel=-1)
    with pytest.raises(InputError, match="num_known is 0"):
        small(num_known=0)
    with pytest.raises(InputError, match="0 views"):
        small()([])


def test_replayed_features_are_predicted_like_those_of_images():
    network = small().eval()
    seen = network(views(32))
    outputs = network(views(32), replayed=seen.features[0])
    torch.testing.assert_close(outputs.replayed, seen.joint_logits()[0])
    torch.testing.assert_close(outputs.novel_logits, seen.novel_logits)


def test_replayed_features_share_the_batch_statistics_of_the_heads():
    features = 5.0 + torch.rand(8, 64)
    alone, together = small().train(), small().train()
    alone(views(32))
    together(views(32), replayed=features)
    means = [n.novel_heads.norm.running_mean for n in (alone, together)]
    assert not torch.allclose(*means)
