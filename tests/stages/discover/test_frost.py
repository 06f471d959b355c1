"""FRoST's step in half precision, which is the default on a GPU, and compiled."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from crkd.config.load import load_config
from crkd.core.types import Batch
from crkd.models.architecture import Architecture
from crkd.models.build import build_network
from crkd.stages.discover.frost import FrostTask

ROWS, LABELED, KNOWN, NOVEL = 8, 2, 3, 2
CPU = torch.device("cpu")


def terms_of(*settings: str) -> tuple[FrostTask, dict[str, Tensor]]:
    """Return the task after one backward pass, and the terms of its loss."""
    config = load_config("digits", settings)
    student = Architecture("resnet8", 16, KNOWN, NOVEL, num_heads=1, joint=True)
    networks = (build_network(shape) for shape in (student, Architecture("resnet8", 16, KNOWN)))
    task = FrostTask(*networks, config, CPU, num_novel=NOVEL, replay=None)
    draw = torch.Generator().manual_seed(0)
    views = tuple(torch.randn(ROWS, 3, 16, 16, generator=draw) for _ in range(2))
    labels = torch.tensor([0, 2] + [-1] * (ROWS - LABELED))
    number = torch.arange(ROWS)
    loss, named = task.losses(Batch(views, labels, number, torch.zeros_like(number), LABELED, 2))
    loss.backward()
    return task, named


def test_a_step_in_half_precision_has_the_terms_of_one_in_float32() -> None:
    (_, whole), (task, half) = (
        terms_of(f"loop.precision={precision}") for precision in ("float32", "bfloat16")
    )
    for name in ("self_training", "features", "ranks"):
        assert half[name].item() == pytest.approx(whole[name].item(), rel=0.05)
    # The two views of a fresh network are nearly alike, so that little is left to compare.
    assert half["consistency"].item() == pytest.approx(whole["consistency"].item(), abs=1e-3)
    gradient = task.modules.clusters.weight.grad
    assert gradient is not None
    assert gradient.dtype == torch.float32
    assert gradient.any()


def test_student_and_teacher_are_compiled_if_the_loop_is(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda network, **_: compiled.append(network) or network)
    task, _ = terms_of("loop.compile=true")
    assert compiled == [task.modules.network, task.teacher_network]
