from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from crkd.core.errors import InputError
from crkd.core.types import HeadOutputs
from crkd.losses.term import (
    NEEDS,
    ROWS,
    STAGES,
    TERMS,
    DistillationInputs,
    DistillationTerm,
    TermContext,
    build_term,
    option_names,
    terms_for,
)
from tests.support import ROOT

CONTEXT = TermContext(num_known=4, student_features=6, teacher_features=8)


class Hint(DistillationTerm):
    """A term with a trained module, shaped by the two networks."""

    stages: ClassVar[frozenset[str]] = frozenset({"discover", "distill"})
    needs: ClassVar[frozenset[str]] = frozenset({"teacher_logits"})

    def __init__(self, student: int, teacher: int, *, bias: bool = True) -> None:
        super().__init__()
        self.regressor = nn.Linear(student, teacher, bias=bias)

    @classmethod
    def from_context(cls, context: TermContext, **options: object) -> Hint:
        return cls(context.student_features, context.teacher_features, **options)

    def forward(self, inputs: DistillationInputs) -> Tensor:
        target = inputs.of_teacher().features.detach()
        return (self.regressor(inputs.student.features) - target).square().mean()


@pytest.mark.parametrize("name", TERMS.names())
def test_every_term_declares_where_it_applies_and_what_it_needs(name: str):
    term = TERMS.get(name)
    assert term.stages
    assert term.stages <= STAGES
    assert term.needs <= NEEDS
    assert term.rows
    assert term.rows <= ROWS
    assert term.__doc__


def test_a_discovery_may_have_a_weight_of_its_own():
    assert Hint.default_weight("discover") == Hint.default_weight("distill") == 1.0
    semckd = TERMS.get("semckd")
    assert [semckd.default_weight(stage) for stage in ("distill", "discover")] == [400.0, 10.0]


def test_the_page_has_the_default_weights():
    page = (ROOT / "docs" / "distillation.md").read_text(encoding="utf-8")
    table = page.split("## Default weights")[1].split("## ")[0]
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("| `")]
    written = {row[0].strip(" `"): [cell.strip() for cell in row[1:]] for row in rows}
    expected = {}
    for name in TERMS.names():
        term = TERMS.get(name)
        cells = [
            f"{term.default_weight(stage):g}" if stage in term.stages else "-"
            for stage in ("pretrain", "discover", "distill")
        ]
        supervised = bool(term.stages & {"pretrain", "distill"})
        expected[name] = [*cells, f"{term.supervised:g}" if supervised else "-"]
    assert written == expected


def test_terms_are_listed_by_stage():
    assert "class_relation" in terms_for("discover")
    assert "class_relation" not in terms_for("pretrain")


def test_build_term_passes_the_options_on():
    term = build_term(
        "class_relation", stage="discover", context=CONTEXT, options={"temperature": 2.0}
    )
    assert term.temperature == 2.0
    assert option_names(type(term)) == ["temperature", "form", "weighting", "detach_weight"]


def test_build_term_refuses_what_does_not_fit():
    with pytest.raises(InputError, match=r"unknown distillation loss 'clas_relation'"):
        build_term("clas_relation", stage="discover", context=CONTEXT)
    with pytest.raises(InputError, match=r"does not apply in stage 'distill'"):
        build_term("class_relation", stage="distill", context=CONTEXT)
    with pytest.raises(InputError, match=r"has no option 'temprature'.*temperature, form"):
        build_term("class_relation", stage="discover", context=CONTEXT, options={"temprature": 2.0})


def test_a_plug_in_that_is_no_term_is_refused(monkeypatch: pytest.MonkeyPatch):
    class Undeclared(DistillationTerm):
        stages: ClassVar[frozenset[str]] = frozenset({"discover"})

        def forward(self, inputs: DistillationInputs) -> Tensor:
            return inputs.student.features.sum()

    others = {"undeclared": Undeclared, "module": nn.Linear, "function": lambda: None}
    monkeypatch.setattr(TERMS, "get", others.__getitem__)
    with pytest.raises(InputError, match=r"'undeclared' has no class attribute needs; .*in Un"):
        build_term("undeclared", stage="discover", context=CONTEXT)
    for name in ("module", "function"):
        with pytest.raises(InputError, match=f"'{name}' is no subclass of .*DistillationTerm"):
            build_term(name, stage="discover", context=CONTEXT)


def test_modules_of_a_term_are_ordinary_submodules():
    terms = nn.ModuleDict({"hint": Hint.from_context(CONTEXT, bias=False)})
    assert list(terms.state_dict()) == ["hint.regressor.weight"]
    before = terms["hint"].regressor.weight.detach().clone()
    teacher_features = torch.randn(2, 3, 8, requires_grad=True)
    inputs = DistillationInputs(
        HeadOutputs(torch.randn(2, 3, 6), torch.randn(2, 3, 4)),
        HeadOutputs(teacher_features, torch.randn(2, 3, 4)),
    )
    optimizer = torch.optim.SGD(terms.parameters(), lr=0.1)
    terms["hint"](inputs).backward()
    optimizer.step()
    assert not torch.equal(terms["hint"].regressor.weight, before)
    assert teacher_features.grad is None
