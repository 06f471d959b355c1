"""Requirements of every registered term, in each stage where it applies."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from crkd.core.errors import InputError
from crkd.core.types import HeadOutputs
from crkd.losses.term import (
    STAGES,
    TERMS,
    DistillationInputs,
    DistillationTerm,
    TermContext,
    build_term,
    option_names,
    terms_for,
)
from crkd.models.heads.prototype import PrototypeHead

VIEWS, HEADS, ROWS, LABELED, FEATURES, KNOWN, NOVEL = 2, 2, 8, 3, 5, 6, 3
STUDENT, TEACHER = (2, 3, FEATURES), (3, 4, FEATURES)
CASES = [
    (name, stage, on)
    for name in TERMS.names()
    for stage in sorted(TERMS.get(name).stages)
    for on in (("labeled", "pseudo") if "labels" in TERMS.get(name).needs else (None,))
    if (stage, on) != ("pretrain", "pseudo")
]
everywhere = pytest.mark.parametrize(("name", "stage", "on"), CASES)


def term_for(name: str, stage: str, on: str | None) -> DistillationTerm:
    torch.manual_seed(0)
    head = PrototypeHead(FEATURES, KNOWN)
    context = TermContext(KNOWN, FEATURES, FEATURES, STUDENT, TEACHER, head)
    term = build_term(name, stage=stage, context=context, options={} if on is None else {"on": on})
    assert ("on" in option_names(type(term))) == (on is not None)
    return term


def outputs(
    channels: tuple[int, ...], seed: int, rows: int = ROWS, scale: float = 4.0
) -> HeadOutputs:
    make = torch.Generator().manual_seed(seed)

    def leaf(*shape: int, scale: float = 1.0) -> torch.Tensor:
        values = torch.randn(*shape, generator=make, dtype=torch.float64) * scale
        return values.requires_grad_()

    return HeadOutputs(
        leaf(VIEWS, rows, FEATURES),
        leaf(VIEWS, rows, KNOWN, scale=scale),
        leaf(VIEWS, HEADS, rows, NOVEL, scale=scale),
        maps=tuple(
            tuple(leaf(rows, c, 4 >> stage, 4 >> stage) for stage, c in enumerate(channels))
            for _ in range(VIEWS)
        ),
    )


def leaves(given: HeadOutputs) -> list[torch.Tensor]:
    maps = [stage for view in given.maps for stage in view]
    assert given.novel_logits is not None
    return [given.features, given.known_logits, given.novel_logits, *maps]


def converted(given: HeadOutputs, dtype: torch.dtype) -> HeadOutputs:
    def leaf(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().to(dtype).requires_grad_()

    assert given.novel_logits is not None
    return HeadOutputs(
        leaf(given.features),
        leaf(given.known_logits),
        leaf(given.novel_logits),
        maps=tuple(tuple(leaf(stage) for stage in view) for view in given.maps),
    )


def inputs_for(rows: int = ROWS, labeled: int = LABELED, scale: float = 4.0) -> DistillationInputs:
    make = torch.Generator().manual_seed(2)
    labels = torch.randint(KNOWN, (rows,), generator=make)
    labels[labeled:] = -1
    pseudo = torch.randint(KNOWN + NOVEL, (VIEWS, HEADS, rows), generator=make)
    student, teacher = outputs(STUDENT, 0, rows, scale), outputs(TEACHER, 1, rows, scale)
    return DistillationInputs(student, teacher, labels, labeled, pseudo)


class Network(nn.Module):
    """Three convolutions, and linear heads on the average of the last map."""

    def __init__(self, channels: tuple[int, ...], seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stages = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1)
            for a, b in zip((3, *channels), channels, strict=False)
        )
        self.heads = nn.Linear(FEATURES, KNOWN + HEADS * NOVEL)
        self.double()

    def forward(self, views: torch.Tensor) -> HeadOutputs:
        maps = []
        for view in views:
            stages = [view]
            for stage in self.stages:
                stages.append(F.leaky_relu(stage(stages[-1])))
            maps.append(tuple(stages[1:]))
        features = torch.stack([stages[-1].mean(dim=(2, 3)) for stages in maps])
        known, novel = (10 * self.heads(features)).split([KNOWN, HEADS * NOVEL], dim=-1)
        novel = novel.unflatten(-1, (HEADS, NOVEL)).transpose(1, 2)
        return HeadOutputs(features, known, novel, maps=tuple(maps))


def trained_by(name: str, stage: str, on: str | None) -> torch.Tensor:
    """Return the direction into which one step of the term moves all weights of a network."""
    student, teacher = Network(STUDENT, 0), Network(TEACHER, 1)
    before = nn.utils.parameters_to_vector(student.parameters()).detach()
    make = torch.Generator().manual_seed(3)
    views = torch.randn(VIEWS, ROWS, 3, 16, 16, generator=make, dtype=torch.float64)
    term = term_for(name, stage, on).double()
    inputs = inputs_for()._replace(student=student(views), teacher=teacher(views))
    term(inputs).backward()
    torch.optim.SGD(student.parameters(), lr=1.0).step()
    moved = nn.utils.parameters_to_vector(student.parameters()).detach() - before
    return moved / moved.norm()


@pytest.mark.parametrize(("name", "stage", "on"), [case for case in CASES if case[0] != "kd"])
def test_it_trains_other_weights_than_kd_whatever_the_weight(name: str, stage: str, on: str | None):
    apart = trained_by(name, stage, on) - trained_by("kd", "distill", None)
    assert apart.norm() > 0.01


@everywhere
def test_it_reaches_the_student_and_never_the_teacher(name: str, stage: str, on: str | None):
    inputs = inputs_for()
    loss = term_for(name, stage, on).double()(inputs)
    assert loss.shape == ()
    loss.backward()
    assert all(leaf.grad is None for leaf in leaves(inputs.of_teacher()))
    reached = [leaf.grad for leaf in leaves(inputs.student) if leaf.grad is not None]
    assert any(gradient.any() for gradient in reached)
    assert all(gradient.isfinite().all() for gradient in reached)


@everywhere
def test_one_step_changes_every_parameter_that_it_trains(name: str, stage: str, on: str | None):
    inputs, term = inputs_for(), term_for(name, stage, on).double()
    trained = [(n, p, p.detach().clone()) for n, p in term.named_parameters() if p.requires_grad]
    first = term(inputs)
    first.backward()
    if not trained:
        return
    torch.optim.SGD([p for _, p, _ in trained], lr=1e-3).step()
    for label, parameter, before in trained:
        assert (parameter != before).any(), label
    assert term(inputs) < first


@everywhere
def test_without_rows_it_is_a_differentiable_zero(name: str, stage: str, on: str | None):
    inputs = inputs_for(rows=0, labeled=0)
    term = term_for(name, stage, on).double()
    before = copy.deepcopy(term.state_dict())
    loss = term(inputs)
    loss.backward()
    assert loss.item() == 0
    assert any(leaf.grad is not None for leaf in leaves(inputs.student))
    assert all(p.grad is None or not p.grad.any() for p in term.parameters())
    assert all(torch.equal(value, before[key]) for key, value in term.state_dict().items())


@everywhere
@pytest.mark.parametrize(
    ("dtype", "autocast"),
    [
        (torch.float16, None),
        (torch.float16, torch.float16),
        (torch.bfloat16, None),
        (torch.bfloat16, torch.bfloat16),
        (torch.float32, torch.bfloat16),
    ],
)
def test_mixed_precision_is_finite_and_close(
    name: str, stage: str, on: str | None, dtype: torch.dtype, autocast: torch.dtype | None
):
    """The engine calls terms outside autocast with what the networks made inside it."""
    exact = inputs_for()
    rough = exact._replace(
        student=converted(exact.student, dtype), teacher=converted(exact.of_teacher(), dtype)
    )
    term = term_for(name, stage, on)
    with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
        loss = term(rough)
    loss.backward()
    assert loss.dtype == torch.float32
    expected = term_for(name, stage, on).double()(exact).item()
    assert loss.item() == pytest.approx(expected, rel=5e-2)
    trained = [*leaves(rough.student), *term.parameters()]
    assert all(leaf.grad is None or leaf.grad.isfinite().all() for leaf in trained)


@everywhere
def test_logits_far_apart_are_finite(name: str, stage: str, on: str | None):
    exact = inputs_for(scale=8000.0)
    student = converted(exact.student, torch.bfloat16)
    loss = term_for(name, stage, on)(
        exact._replace(student=student, teacher=converted(exact.of_teacher(), torch.bfloat16))
    )
    loss.backward()
    assert loss.isfinite()
    assert all(leaf.grad is None or leaf.grad.isfinite().all() for leaf in leaves(student))


@pytest.mark.parametrize(
    ("name", "stage", "on"), {(name, on): (name, stage, on) for name, stage, on in CASES}.values()
)
def test_it_traces_into_one_graph(name: str, stage: str, on: str | None):
    """In one stage, since the computation of a term depends on its options alone."""
    torch._dynamo.reset()
    inputs, term = inputs_for(), term_for(name, stage, on).double()
    compiled = torch.compile(term, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(inputs), term(inputs))


@everywhere
def test_what_it_declares_it_needs_must_be_there(name: str, stage: str, on: str | None):
    term = term_for(name, stage, on).double()
    whole = inputs_for()
    if term.needs & {"teacher_logits", "teacher_classifier", "feature_maps"}:
        without = whole._replace(teacher=None)
    elif term.needs:
        without = whole._replace(labels=None, pseudo_labels=None)
    else:
        bare = DistillationInputs(whole.student, None)
        assert torch.equal(term(bare), term(whole))
        return
    with pytest.raises(RuntimeError, match=r"declares"):
        term(without)


@pytest.mark.parametrize("name", TERMS.names())
def test_in_other_stages_it_names_the_alternatives(name: str):
    context = TermContext(KNOWN, FEATURES, FEATURES)
    for stage in STAGES - TERMS.get(name).stages:
        message = f"does not apply in stage '{stage}'; choose one of: {', '.join(terms_for(stage))}"
        with pytest.raises(InputError, match=message):
            build_term(name, stage=stage, context=context)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
@pytest.mark.parametrize(
    "name", [name for name in TERMS.names() if "temperature" in option_names(TERMS.get(name))]
)
def test_a_temperature_out_of_range_is_named(name: str, temperature: float):
    term = TERMS.get(name)
    context = TermContext(KNOWN, FEATURES, FEATURES, STUDENT, TEACHER, PrototypeHead(5, 6))
    options: dict[str, object] = {"temperature": temperature}
    if "labels" in term.needs:
        options["on"] = "labeled"
    with pytest.raises(InputError, match=f"^{name}: temperature is {temperature}; it must be"):
        build_term(name, stage=min(term.stages), context=context, options=options)


@pytest.mark.parametrize("name", ["kd", "lwf", "class_relation", "fkd", "tfkd_self"])
def test_half_precision_is_divided_by_the_temperature_after_conversion(name: str):
    """In float16 these logits over the temperature are infinite, in bfloat16 rounded."""
    context = TermContext(KNOWN, FEATURES, FEATURES)
    for dtype, temperature in ((torch.float16, 1e-4), (torch.bfloat16, 3.0)):
        rounded = inputs_for(scale=30.0)
        given = [converted(x, dtype) for x in (rounded.student, rounded.of_teacher())]
        exact = [converted(x, torch.float64) for x in given]
        term = build_term(
            name,
            stage="discover",
            context=context,
            options={"temperature": temperature},
        )
        found, wanted = (
            term(rounded._replace(student=pair[0], teacher=pair[1])) for pair in (given, exact)
        )
        torch.testing.assert_close(found.double(), wanted, rtol=2e-6, atol=0.0)
