from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd.core.errors import InputError
from crkd.core.types import HeadOutputs
from crkd.losses.distillation.ferkd import FerKd, regions
from crkd.losses.distillation.fkd import Fkd
from crkd.losses.soft_labels import log_probabilities
from crkd.losses.term import DistillationInputs, TermContext, build_term

VIEWS, HEADS, ROWS, LABELED, KNOWN, NOVEL = 2, 2, 8, 3, 5, 3
VARIANTS = [
    {},
    {"without_label": "drop"},
    {"lowest": 0.25, "hard": 0.5, "highest": 0.2, "smoothing": 0.3},
    {"lowest": 0.0, "hard": 0.4, "highest": 0.0, "smoothing": 0.0},
    {"on": "pseudo", "hard": 0.4},
]


def log_softmax(x: np.ndarray) -> np.ndarray:
    shifted = x - x.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(log_softmax(x))


def student_logits(seed: int = 0, rows: int = ROWS) -> np.ndarray:
    """Known logits and those of every head, ``(V, B, K + H M)``."""
    return np.random.default_rng(seed).normal(size=(VIEWS, rows, KNOWN + HEADS * NOVEL)) * 3


def soft_labels(seed: int = 1, rows: int = ROWS) -> np.ndarray:
    return softmax(np.random.default_rng(seed).normal(size=(VIEWS, rows, KNOWN)) * 3)


def some_labels(rows: int = ROWS, labeled: int = LABELED) -> np.ndarray:
    labels = np.random.default_rng(2).integers(KNOWN, size=rows)
    labels[labeled:] = -1
    return labels


def some_pseudo(rows: int = ROWS) -> np.ndarray:
    return np.random.default_rng(3).integers(KNOWN + NOVEL, size=(VIEWS, HEADS, rows))


def inputs_for(
    student: torch.Tensor,
    soft: np.ndarray,
    *,
    labeled: int = LABELED,
    mix: np.ndarray | None = None,
) -> DistillationInputs:
    rows = student.shape[1]
    known, novel = student.split([KNOWN, HEADS * NOVEL], dim=-1)
    novel = novel.unflatten(-1, (HEADS, NOVEL)).transpose(1, 2)
    nothing = student.new_zeros(VIEWS, rows, 0)
    theirs = HeadOutputs(nothing, log_probabilities(torch.tensor(soft)))
    return DistillationInputs(
        HeadOutputs(nothing, known, novel),
        theirs,
        torch.tensor(some_labels(rows, labeled)),
        labeled,
        torch.tensor(some_pseudo(rows)),
        None if mix is None else torch.tensor(mix),
    )


def call(term: FerKd, student: torch.Tensor, soft: np.ndarray, **options: object) -> torch.Tensor:
    return term(inputs_for(student, soft, **options))


def formula(
    student: np.ndarray,
    soft: np.ndarray,
    *,
    labeled: int = LABELED,
    lowest: float = 0.1,
    hard: float = 0.2,
    highest: float = 0.1,
    smoothing: float = 0.1,
    on: str = "labeled",
    without_label: str = "keep",
    mix: np.ndarray | None = None,
) -> float:
    """One view and row after the other, regions by sorting; scores all differ."""
    rows = student.shape[1]
    labels, pseudo = some_labels(rows, labeled), some_pseudo(rows)
    fate = {}
    for kind in (range(labeled), range(labeled, rows)):
        order = sorted(((v, b) for v in range(VIEWS) for b in kind), key=lambda i: soft[i].max())
        n = len(order)
        below, under = math.floor(lowest * n + 1e-9), math.floor((lowest + hard) * n + 1e-9)
        top = n - math.floor(highest * n + 1e-9)
        for rank, place in enumerate(order):
            kept = below <= rank < top
            fate[place] = "out" if not kept else "hard" if rank < under else "important"

    def smoothed(z: np.ndarray, y: int) -> float:
        log_q, others = log_softmax(z), (smoothing / (len(z) - 1))
        return -sum(log_q[c] * ((1 - smoothing) if c == y else others) for c in range(len(z)))

    def one(v: int, b: int, seen: int) -> tuple[float, float]:
        """Loss and weight of the student's view ``seen`` under the label of view ``v``."""
        known = student[seen, b, :KNOWN]
        novel = student[seen, b, KNOWN:].reshape(HEADS, NOVEL)
        on_soft = -(soft[v, b] * log_softmax(known)).sum()
        if fate[v, b] == "out":
            return 0.0, 0.0
        if fate[v, b] == "important":
            return on_soft, 1.0
        if on == "pseudo":
            each = [
                smoothed(np.concatenate([known, novel[h]]), pseudo[v, h, b]) for h in range(HEADS)
            ]
            return sum(each) / HEADS, 1.0
        if labels[b] >= 0:
            return smoothed(known, labels[b]), 1.0
        return (on_soft, 1.0) if without_label == "keep" else (0.0, 0.0)

    loss = weight = 0.0
    for v in range(VIEWS):
        for b in range(rows):
            share = 1.0 if mix is None else mix[b]
            for turn, part in ((0, share), (1, 1 - share)):
                found, counted = one((v + turn) % VIEWS, b, v)
                loss, weight = loss + part * found, weight + part * counted
    return loss / weight


