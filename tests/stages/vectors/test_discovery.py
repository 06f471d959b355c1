"""Discovery on vectors as a whole: what it finds, what it never reads, and small sets."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from crkd.core.errors import InputError
from crkd.evaluation.matching import clustering_accuracy
from crkd.stages.vectors import contest as contests
from crkd.stages.vectors.candidates import METHODS, NovelHead
from crkd.stages.vectors.contest import Contest, hold_contest
from crkd.stages.vectors.discovery import fit_discovery, further_discovery, relabeled
from crkd.stages.vectors.discovery_input import num_neighbors
from crkd.stages.vectors.state import discovery_from, state_of
from tests.support.short_heads import short_heads

WIDTH = 20


def vectors(classes, each=40, seed=0, spread=1.0):
    """Return Gaussian classes that a few noisy dimensions cover up, as tensors."""
    means = 4 * np.random.default_rng(99).standard_normal((12, WIDTH))
    draw = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(classes)), each)
    rows = means[np.array(classes)][labels] + spread * draw.standard_normal((len(labels), WIDTH))
    rows[:, :2] += 12 * draw.standard_normal((len(labels), 2))
    return torch.from_numpy(rows.astype(np.float32)), torch.from_numpy(labels)


@pytest.fixture(scope="module", autouse=True)
def _short():
    """Train few heads for few steps: the classes here are easy."""
    with short_heads(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(contests, "DRAWS", 2)
        yield


@pytest.fixture(scope="module")
def found(_short):
    known, labels = vectors(range(5))
    novel, _ = vectors(range(5, 9), seed=1)
    return fit_discovery(known, labels, novel, 4, method="heads", seed=0)


def test_novel_classes_are_found_seen_or_unseen(found):
    for seed in (1, 2):
        rows, truth = vectors(range(5, 9), seed=seed)
        clusters = found.predict(rows).novel.argmax(dim=1).numpy()
        assert clustering_accuracy(clusters, truth.numpy()) > 0.95


def test_one_prediction_for_all_classes(found):
    known, labels = vectors(range(5), seed=3)
    joint = found.predict(known).joint
    assert (joint.argmax(dim=1) == labels).float().mean() > 0.95
    torch.testing.assert_close(joint.exp().sum(dim=1), torch.ones(len(known)))
    novel, _ = vectors(range(5, 9), seed=3)
    assert (found.predict(novel).joint.argmax(dim=1) >= 5).float().mean() > 0.95


def test_a_further_step_needs_no_old_vector(found):
    fresh, truth = vectors(range(9, 12), seed=1)
    more = further_discovery(found, fresh, 3, seed=0)
    assert more.gate.sizes == (5, 4, 3)
    unseen, truth = vectors(range(9, 12), seed=2)
    joint = more.predict(unseen).joint.argmax(dim=1).numpy()
    assert (joint >= 9).mean() > 0.95
    assert clustering_accuracy(np.maximum(joint - 9, 0), truth.numpy()) > 0.95
    old, _ = vectors(range(9), seed=3)
    before, after = found.predict(old).joint, more.predict(old).joint
    assert (before.argmax(dim=1) == after.argmax(dim=1)).float().mean() > 0.95


def test_a_class_merged_into_a_known_one_is_known_to_the_known_head(found):
    """A review may find that a novel class is known class 2 in another form."""
    known, labels = vectors(range(5))
    novel, truth = vectors(range(5, 9), seed=1)
    merged = (truth == 0).numpy()
    kept = np.where(merged, -1, truth.numpy() - 1)
    put = (novel[merged], np.full(merged.sum(), 2))
    unseen, _ = vectors([5], seed=2)
    before = found.predict(unseen).known.argmax(dim=1)
    assert (before == 2).float().mean() < 0.5
    after = relabeled(found, novel, kept, 3, (known, labels.numpy()), put)
    assert (after.predict(unseen).known.argmax(dim=1) == 2).float().mean() > 0.95
    rows, theirs = vectors(range(5), seed=3)
    assert (after.predict(rows).known.argmax(dim=1) == theirs).float().mean() > 0.95
    # Without vectors of the known classes they are drawn from the class statistics.
    drawn = relabeled(found, novel, kept, 3, None, put)
    assert (drawn.predict(unseen).known.argmax(dim=1) == 2).float().mean() > 0.95
    assert (drawn.predict(rows).known.argmax(dim=1) == theirs).float().mean() > 0.95


def test_a_class_merged_into_one_of_an_earlier_step_is_predicted_as_it(found):
    fresh, truth = vectors(range(9, 12), seed=1)
    more = further_discovery(found, fresh, 3, seed=0)
    unseen, _ = vectors([9], seed=2)
    merged = (truth == 0).numpy()
    kept = np.where(merged, -1, truth.numpy() - 1)
    for into in (5, 6, 7, 8):
        put = (fresh[merged], np.full(merged.sum(), into))
        after = relabeled(more, fresh, kept, 2, None, put)
        assert after.gate.sizes == (5, 4, 2)
        assert (after.predict(unseen).joint.argmax(dim=1) == into).float().mean() > 0.95
        # Other groups keep their heads, and other classes their predictions.
        assert (after.heads[0] is more.heads[0], after.heads[1] is more.heads[1]) == (True, False)
        old, _ = vectors(range(9), seed=3)
        same = after.predict(old).joint.argmax(dim=1) == more.predict(old).joint.argmax(dim=1)
        assert same.float().mean() > 0.95
        # A further step draws rows of the class where the merged ones are.
        gained = after.gate.memory.counts - more.gate.memory.counts[: len(after.gate.memory.counts)]
        assert gained[:9].tolist() == [40 * (number == into) for number in range(9)]


def test_a_class_of_an_earlier_step_keeps_what_it_received_in_a_further_step(found):
    fresh, truth = vectors(range(9, 11), seed=1)
    merged = (truth == 0).numpy()
    kept = np.where(merged, -1, 0)
    more = further_discovery(found, fresh, 2, seed=0)
    after = relabeled(more, fresh, kept, 1, None, (fresh[merged], np.full(merged.sum(), 6)))
    last, _ = vectors([11], seed=4)
    unseen, _ = vectors([9], seed=2)
    joint = further_discovery(after, last, 1, seed=0).predict(unseen).joint
    assert (joint.argmax(dim=1) == 6).float().mean() > 0.95


@pytest.mark.parametrize("method", list(METHODS))
def test_nothing_but_the_seed_matters(method):
    known, labels = vectors(range(3), each=15)
    novel, _ = vectors(range(3, 5), each=15)
    states = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        np.random.seed(noise)  # noqa: NPY002
        one = fit_discovery(known, labels, novel, 2, method=method, seed=5)
        states.append(state_of(one))
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


def test_a_stored_discovery_predicts_the_same(found):
    tensors = state_of(found)
    again = discovery_from(tensors, found.contest)
    rows, _ = vectors(range(9), seed=4)
    for left, right in zip(found.predict(rows), again.predict(rows), strict=True):
        assert torch.equal(left, right)
    del tensors["groups.0.density"]
    with pytest.raises(InputError, match=r"groups\.0\.density"):
        discovery_from(tensors, found.contest)


def stub(quality):
    """Return a candidate that gets this share of the hidden vectors right."""

    def candidate(inputs, seed):
        def logits(rows):
            truth = TRUTH[len(rows)]
            wrong = np.arange(len(rows)) % 100 >= quality
            return np.eye(inputs.num_novel)[np.where(wrong, 0, truth)]

        class Head(NovelHead):
            def logits(self, rows):
                return logits(rows)

        return Head(inputs.known_space, np.zeros((1, 1), "f4"), np.zeros(1, "f4"))

    return candidate


TRUTH: dict[int, np.ndarray] = {}


@pytest.mark.parametrize(
    ("heads", "kmeans", "chosen"),
    [(90, 70, "heads"), (70, 90, "kmeans"), (90, 90, "kmeans"), (100, 100, "consensus")],
)
def test_the_contest_takes_the_best_and_never_what_is_worse_than_kmeans(
    monkeypatch, heads, kmeans, chosen
):
    TRUTH[200] = np.repeat([0, 1], 100)
    monkeypatch.setattr(contests, "CANDIDATES", {"heads": stub(heads), "kmeans": stub(kmeans)})
    known, labels = vectors(range(4), each=100)
    table = hold_contest(known.numpy(), labels.numpy(), seed=0)
    assert table.chosen == chosen
    assert {score.candidate for score in table.scores} == {"heads", "kmeans"}
    assert Contest.of(table.plain()) == table


@pytest.mark.parametrize(
    ("shares", "sizes"), [((1.0,), [100, 100]), ((0.1, 1.0), [10, 100]), ((0, 0.5, 1), [2, 100])]
)
def test_hidden_classes_are_thinned_like_the_novel_ones(monkeypatch, shares, sizes):
    seen = []

    def candidate(inputs, seed):
        seen.append(inputs.novel)
        return stub(0)(inputs, seed)

    for size in range(201):
        TRUTH[size] = np.zeros(size, np.int64)
    monkeypatch.setattr(contests, "CANDIDATES", {"kmeans": candidate})
    known, labels = (part.numpy() for part in vectors(range(4), each=100))
    hold_contest(known, labels, shares, seed=0)
    for rows in seen:
        own = [labels[(known == row).all(axis=1)][0] for row in rows]
        assert sorted(n for n in np.bincount(own, minlength=4) if n) == sizes


@pytest.mark.parametrize(
    ("seconds", "announced"), [(20, ["contest: 1 of 2 draws, about 20 s left"]), (5, [])]
)
def test_the_contest_says_how_long_it_will_take(monkeypatch, seconds, announced):
    clock, lines = [0], []

    def candidate(inputs, seed):
        clock[0] += seconds
        return stub(0)(inputs, seed)

    TRUTH[200] = np.repeat([0, 1], 100)
    monkeypatch.setattr(contests, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(contests, "CANDIDATES", {"kmeans": candidate})
    known, labels = vectors(range(4), each=100)
    hold_contest(known.numpy(), labels.numpy(), seed=0, log=lines.append)
    assert lines == ["contest of 1 methods on hidden known classes: 2 draws", *announced]


def test_a_difference_that_is_not_clear_leaves_the_order_of_the_candidates(monkeypatch):
    TRUTH[2000] = np.repeat([0, 1], 1000)
    known, labels = (part.numpy() for part in vectors(range(4), each=1000))
    order = {"first": stub(90), "second": stub(91), "kmeans": stub(70)}
    for clearly, chosen in ((0.6, "first"), (0.4, "second")):
        monkeypatch.setattr(contests, "CANDIDATES", order)
        monkeypatch.setattr(contests, "CLEARLY", clearly)
        assert hold_contest(known, labels, seed=0).chosen == chosen


def test_with_two_known_classes_there_is_no_contest():
    known, labels = vectors(range(2), each=10)
    novel, truth = vectors(range(2, 5), each=20)
    found = fit_discovery(known, labels, novel, 3)
    assert not found.contest.scores
    assert "too few" in found.contest.reason
    clusters = found.predict(novel).novel.argmax(dim=1).numpy()
    assert clustering_accuracy(clusters, truth.numpy()) > 0.90


def test_scrambled_labels_of_novel_vectors_reach_nothing():
    """Only the order of the vectors could hold labels: the classes are the same in another one."""
    known, labels = vectors(range(4), each=20)
    novel, truth = vectors(range(4, 7), each=30)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(novel)))
    results = []
    for rows in (novel, novel[order]):
        found = fit_discovery(known, labels, rows, 3, method="auto", seed=0)
        results.append((found.contest, found.predict(novel).novel.argmax(dim=1).numpy()))
    # Nothing of the novel vectors takes part in the contest but the sizes of their clusters.
    assert results[0][0] == results[1][0]
    for _, clusters in results:
        assert clustering_accuracy(clusters, truth.numpy()) > 0.90


@pytest.mark.parametrize("each", [1, 2, 5])
def test_very_few_vectors(each):
    known, labels = vectors(range(4), each=each)
    novel, _ = vectors(range(4, 7), each=max(each, 2))
    found = fit_discovery(known, labels, novel, 3, method="heads")
    for scores in found.predict(novel):
        assert scores.isfinite().all()


def test_neighbors_follow_the_size_of_a_class():
    assert [num_neighbors(n, 10) for n in (20, 1000, 50_000)] == [4, 20, 100]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_novel": 0}, "num_novel is 0"),
        ({"num_novel": 99}, "num_novel is 99 for 20"),
        ({"method": "magic"}, "method is 'magic'"),
        ({"known_labels": torch.zeros(3)}, "give one a vector"),
        ({"known_labels": torch.arange(20) // 10 * 2}, "without a gap"),
        ({"novel": torch.full((20, WIDTH), torch.nan)}, "novel row 0"),
        ({"novel": torch.zeros(0, WIDTH)}, "filled"),
    ],
)
def test_what_cannot_be_used_is_refused(change, words):
    known, labels = vectors(range(2), each=10)
    given = {"known": known, "known_labels": labels, "novel": known, "num_novel": 2, **change}
    with pytest.raises(InputError, match=words):
        fit_discovery(**given)
