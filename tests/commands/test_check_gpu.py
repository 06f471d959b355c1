"""``check-gpu``: no check can end the others; commands and results of the sanitizers."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from crkd.commands import check_gpu
from crkd.commands.main import run_verb
from crkd.gpu_checks import training
from crkd.ot import kernels
from crkd.runs import atomic_files

CHECKS = """
import os, signal, time
from functools import partial
from crkd.core.watched import Job

def passes():
    yield str(os.getpid())

def fails():
    assert False, "row error 3e-2"
    yield

def hangs():
    open(os.environ["HANGS"], "w").close()
    time.sleep(3600)

def leaves():
    os._exit(7)

def crashes():
    os.kill(os.getpid(), signal.SIGSEGV)

def jobs(only):
    made = [("one", passes), ("raises", fails), ("two", passes), ("hangs", hangs),
            ("leaves", leaves), ("crashes", crashes), ("three", passes)]
    return [Job(name, work) for name, work in made if only in name]
"""
SANITIZER = """#!/bin/sh
echo "$@" >> {folder}/calls
echo $$ >> {folder}/processes
{does}
"""


@pytest.fixture
def _gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something that calls itself a GPU, and checks of which most do not pass."""
    (tmp_path / "fake_checks.py").write_text(CHECKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(check_gpu, "CHECKS", "fake_checks:jobs")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")


@pytest.mark.usefixtures("_gpu", "hangs")
def test_each_check_ends_as_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = []
    honest = atomic_files.write_json

    def write(path: Path, results: list[dict[str, Any]]) -> None:
        written.append(len(results))
        honest(path, results)

    monkeypatch.setattr(atomic_files, "write_json", write)
    file = tmp_path / "checks.json"
    assert run_verb("check-gpu", ["--check-seconds", "3", "--json", str(file)]) == 1
    results = json.loads(file.read_text())
    assert written == list(range(8))
    assert all(one.keys() == {"name", "passed", "seconds", "text"} for one in results)
    assert [one["name"] for one in results if one["passed"]] == ["one", "two", "three"]
    assert results[0]["text"] == results[2]["text"] != results[6]["text"], (
        "a new process after a crash"
    )
    assert {one["name"]: one["text"] for one in results if not one["passed"]} == {
        "raises": "AssertionError: row error 3e-2",
        "hangs": "no result within 3 s",
        "leaves": "its process ended with exit code 7",
        "crashes": "its process was ended by signal 11 (Segmentation fault)",
    }
    first, *lines, last = capsys.readouterr().out.splitlines()
    assert first == f"a card, torch {torch.__version__}"
    assert [line.partition(" (")[0] for line in lines] == [
        f"{'pass' if one['passed'] else 'FAIL'}  {one['name']}" for one in results
    ]
    assert lines[1].endswith(" s): AssertionError: row error 3e-2")
    assert last == "4 checks FAILED"


@pytest.mark.usefixtures("_gpu")
def test_checks_that_pass_are_a_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("check-gpu", ["--only", "o", "--check-seconds", "60"]) == 0
    assert capsys.readouterr().out.endswith("\nall checks passed\n")


@pytest.mark.usefixtures("_gpu")
def test_in_this_process_where_a_debugger_or_sanitizer_is_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checks = [("one", lambda: str(os.getpid())), ("other", lambda: "unasked")]
    monkeypatch.setattr(check_gpu, "all_checks", lambda: checks)
    assert run_verb("check-gpu", ["--in-process", "--only", "one"]) == 0
    out = capsys.readouterr().out
    assert f": {os.getpid()}\n" in out
    assert "unasked" not in out


def test_every_check_can_be_asked_for_by_its_name() -> None:
    names = [name for name, _ in check_gpu.all_checks()]
    assert [job.name for job in check_gpu.jobs("")] == names
    assert len(set(names)) == len(names)
    # What a sanitizer watches: the CUDA kernels and the Triton kernels.
    watched = [job.name for job in check_gpu.jobs(check_gpu.WATCHED)]
    assert watched == [check_gpu.WATCHED, f"triton {check_gpu.WATCHED}"]


@pytest.mark.parametrize("seconds", ["0", "nan"])
def test_a_limit_is_above_0(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("check-gpu", ["--check-seconds", seconds]) == 2
    assert "give a number above 0" in capsys.readouterr().err


@pytest.fixture
def sanitizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return what puts a sanitizer into the path that notes how it is called, then does this."""

    def install(does: str) -> None:
        program = tmp_path / "compute-sanitizer"
        program.write_text(SANITIZER.format(folder=tmp_path, does=does))
        program.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    return install


def test_each_tool_watches_our_kernels_in_the_check_of_each(
    tmp_path: Path, sanitizer: Callable[[str], None]
) -> None:
    sanitizer("case \"$*\" in *purpose) exit 9;; esac; echo '========= ERROR SUMMARY: 0 errors'")
    reports = list(check_gpu._sanitizer_reports())
    assert [report.reason for report in reports] == [None] * 4
    assert [report.value for report in reports] == ["found", *["ERROR SUMMARY: 0 errors"] * 3]
    control, *calls = (tmp_path / "calls").read_text().splitlines()
    assert control.endswith(f"check-gpu --in-process --only {check_gpu.INVALID}")
    assert [call.split()[1] for call in calls] == ["memcheck", "racecheck", "synccheck"]
    for call in calls:
        assert " --kernel-name kernel_substring=sinkhorn_ --error-exitcode 9 " in call
        # A child of the watched process would not be watched.
        assert call.endswith(f"check-gpu --in-process --only {check_gpu.WATCHED}")


def test_the_names_of_all_our_kernels_are_those_that_are_watched() -> None:
    sources = Path(kernels.__path__[0]).glob("*.cu")
    found = [
        name
        for source in sources
        for name in re.findall(r"__global__[^;{]*?(\w+)\(const void", source.read_text())
    ]
    assert len(found) >= 3
    assert all(name.startswith(check_gpu.OURS) for name in found)


def test_a_finding_fails(sanitizer: Callable[[str], None]) -> None:
    sanitizer("echo 'Invalid __shared__ read'; exit 9")
    control, *reports = check_gpu._sanitizer_reports()
    assert control.reason is None
    assert [report.reason for report in reports] == [
        "RuntimeError: exit code 9\nInvalid __shared__ read\n"
    ] * 3


def test_a_sanitizer_that_watches_nothing_fails(sanitizer: Callable[[str], None]) -> None:
    """Otherwise a filter that fits no kernel would look like clean kernels."""
    sanitizer("exit 0")
    control = next(iter(check_gpu._sanitizer_reports()))
    assert control.reason is not None
    assert "our kernels are not checked" in control.reason


def test_a_tool_that_does_not_end_fails_and_is_killed(
    tmp_path: Path, sanitizer: Callable[[str], None], hangs: Path
) -> None:
    sanitizer(f'[ "$2" = racecheck ] && touch {hangs} && /bin/sleep 3600; exit 0')
    _, memory, races, barriers = check_gpu._sanitizer_reports()
    assert memory.reason is barriers.reason is None
    assert races.job == f"racecheck of {check_gpu.WATCHED}"
    assert races.reason == "no result within 170 s"
    for process in (tmp_path / "processes").read_text().split():
        stat = Path(f"/proc/{process}/stat")
        assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_missing_program_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A requested check that cannot run is not a passed check."""
    monkeypatch.setattr(check_gpu.shutil, "which", lambda name, path: None)
    assert check_gpu._tell(check_gpu._sanitizer_reports(), None) == 1
    assert "FAIL  compute-sanitizer" in (said := capsys.readouterr().out)
    assert "is not installed, so memory and races were not checked" in said


@pytest.mark.parametrize("check", [training.repeat_is_exact, training.resume_is_exact])
def test_the_checks_of_reliability_hold_on_a_cpu(check: Callable[[str], str]) -> None:
    assert "bit-identical" in check("cpu")
    assert not torch.are_deterministic_algorithms_enabled()
    assert check in [function for _, function in check_gpu.all_checks()]


def test_a_resumed_run_that_differs_fails_its_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(*arguments: object, **options: object) -> tuple[int, float]:
        return training.WARM_UP + training.STEPS, 0.0

    monkeypatch.setattr(training, "load_state", forgetful)
    with pytest.raises(AssertionError, match="differs"):
        training.resume_is_exact("cpu")