def leaf(array: np.ndarray, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor(array, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("options", VARIANTS)
def test_value_and_gradient_against_the_formula(options: dict, mixed: bool, numeric_gradient):
    student, soft = student_logits(), soft_labels()
    mix = np.random.default_rng(4).random(ROWS) if mixed else None
    ours = leaf(student)
    loss = call(FerKd(**options), ours, soft, mix=mix)
    loss.backward()
    assert loss.item() == pytest.approx(formula(student, soft, mix=mix, **options), rel=1e-9)
    numeric = numeric_gradient(lambda z: formula(z, soft, mix=mix, **options), student)
    np.testing.assert_allclose(ours.grad.numpy(), numeric, atol=1e-7)


@pytest.mark.parametrize("labeled", [0, 1, ROWS])
def test_any_number_of_labeled_rows(labeled: int):
    student, soft = student_logits(5), soft_labels(6)
    options = {"lowest": 0.2, "hard": 0.3, "highest": 0.2}
    ours = call(FerKd(**options), leaf(student), soft, labeled=labeled)
    assert ours.item() == pytest.approx(formula(student, soft, labeled=labeled, **options))


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=40, unique=True),
    st.floats(0, 0.33),
    st.floats(0, 0.33),
    st.floats(0, 0.33),
)
def test_distinct_scores_are_split_by_the_shares(
    scores: list[float], lowest: float, hard: float, highest: float
):
    count = len(scores)
    tensor = torch.tensor(scores, dtype=torch.float64)[None]
    found = regions(tensor, lowest=lowest, hard=hard, highest=highest)
    out = math.floor(lowest * count + 1e-9) + math.floor(highest * count + 1e-9)
    assert count - found.informative.sum() == out
    assert found.hard.sum() == math.floor((lowest + hard) * count + 1e-9) - math.floor(
        lowest * count + 1e-9
    )
    assert not (found.hard & ~found.informative).any()
    if found.hard.any():
        important = found.informative & ~found.hard
        assert tensor[found.hard].max() < tensor[important].min()


def test_only_the_order_of_scores_counts():
    """Relative thresholds: a teacher that is less sure of everything sorts the views alike."""
    scores = torch.rand(2, 9, generator=torch.Generator().manual_seed(0))
    shares = {"lowest": 0.2, "hard": 0.3, "highest": 0.1}
    sure, unsure = regions(scores, **shares), regions(scores / 7 + 0.1, **shares)
    assert torch.equal(sure.informative, unsure.informative)
    assert torch.equal(sure.hard, unsure.hard)


def test_equal_scores_are_all_important():
    found = regions(torch.full((2, 5), 0.7), lowest=0.3, hard=0.3, highest=0.3)
    assert found.informative.all()
    assert not found.hard.any()


def test_the_order_of_rows_does_not_matter():
    student, soft = student_logits(7), soft_labels(8)
    turn = np.roll(np.arange(LABELED, ROWS), 2)
    order = np.concatenate([np.arange(LABELED), turn])
    term = FerKd(hard=0.0)
    one = call(term, leaf(student), soft)
    other = call(term, leaf(student[:, order]), soft[:, order])
    assert one.item() == pytest.approx(other.item(), rel=1e-12)


def test_without_regions_it_is_fkd():
    student, soft = leaf(student_logits(9)), soft_labels(10)
    plain = FerKd(lowest=0.0, hard=0.0, highest=0.0)
    nothing = student.new_zeros(VIEWS, ROWS, 0)
    inputs = DistillationInputs(
        HeadOutputs(nothing, student[..., :KNOWN]),
        HeadOutputs(nothing, log_probabilities(torch.tensor(soft))),
    )
    torch.testing.assert_close(call(plain, student, soft), Fkd()(inputs))


def test_uninformative_views_get_no_gradient():
    soft, ours = soft_labels(11), leaf(student_logits(12))
    call(FerKd(lowest=0.25, highest=0.25), ours, soft).backward()
    tops = soft.max(-1)[:, LABELED:]
    reached = ours.grad[:, LABELED:].abs().sum(-1) > 0
    assert not reached.numpy()[(tops == tops.min()) | (tops == tops.max())].any()
    assert reached.sum() == tops.size - 2 * math.floor(0.25 * tops.size)


