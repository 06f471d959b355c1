from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from crkd.core import device
from crkd.core.device import computes_in_bfloat16
from crkd.models.pretrained.choose_form import _candidates
from crkd.training.precision import autocast, resolved_precision

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


@pytest.mark.parametrize(
    ("flags", "expected"), [("avx2 amx_tile", "float32"), ("avx2 amx_bf16", "bfloat16")]
)
def test_where_torch_lists_no_instructions_the_system_does(
    monkeypatch: pytest.MonkeyPatch, flags: str, expected: str
):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: f"vendor_id: x\nflags\t: {flags}\n")
    device._flags_of_linux.cache_clear()
    assert resolved_precision("fast", CPU) == expected
    device._flags_of_linux.cache_clear()


def test_the_embedding_tries_bfloat16_where_a_training_would_use_it(
    monkeypatch: pytest.MonkeyPatch,
):
    backbone = SimpleNamespace(network=nn.Identity())
    for found in (False, True):
        with_instructions(monkeypatch, avx512_bf16=found)
        assert ("torch-bf16" in _candidates(backbone, "cpu")) == found


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
