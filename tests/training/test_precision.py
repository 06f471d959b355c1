from __future__ import annotations

import pytest
import torch
from torch import nn

from crkd.training.precision import autocast, computes_in_bfloat16, resolved_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def with_instructions(monkeypatch: pytest.MonkeyPatch, **listed: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict(listed), raising=False)


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ({"avx2": True}, False),
        ({"avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
    ],
)
def test_fast_follows_the_instructions_of_the_cpu(
    monkeypatch: pytest.MonkeyPatch, listed: dict[str, bool], expected: bool
):
    with_instructions(monkeypatch, **listed)
    assert computes_in_bfloat16(CPU) == expected
    assert resolved_precision("fast", CPU) == ("bfloat16" if expected else "float32")
    assert resolved_precision("fast", CUDA) == "bfloat16"


def test_a_torch_that_lists_no_instructions_computes_in_float32(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert resolved_precision("fast", CPU) == "float32"


@pytest.mark.parametrize("listed", [{}, {"avx512_bf16": True}])
def test_the_other_values_do_not_depend_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, listed: dict[str, bool]
):
    with_instructions(monkeypatch, **listed)
    found = {name: resolved_precision(name, CPU) for name in ("auto", "float32", "bfloat16")}
    assert found == {"auto": "float32", "float32": "float32", "bfloat16": "bfloat16"}
    assert resolved_precision("auto", CUDA) == "bfloat16"


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fast", torch.bfloat16), ("auto", torch.float32)]
)
def test_a_layer_computes_in_the_resolved_precision(
    monkeypatch: pytest.MonkeyPatch, precision: str, dtype: torch.dtype
):
    with_instructions(monkeypatch, avx512_bf16=True)
    with autocast(precision, CPU):
        assert nn.Linear(3, 2)(torch.ones(1, 3)).dtype == dtype
