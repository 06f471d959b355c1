from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from crkd.core.errors import InputError
from crkd.core.types import HeadOutputs
from crkd.losses.distillation.mlld import MLLD, class_level, kept_share
from crkd.losses.term import DistillationInputs, TermContext, build_term

VARIANTS = [
    {},
    {"views": "weak_strong"},
    {"form": "release"},
    {"form": "release", "views": "weak_strong", "temperatures": [2.0, 0.5]},
    {"temperatures": [0.5, 4.0], "reference_batch": 7, "reference_classes": 3},
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
    form: str = "paper",
    reference_batch: float = 64,
    reference_classes: float = 100,
    views: str = "alike",
    instance_weight: float = 1.0,
    batch_weight: float = 1.0,
    class_weight: float = 1.0,
) -> float:
    """The three levels with loops over samples and classes; percentiles as in the release."""
    total_views, rows, classes = student.shape
    weak = range(total_views) if views == "alike" else range(1)
    strong = range(total_views) if views == "alike" else range(1, total_views)
    size, more = reference_batch, classes / reference_classes
    total = 0.0
    for t in temperatures:

        def divergence(v: int, t: float = t) -> float:
            p, q = softmax(teacher[v] / t), softmax(student[v] / t)
            logs = np.log(p) - np.log(q)
            return sum(p[n, k] * logs[n, k] for n in range(rows) for k in range(classes)) / rows

        for v in weak:
            sure = softmax(teacher[v])
            tops, given = sure.max(-1), sure.sum(0)
            samples = np.mean(tops <= np.percentile(tops, 50)) if form == "release" else 1.0
            kept = np.mean(given <= np.percentile(given, 50)) if form == "release" else 1.0
            p, q = softmax(teacher[v] / t), softmax(student[v] / t)
            batch = ((q @ q.T - p @ p.T) ** 2).sum() / rows
            together = ((q.T @ q - p.T @ p) ** 2).sum() / classes
            total += instance_weight * samples * t**2 * divergence(v) / len(weak)
            total += batch_weight * samples * batch * (size / rows) * more / len(weak)
            total += class_weight * kept * together * (size / rows * more) ** 2 / len(weak)
        second = weak if form == "release" and t in (2, 6) else strong
        total += instance_weight * t**2 * np.mean([divergence(v) for v in second])
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


def test_at_both_references_it_is_the_papers_formula():
    """KL * T^2 for two views, Gram distances over B and over K."""
    student, teacher = random_logits(4, 1, 64), random_logits(5, 1, 64)
    term = MLLD(temperatures=4, reference_classes=4)
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


LEVELS = ["instance_weight", "batch_weight", "class_weight"]


def only(level: str) -> dict[str, float]:
    return {name: float(name == level) for name in LEVELS}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("copies", [2, 20])
def test_no_level_depends_on_the_number_of_classes(level: str, copies: int):
    """Copies of a problem, each on classes of its own, have the loss of one."""
    student, teacher = random_logits(6, classes=5), random_logits(7, classes=5)

    def on_own_classes(logits: np.ndarray) -> np.ndarray:
        blocks = np.full((2, copies, 5, copies, 5), -1e4)
        for copy in range(copies):
            blocks[:, copy, :, copy] = logits
        return blocks.reshape(2, copies * 5, copies * 5)

    once = call(MLLD(**only(level)), leaf(student), leaf(teacher))
    many = call(MLLD(**only(level)), leaf(on_own_classes(student)), leaf(on_own_classes(teacher)))
    assert once.item() > 0
    assert many.item() == pytest.approx(once.item(), rel=1e-10)


@pytest.mark.parametrize("classes", [5, 100])
def test_the_instance_level_has_the_largest_gradient(classes: int):
    """Else the others, which a small difference of probabilities moves much, destabilize it."""
    student = random_logits(8, rows=64, classes=classes)
    teacher = random_logits(9, rows=64, classes=classes)
    norms = {}
    for level in LEVELS:
        ours = leaf(student)
        call(MLLD(**only(level)), ours, leaf(teacher)).backward()
        norms[level] = ours.grad.norm().item()
    assert max(norms, key=norms.__getitem__) == "instance_weight"


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_the_kept_share_is_the_mean_of_the_releases_mask(count: int):
    scores = np.random.default_rng(count).random((3, count))
    expected = scores <= np.percentile(scores, 50, axis=-1, keepdims=True)
    np.testing.assert_allclose(kept_share(torch.tensor(scores)), expected.mean(-1))


def test_the_release_halves_levels_and_selects_nothing():
    student, teacher = random_logits(10, rows=6), random_logits(11, rows=6)
    for level, factor in (("batch_weight", 0.5), ("class_weight", 0.5), ("instance_weight", 0.75)):
        paper, release = (
            call(MLLD(**only(level), form=form), leaf(student), leaf(teacher)).item()
            for form in ("paper", "release")
        )
        assert release == pytest.approx(factor * paper, rel=1e-10)


def test_temperatures_multiply_that_of_the_head():
    """Cosines over 0.1, read at T, are cosines over 0.1 T."""
    cosines, others = np.tanh(random_logits(9)), np.tanh(random_logits(10))
    levels = only("instance_weight")
    head = call(MLLD(**levels, temperatures=4.0), leaf(cosines / 0.1), leaf(others / 0.1))
    plain = call(MLLD(**levels, temperatures=0.4), leaf(cosines), leaf(others))
    assert head.item() == pytest.approx(plain.item() * 100, rel=1e-9)  # T^2 is 16, then 0.16


def test_the_squared_temperature_keeps_the_gradient_at_the_size_of_the_logits():
    """For a large T each instance's gradient tends to (z_s - z_t) / K, twice: weak and strong."""
    student, teacher = random_logits(11), random_logits(12)
    ours = leaf(student)
    term = MLLD(temperatures=1e4, batch_weight=0.0, class_weight=0.0)
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
        ("form", "published"),
        ("reference_batch", 0),
        ("reference_classes", math.inf),
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


def trained_accuracy(classes: int, **options: float) -> float:
    """Train a student with the default weights; return its accuracy on new samples.

    The classes are directions, and the teacher's logits are cosines to them over 0.1.
    """
    make = torch.Generator().manual_seed(0)
    directions = F.normalize(torch.randn(classes, 32, generator=make), dim=1)

    def draw(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.randint(classes, (count,), generator=make)
        noise = 0.1 * torch.randn(count, 32, generator=make)
        return F.normalize(directions[labels] + noise, dim=1), labels

    torch.manual_seed(0)
    layers = nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, classes)
    student, term = nn.Sequential(*layers), MLLD(**options)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.02, momentum=0.9)
    for _ in range(150):
        samples, labels = draw(64)
        logits = student(samples * 32**0.5)
        distilled = call(term, logits[None], 10 * samples[None] @ directions.T)
        loss = term.supervised * F.cross_entropy(logits, labels) + term.weight * distilled
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    samples, labels = draw(500)
    return (student(samples * 32**0.5).argmax(dim=1) == labels).float().mean().item()


@pytest.mark.parametrize("classes", [5, 100])
def test_it_trains_a_student_whatever_the_number_of_classes(classes: int):
    assert trained_accuracy(classes) > 0.95


def test_with_the_published_scale_it_diverges_on_five_classes():
    assert trained_accuracy(5, reference_classes=5) < 0.5
