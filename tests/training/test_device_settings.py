"""Settings of the process during training."""

from __future__ import annotations

import contextlib

import pytest
import torch

from crkd.training.device_settings import fast_training


@pytest.mark.parametrize("before", [False, True])
def test_the_choice_of_cudnn_is_restored(monkeypatch: pytest.MonkeyPatch, before: bool) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", before)
    with fast_training(torch.device("cuda")):
        assert torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.benchmark is before
    with contextlib.suppress(ZeroDivisionError), fast_training(torch.device("cuda")):
        raise ZeroDivisionError
    assert torch.backends.cudnn.benchmark is before
    with fast_training(torch.device("cpu")):
        assert torch.backends.cudnn.benchmark is before


def test_deterministic_algorithms_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    with fast_training(torch.device("cuda")):
        assert not torch.backends.cudnn.benchmark
