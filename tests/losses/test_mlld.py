from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from crkd.core.errors import InputError
from crkd.core.types import HeadOutputs
from crkd.losses.distillation.mlld import MLLD, class_level, lowest
from crkd.losses.term import DistillationInputs, TermContext, build_term

VARIANTS = [
    {},
    {"views": "weak_strong"},
    {"sample_share": 1.0, "class_share": 1.0},
    {"sample_share": 0.3, "class_share": 0.7, "temperatures": [0.5, 4.0], "reference_batch": 7},
    {"instance_weight": 0.0, "batch_weight": 0.5, "class_weight": 2.0},
]


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors this small gain nothing from a second thread, and would wait for it on a busy CPU."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def outputs(known: torch.Tensor) -> HeadOutputs:
    return HeadOutputs(torch.zeros(*known.shape[:2], 1), known)


def call(term: MLLD, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    return term(DistillationInputs(outputs(student), outputs(teacher)))


def random_logits(seed: int, views: int = 2, rows: int = 5, classes: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(views, rows, classes)) * 4


def leaf(array: np.ndarray, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor(array, dtype=dtype, requires_grad=True)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def formula(
    student: np.ndarray,
    teacher: np.ndarray,
    *,
    temperatures: tuple[float, ...] = (2, 3, 4, 5, 6),
    sample_share: float = 0.5,
    class_share: float = 0.5,
    reference_batch: float = 64,
    views: str = "alike",
    instance_weight: float = 1.0,
    batch_weight: float = 1.0,
    class_weight: float = 1.0,
) -> float:
    """The three levels with loops over what the masks pick; percentiles as in the release."""
    total_views, rows, classes = student.shape
    weak = range(total_views) if views == "alike" else range(1)
    strong = range(total_views) if views == "alike" else range(1, total_views)
    size = reference_batch
    total = 0.0
    for t in temperatures:

        def divergence(v: int, b: int, t: float = t) -> float:
            p, q = softmax(teacher[v, b] / t), softmax(student[v, b] / t)
            return sum(p[k] * (math.log(p[k]) - math.log(q[k])) for k in range(classes)) * t**2

        for v in weak:
            sure = softmax(teacher[v])
            tops, given = sure.max(-1), sure.sum(0)
            samples = [b for b in range(rows) if tops[b] <= np.percentile(tops, 100 * sample_share)]
            few = [k for k in range(classes) if given[k] <= np.percentile(given, 100 * class_share)]
            instance = sum(divergence(v, b) for b in samples) / rows
            p, q = softmax(teacher[v] / t), softmax(student[v] / t)
            among_samples = q @ q.T - p @ p.T
            among_classes = q.T @ q - p.T @ p
            batch = sum(among_samples[b, c] ** 2 for b in samples for c in range(rows)) / rows
            together = sum(among_classes[k, c] ** 2 for k in few for c in range(classes)) / classes
            total += instance_weight * instance / len(weak)
            total += batch_weight * batch * (size / rows) / len(weak)
            total += class_weight * together * (size / rows) ** 2 / len(weak)
        for v in strong:
            instance = sum(divergence(v, b) for b in range(rows)) / rows
            total += instance_weight * instance / len(strong)
    return total


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("rows", [1, 5, 6])
def test_value_against_the_formula(options: dict, rows: int):
    student, teacher = random_logits(0, 3, rows), random_logits(1, 3, rows)
    ours = call(MLLD(**options), leaf(student), leaf(teacher))
    assert ours.item() == pytest.approx(formula(student, teacher, **options), rel=1e-10)


@pytest.mark.parametrize("options", VARIANTS)
def test_gradient_against_finite_differences(options: dict):
    student, teacher = random_logits(2), random_logits(3)
    ours, step = leaf(student), 1e-6
    call(MLLD(**options), ours, leaf(teacher)).backward()
    numeric = np.zeros_like(student)
    for index in np.ndindex(*student.shape):
        up, down = student.copy(), student.copy()
        up[index] += step
        down[index] -= step
        slope = formula(up, teacher, **options) - formula(down, teacher, **options)
        numeric[index] = slope / (2 * step)
    np.testing.assert_allclose(ours.grad.numpy(), numeric, atol=1e-6)


def test_at_the_reference_batch_without_masks_it_has_the_releases_scale():
    """There: KL * T^2 for two views, Gram distances over B and over K; the masks keep all."""
    student, teacher = random_logits(4, 1, 64), random_logits(5, 1, 64)
    term = MLLD(temperatures=4, sample_share=1.0, class_share=1.0)
    p, q = softmax(teacher[0] / 4), softmax(student[0] / 4)
    expected = 2 * 16 * (p * np.log(p / q)).sum() / 64
    expected += ((q @ q.T - p @ p.T) ** 2).sum() / 64
    expected += ((q.T @ q - p.T @ p) ** 2).sum() / 4
    assert call(term, leaf(student), leaf(teacher)).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("level", ["instance_weight", "batch_weight", "class_weight"])
def test_no_level_grows_with_the_batch(level: str):
    """A batch shown three times over says nothing new."""
    weights = {"instance_weight": 0.0, "batch_weight": 0.0, "class_weight": 0.0, level: 1.0}
    student, teacher = random_logits(6, rows=6), random_logits(7, rows=6)
    term = MLLD(**weights)
    once = call(term, leaf(student), leaf(teacher))
    thrice = call(term, leaf(np.tile(student, (1, 3, 1))), leaf(np.tile(teacher, (1, 3, 1))))
    assert thrice.item() == pytest.approx(once.item(), rel=1e-10)


@pytest.mark.parametrize("count", [1, 2, 5, 8])
@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_the_mask_is_the_releases_percentile(count: int, share: float):
    scores = np.random.default_rng(count).random((3, count))
    expected = scores <= np.percentile(scores, 100 * share, axis=-1, keepdims=True)
    assert (lowest(torch.tensor(scores), share).numpy() == expected).all()
    assert expected.sum(-1).min() == math.floor(share * (count - 1)) + 1


def test_the_sample_mask_selects():
    """Of two samples, the one of which the teacher is sure gets no gradient from the weak view."""
    teacher = np.array([[[9.0, 0.0, 0.0], [1.0, 0.0, 0.0]]] * 2)
    student = leaf(random_logits(8, 2, 2, 3))
    term = MLLD(views="weak_strong", batch_weight=0.0, class_weight=0.0)
    call(term, student, leaf(teacher)).backward()
    assert not student.grad[0, 0].any()
    assert student.grad[0, 1].any()
    assert student.grad[1].any(dim=-1).all()  # the strong view has no mask


def test_the_class_mask_selects():
    """What happens among classes that the teacher gives the most does not count."""
    teacher = np.array([[[5.0, 5.0, 0.0, 0.0], [5.0, 5.0, 0.0, 0.0]]])
    # The student sorts the two samples into the two heavy classes: only their block changes.
    student = np.array([[[9.0, 1.0, 0.0, 0.0], [1.0, 9.0, 0.0, 0.0]]])
    rest = 1 - softmax(teacher)[..., :2].sum(-1, keepdims=True)
    heavy = softmax(student[..., :2]) * (1 - rest)
    student = np.log(np.concatenate([heavy, np.repeat(rest / 2, 2, axis=-1)], axis=-1))
    only = {"instance_weight": 0.0, "batch_weight": 0.0, "temperatures": 1.0}
    masked = call(MLLD(**only), leaf(student), leaf(teacher))
    everything = call(MLLD(**only, class_share=1.0), leaf(student), leaf(teacher))
    assert masked.item() == pytest.approx(0, abs=1e-10)
    assert everything.item() > 100


def test_temperatures_multiply_that_of_the_head():
    """Cosines over 0.1, read at T, are cosines over 0.1 T."""
    cosines, others = np.tanh(random_logits(9)), np.tanh(random_logits(10))
    levels = {"batch_weight": 0.0, "class_weight": 0.0, "sample_share": 1.0}
    head = call(MLLD(**levels, temperatures=4.0), leaf(cosines / 0.1), leaf(others / 0.1))
    plain = call(MLLD(**levels, temperatures=0.4), leaf(cosines), leaf(others))
    assert head.item() == pytest.approx(plain.item() * 100, rel=1e-9)  # T^2 is 16, then 0.16


def test_the_squared_temperature_keeps_the_gradient_at_the_size_of_the_logits():
    """For a large T each instance's gradient tends to (z_s - z_t) / K, twice: weak and strong."""
    student, teacher = random_logits(11), random_logits(12)
    ours = leaf(student)
    term = MLLD(temperatures=1e4, sample_share=1.0, batch_weight=0.0, class_weight=0.0)
    call(term, ours, leaf(teacher)).backward()
    gap = student - teacher
    expected = 2 * (gap - gap.mean(-1, keepdims=True)) / 4 / (2 * 5)
    np.testing.assert_allclose(ours.grad.numpy(), expected, rtol=2e-2, atol=1e-4)


@pytest.mark.parametrize("options", VARIANTS)
def test_it_is_zero_where_the_student_is_the_teacher(options: dict):
    logits = random_logits(13)
    ours = leaf(logits)
    loss = call(MLLD(**options), ours, leaf(logits))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert ours.grad.abs().max() < 1e-12


def test_descent_on_the_logits_reaches_the_teacher():
    term, ours = MLLD(temperatures=2.0), leaf(random_logits(14))
    assert list(term.parameters()) == []
    theirs = torch.tensor(random_logits(15))
    first = call(term, ours, theirs).item()
    optimizer = torch.optim.Adam([ours], lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = call(term, ours, theirs)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 * first


def test_two_batch_sizes_in_a_row():
    term = MLLD()
    for rows in (6, 3):
        student, teacher = random_logits(16, 2, rows), random_logits(17, 2, rows)
        loss = call(term, leaf(student), leaf(teacher))
        assert loss.item() == pytest.approx(formula(student, teacher), rel=1e-10)


def test_logits_far_apart_are_finite():
    ours = leaf(random_logits(20) * 1000, torch.float32)
    loss = call(MLLD(temperatures=[0.1, 4.0]), ours, leaf(random_logits(21) * 1000, torch.float32))
    loss.backward()
    assert loss.isfinite()
    assert ours.grad.isfinite().all()


@pytest.mark.parametrize("options", VARIANTS)
def test_without_rows_it_is_a_differentiable_zero(options: dict):
    ours = leaf(np.zeros((2, 0, 4)))
    loss = call(MLLD(**options), ours, leaf(np.zeros((2, 0, 4))))
    loss.backward()
    assert loss.item() == 0
    assert ours.grad.shape == ours.shape


@pytest.mark.parametrize("views", ["alike", "weak_strong"])
def test_it_traces_into_one_graph(views: str):
    torch._dynamo.reset()
    term, ours, theirs = MLLD(views=views), leaf(random_logits(0)), leaf(random_logits(1))
    compiled = torch.compile(
        lambda s, t: call(term, s, t), backend="eager", fullgraph=True, dynamic=False
    )
    torch.testing.assert_close(compiled(ours, theirs), call(term, ours, theirs))


@pytest.mark.parametrize("stage", ["discover", "distill"])
def test_options_come_from_the_configuration(stage: str):
    context = TermContext(num_known=4, student_features=6, teacher_features=6)
    options = {"temperatures": [1, 2], "views": "weak_strong"}
    term = build_term("mlld", stage=stage, context=context, options=options)
    assert term.temperatures == (1, 2)
    assert MLLD().temperatures == (2.0, 3.0, 4.0, 5.0, 6.0)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("temperatures", []),
        ("temperatures", [2.0, 0.0]),
        ("temperatures", math.nan),
        ("sample_share", 0.0),
        ("class_share", 1.5),
        ("reference_batch", 0),
        ("views", "strong"),
        ("instance_weight", -1.0),
        ("batch_weight", math.nan),
        ("class_weight", math.inf),
    ],
)
def test_options_out_of_range_are_named(option: str, value: object):
    with pytest.raises(InputError, match=f"mlld: {option} is"):
        MLLD(**{option: value})


def test_a_missing_strong_view_is_named():
    one = leaf(random_logits(0, views=1))
    with pytest.raises(InputError, match=r"has 1 large view; choose 'alike'"):
        call(MLLD(views="weak_strong"), one, one)


def test_class_level_by_hand():
    # Two samples, two classes. Student: one class each; teacher: undecided.
    student, teacher = torch.eye(2), torch.full((2, 2), 0.5)
    # (I - [[.5, .5], [.5, .5]]) / 2 has entries +-1/4; two squares in each row.
    assert class_level(student, teacher).tolist() == [0.125, 0.125]
