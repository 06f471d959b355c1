from __future__ import annotations

import copy
import dataclasses
import json

import pytest
import torch

from crkd.core.errors import InputError
from crkd.models.architecture import Architecture
from crkd.models.build import build_network
from crkd.models.heads.reviewed import ReviewedHead, reviewed
from crkd.models.network import absorbed, with_one_head

SHAPE = Architecture("resnet8", 32, num_known=3, num_novel=4, num_heads=2, hidden=16, projection=8)
ROWS = torch.randn(200, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def head():  # type: ignore[no-untyped-def]
    return with_one_head(build_network(SHAPE, seed=1), 1).novel_heads.eval()


def directions(seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(2, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(drawn, dim=-1)


def test_decisions_change_their_own_predictions_alone(head):
    before = head(ROWS)[0]
    # 0 and 2 become one, 1 is split, 3 is rejected.
    made = reviewed(head, [(0, 0), (1, 2), (0, 0), (-1, -1)], {1: directions()}).eval()
    after = made(ROWS)[0]
    torch.testing.assert_close(after[:, 0], before[:, [0, 2]].amax(-1))
    torch.testing.assert_close(after[:, 1:].amax(-1), before[:, 1])
    unit = torch.nn.functional.normalize(head.projections(ROWS)[0], dim=-1)
    second = unit @ directions()[0] < unit @ directions()[1]
    assert (after[:, 2] > after[:, 1]).tolist() == second.tolist()
    assert 0 < second.sum() < len(ROWS)
    expected = torch.where(second, 2, 1)
    predicted = before[:, :3].argmax(-1)
    assert torch.equal(after.argmax(-1), torch.where(predicted == 1, expected, 0))


def test_a_review_of_a_review_is_one_review(head):
    first = reviewed(head, [(0, 0), (1, 1), (0, 0), (2, 2)], {})
    second = reviewed(first, [(0, 1), (-1, -1), (2, 2)], {0: directions()}).eval()
    assert second.classes == (0, 1, -1, -1, 0, 1, 2, 2)
    before, after = head(ROWS)[0], second(ROWS)[0]
    torch.testing.assert_close(after[:, :2].amax(-1), before[:, [0, 2]].amax(-1))
    torch.testing.assert_close(after[:, 2], before[:, 3])
    with pytest.raises(InputError, match="cannot be split"):
        reviewed(second, [(0, 1), (2, 2), (3, 3)], {0: directions(1)})


def test_a_reviewed_network_is_built_again_and_its_classes_become_known(head):
    network = with_one_head(build_network(SHAPE, seed=1), 1).eval()
    made = reviewed(network.novel_heads, [(0, 0), (1, 2), (0, 0), (-1, -1)], {1: directions()})
    network.novel_heads = made.eval()
    shape = dataclasses.replace(SHAPE, num_novel=3, num_heads=1, reviews=(made.classes,))
    plain = json.loads(json.dumps(shape.plain()))
    assert Architecture.from_plain(plain, "run.json") == shape
    images = [torch.randn(5, 3, 32, 32)]
    again = build_network(Architecture.from_plain(plain, "run.json"), seed=9).eval()
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(again(images).novel_logits, network(images).novel_logits)
    # The shape of a step beyond: the reviewed classes are a group, new ones are not reviewed.
    further = dataclasses.replace(shape.absorbed(), num_novel=2, num_heads=2)
    assert further.groups == (3,)
    student = build_network(further, seed=2).eval()
    known = absorbed(network, 0)
    student.known_head.load_state_dict(known.known_head.state_dict())
    assert isinstance(student.known_head.found[0], ReviewedHead)
    torch.testing.assert_close(student.known_head(ROWS), known.known_head(ROWS))
    joint = torch.cat([network(images).known_logits[0], network(images).novel_logits[0, 0]], -1)
    torch.testing.assert_close(known(images).known_logits[0], joint)


def test_parts_of_a_class_are_those_of_the_nearest_direction(head):
    drawn = torch.randn(3, 8, generator=torch.Generator().manual_seed(3))
    sides = torch.nn.functional.normalize(drawn, dim=-1)
    made = reviewed(head, [(0,), (1, 2, 3), (4,), (4,)], {1: sides}).eval()
    assert made.num_parts == 3
    before, after = head(ROWS)[0], made(ROWS)[0]
    unit = torch.nn.functional.normalize(head.projections(ROWS)[0], dim=-1)
    torch.testing.assert_close(after[:, 1:4].amax(-1), before[:, 1])
    assert torch.equal(after[:, 1:4].argmax(-1), (unit @ sides.T).argmax(-1))
    torch.testing.assert_close(after[:, 4], before[:, 2:].amax(-1))
    # A second review keeps the parts, and merges one of them.
    again = reviewed(made, [(0,), (1,), (1,), (2,), (3,)], {}).eval()(ROWS)[0]
    torch.testing.assert_close(again[:, 1], after[:, 1:3].amax(-1))
    torch.testing.assert_close(again[:, 2:], after[:, 3:])


def test_a_class_merged_into_a_known_one_raises_its_logit():
    network = with_one_head(build_network(SHAPE, seed=1), 1).eval()
    images = [torch.randn(40, 3, 32, 32, generator=torch.Generator().manual_seed(1))]
    # The prototype is moved to the images, so that it is nearer than the known class.
    heads = network.novel_heads
    projected = heads.projections(network(images).features[0]).mean(dim=1)
    heads.prototypes.data[:, 1] = torch.nn.functional.normalize(projected, dim=-1)
    before = network(images)
    merged = copy.deepcopy(network)
    merged.novel_heads = reviewed(network.novel_heads, [(0,), (-4,), (-1,), (1,)], {}).eval()
    after = merged(images)
    known, novel = before.known_logits[0], before.novel_logits[0, 0]
    torch.testing.assert_close(after.known_logits[0, :, :2], known[:, :2])
    raised = torch.maximum(known[:, 2], novel[:, 1])
    torch.testing.assert_close(after.known_logits[0, :, 2], raised)
    assert (raised > known[:, 2]).any()
    torch.testing.assert_close(after.novel_logits[0, 0], novel[:, [0, 3]])
    # In the next run the class is still a part of the known one.
    joint = torch.cat([after.known_logits[0], after.novel_logits[0, 0]], -1)
    torch.testing.assert_close(absorbed(merged, 0)(images).known_logits[0], joint)


def test_an_older_run_has_no_reviews():
    plain = {n: value for n, value in SHAPE.plain().items() if n not in ("reviews", "review_parts")}
    assert Architecture.from_plain(plain, "run.json") == SHAPE


@pytest.mark.parametrize(
    "reviews", ["x", [1], [["0", "0"]], [[0, 0, 1]], [[0, 0]], [[0, 0], [0, 0]]]
)
def test_reviews_that_do_not_fit_are_refused(reviews):
    with pytest.raises(InputError):
        build_network(Architecture.from_plain({**SHAPE.plain(), "reviews": reviews}, "run.json"))


@pytest.mark.parametrize("classes", [(), (0,), (-1, -1), (0, 2), (-2, -2), (1, 1)])
def test_classes_without_order_are_refused(classes):
    with pytest.raises(InputError, match="2 for every prototype"):
        ReviewedHead(8, classes, hidden=4, projection=2, temperature=0.1)


def test_a_review_does_not_change_the_random_state(head):
    before = torch.get_rng_state()
    reviewed(head, [[m] for m in range(head.prototypes.shape[1])], {})
    assert torch.equal(torch.get_rng_state(), before)
