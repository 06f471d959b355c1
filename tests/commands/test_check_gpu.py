"""``check-gpu --sanitize``: what it runs, and what it makes of the answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from crkd.commands import check_gpu
from crkd.engine import gpu_checks as training


def sanitizer(folder: Path, exit_code: int) -> None:
    program = folder / "compute-sanitizer"
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/calls\nexit {exit_code}\n')
    program.chmod(0o755)


def test_each_tool_watches_the_check_of_each_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sanitizer(tmp_path, 0)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    for _, check in check_gpu.sanitizer_checks():
        assert check() == "clean"
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split()[1] for call in calls] == ["memcheck", "racecheck", "synccheck"]
    assert all(call.endswith(f"check-gpu --only {check_gpu.WATCHED}") for call in calls)
    assert check_gpu.WATCHED in [name for name, _ in check_gpu.all_checks()]


def test_a_finding_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sanitizer(tmp_path, 9)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    _, check = check_gpu.sanitizer_checks()[0]
    with pytest.raises(RuntimeError, match="exit code 9"):
        check()


def test_a_missing_program_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check_gpu.shutil, "which", lambda name, path: None)
    assert check_gpu.sanitizer_checks() == []
    assert "compute-sanitizer is not installed" in capsys.readouterr().out


@pytest.mark.parametrize("check", [training.repeated_agree, training.resumed_agree])
def test_the_checks_of_reliability_hold_on_a_cpu(check: Callable[[str], str]) -> None:
    assert "bit-identical" in check("cpu")
    assert not torch.are_deterministic_algorithms_enabled()
    assert check in [function for _, function in check_gpu.all_checks()]


def test_a_resumed_run_that_differs_fails_its_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(*arguments: object, **options: object) -> tuple[int, float]:
        return training.WARM_UP + training.STEPS, 0.0

    monkeypatch.setattr(training, "load_state", forgetful)
    with pytest.raises(AssertionError, match="differs"):
        training.resumed_agree("cpu")
