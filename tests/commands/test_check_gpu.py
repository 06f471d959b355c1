"""``check-gpu --sanitize``: what it runs, and what it makes of the answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from crkd.commands import check_gpu


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