def test_a_whole_share_of_itself_is_no_mixture():
    ours, soft = leaf(student_logits(13)), soft_labels(14)
    alone = call(FerKd(), ours, soft)
    torch.testing.assert_close(call(FerKd(), ours, soft, mix=np.ones(ROWS)), alone)


def test_hidden_labels_have_no_say():
    """Labels of unlabeled rows are -1 in every batch, and pseudo-labels enter by option alone."""
    ours, soft = leaf(student_logits(15)), soft_labels(16)
    given = DistillationInputs(
        HeadOutputs(ours[..., :0], ours[..., :KNOWN]),
        HeadOutputs(ours[..., :0], log_probabilities(torch.tensor(soft))),
        torch.tensor(some_labels()),
        LABELED,
    )
    term = FerKd(hard=0.5)
    with_pseudo = given._replace(pseudo_labels=torch.tensor(some_pseudo()))
    assert torch.equal(term(given), term(with_pseudo))


def test_no_gradient_reaches_the_labels():
    theirs, ours = leaf(student_logits(17)[..., :KNOWN]), leaf(student_logits(18))
    nothing = ours.new_zeros(VIEWS, ROWS, 0)
    FerKd()(
        DistillationInputs(
            HeadOutputs(nothing, ours[..., :KNOWN]),
            HeadOutputs(nothing, theirs),
            torch.tensor(some_labels()),
            LABELED,
        )
    ).backward()
    assert theirs.grad is None
    assert ours.grad.any()


@pytest.mark.parametrize("options", VARIANTS)
def test_without_rows_it_is_a_differentiable_zero(options: dict):
    ours = leaf(student_logits(rows=0))
    loss = call(FerKd(**options), ours, soft_labels(rows=0), labeled=0)
    loss.backward()
    assert loss.item() == 0
    assert ours.grad.shape == ours.shape


@pytest.mark.parametrize("scale", [1.0, 3000.0])
@pytest.mark.parametrize("options", VARIANTS)
def test_half_precision_is_finite(options: dict, scale: float):
    student, soft = student_logits(19) * scale, soft_labels(20)
    ours = leaf(student, torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = call(FerKd(**options), ours, soft)
    loss.backward()
    assert loss.item() == pytest.approx(formula(student, soft, **options), rel=2e-2)
    assert ours.grad.isfinite().all()


@pytest.mark.parametrize("options", VARIANTS)
def test_it_traces_into_one_graph(options: dict):
    torch._dynamo.reset()
    mix = np.random.default_rng(5).random(ROWS)
    term, inputs = FerKd(**options), inputs_for(leaf(student_logits(21)), soft_labels(22), mix=mix)
    compiled = torch.compile(term, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(inputs), term(inputs))


def test_what_it_declares_must_be_there():
    ours = leaf(student_logits(23))
    inputs = DistillationInputs(HeadOutputs(ours[..., :0], ours[..., :KNOWN]), None)
    with pytest.raises(RuntimeError, match="declares teacher_logits"):
        FerKd()(inputs)
    with pytest.raises(RuntimeError, match=r"declares labels was given none"):
        FerKd()(inputs._replace(teacher=inputs.student))


def test_discovery_asks_whose_labels_hard_views_get():
    context = TermContext(KNOWN, 4, 4)
    with pytest.raises(InputError, match=r"'ferkd' needs labels.*on: labeled.*on: pseudo"):
        build_term("ferkd", stage="discover", context=context)
    term = build_term("ferkd", stage="discover", context=context, options={"on": "pseudo"})
    assert term.needs == {"teacher_logits", "stored_views", "pseudo_labels"}
    assert build_term("ferkd", stage="distill", context=context).needs >= {"labels"}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"lowest": -0.1}, "lowest is -0.1"),
        ({"hard": math.nan}, "hard is nan"),
        ({"highest": 1.0}, "highest is 1.0"),
        ({"lowest": 0.5, "hard": 0.3, "highest": 0.2}, r"lowest \+ hard \+ highest is 1"),
        ({"smoothing": 1.0}, "smoothing is 1.0"),
        ({"self_mix": 1.5}, "self_mix is 1.5"),
        ({"on": "all"}, "on is 'all'"),
        ({"without_label": "guess"}, "without_label is 'guess'"),
    ],
)
def test_options_out_of_range_are_named(options: dict, named: str):
    with pytest.raises(InputError, match=f"ferkd: {named}"):
        FerKd(**options)
