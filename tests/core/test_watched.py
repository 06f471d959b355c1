"""Jobs in a watched process: what hangs, crashes or raises is named, and the rest is done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from crkd.core.errors import InputError
from crkd.core.watched import START, Job, Report, run_in_process, watched

LIMIT = 3600.0
"""More than any process here needs; see :class:`Clock`."""

JOBS = """
import os, signal, subprocess, sys, time
from types import SimpleNamespace
from crkd.core.errors import InputError
from crkd.core.watched import Job

def hang():
    open(f"{os.path.dirname(__file__)}/hangs-{os.getpid()}", "w").close()
    time.sleep(3600)

def crash():
    os.kill(os.getpid(), signal.SIGSEGV)

def leave():
    os._exit(7)

def fail():
    raise ValueError("no\\nsense")

def lose_cuda():
    def synchronize():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    cuda = SimpleNamespace(is_initialized=lambda: True, synchronize=synchronize)
    sys.modules["torch"] = SimpleNamespace(cuda=cuda)
    synchronize()

def some_then_hang():
    yield 1
    yield "x" * 300_000
    hang()

def hang_with_a_child(file):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    with open(file + ".new", "w") as out:
        out.write(f"{os.getpid()} {child.pid}")
    os.rename(file + ".new", file)
    hang()

def process():
    return [os.getpid()]

def jobs(names, file=None):
    if file is not None:
        with open(file, "a") as out:
            out.write("listed\\n")
    return [Job(name, globals()[name.split()[0]]) for name in names]

def rounds():
    return jobs(["fail", "fail"]) + [Job("needy", process, "fail"), Job("free", process, "else")]

def with_a_child(file):
    return [Job("hangs", lambda: hang_with_a_child(file))]

def refuses():
    raise InputError("no such thing; take another")

def unlisted(how):
    globals()[how]()
"""


class Clock:
    """Time that passes by the limit at each look while a job hangs, and else as usual."""

    def __init__(self, place: Path) -> None:
        self.place, self.ahead = place, 0.0

    def monotonic(self) -> float:
        hanging = (int(file.name.removeprefix("hangs-")) for file in self.place.glob("hangs-*"))
        if any(map(exists, hanging)):
            self.ahead += LIMIT
        return time.monotonic() + self.ahead


def exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fake_jobs.py").write_text(JOBS)
    monkeypatch.syspath_prepend(str(tmp_path))
    clock = SimpleNamespace(monotonic=Clock(tmp_path).monotonic)
    monkeypatch.setattr("crkd.core.watched.time", clock)


def reports(*names: str, **more: str) -> list[Report]:
    return list(watched("fake_jobs:jobs", {"names": names, **more}, LIMIT))


def has_ended(process: int) -> bool:
    """Return whether a process ends soon."""
    for _ in range(300):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False


def test_each_way_to_fail_is_named_and_the_rest_is_done(tmp_path: Path) -> None:
    listed = tmp_path / "listed"
    names = ["process 1", "hang", "process 2", "crash", "fail", "leave", "process 3", "hang 2"]
    found = reports(*names, file=str(listed))
    assert [report.job for report in found] == names
    assert [report.reason for report in found if report.reason] == [
        "no result within 3600 s",
        "its process was ended by signal 11 (Segmentation fault)",
        "ValueError: no\nsense",
        "its process ended with exit code 7",
        "no result within 3600 s",
    ]
    assert len({report.value for report in found if report.value}) == 3, "processes of their own"
    assert len(listed.read_text().splitlines()) == 4, "no process is started for nothing"
    assert found[1].seconds >= LIMIT


def test_one_process_does_what_does_not_hang_or_crash() -> None:
    found = reports("process 1", "fail", "process 2")
    assert found[0].value == found[2].value != os.getpid()


def test_after_an_error_that_cuda_does_not_survive_another_process_goes_on() -> None:
    first, lost, second = reports("process 1", "lose_cuda", "process 2")
    assert lost.reason == "RuntimeError: CUDA error: an illegal memory access was encountered"
    assert first.value != second.value


def test_values_before_a_hang_are_kept() -> None:
    first, large, lost, after = reports("some_then_hang", "process")
    assert first.value == 1
    assert len(large.value) == 300_000
    assert (lost.job, lost.reason) == ("some_then_hang", "no result within 3600 s")
    assert after.value > 0


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("leave", "its process ended with exit code 7"),
        ("fail", "ValueError: no\nsense"),
        ("nothing", "KeyError: 'nothing'"),
    ],
)
def test_jobs_that_cannot_be_listed_are_one_failure(how: str, reason: str) -> None:
    assert [
        (report.job, report.reason) for report in watched("fake_jobs:unlisted", {"how": how}, LIMIT)
    ] == [(START, reason)]


def test_the_limit_is_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has no job to list yet is as silent while it starts as while it hangs."""
    monkeypatch.setattr("crkd.core.watched.time", time)
    (report,) = watched("fake_jobs:unlisted", {"how": "hang"}, 0.5)
    assert (report.job, report.reason) == (START, "no result within 0.5 s")
    assert report.seconds >= 0.5


def test_a_module_that_is_missing_is_named() -> None:
    (report,) = watched("no_such_module:jobs", {}, LIMIT)
    assert (report.job, report.reason) == (
        START,
        "ModuleNotFoundError: No module named 'no_such_module'",
    )


def test_what_a_person_gave_is_refused_as_ever() -> None:
    with pytest.raises(InputError, match="no such thing; take another"):
        list(watched("fake_jobs:refuses", {}, LIMIT))


def test_rounds_of_what_failed_and_what_needs_it_are_not_tried() -> None:
    failed, needy, free = watched("fake_jobs:rounds", {}, LIMIT)
    assert failed.reason == "ValueError: no\nsense"
    assert (needy.job, needy.reason) == ("needy", "skipped, because this job failed: fail")
    assert free.value > 0


def test_what_a_lost_process_started_is_killed_with_it(tmp_path: Path) -> None:
    file = tmp_path / "processes"
    (report,) = watched("fake_jobs:with_a_child", {"file": str(file)}, LIMIT)
    assert report.reason == "no result within 3600 s"
    assert all(has_ended(int(process)) for process in file.read_text().split())


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_the_processes_end_with_the_one_that_watches(end: int, tmp_path: Path) -> None:
    file = tmp_path / "processes"
    watcher = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
            "from crkd.core.watched import watched; "
            f"list(watched('fake_jobs:with_a_child', {{'file': {str(file)!r}}}, 3600.0))",
        ]
    )
    while not file.exists():
        assert watcher.poll() is None
        time.sleep(0.05)
    watcher.send_signal(end)
    watcher.wait()
    assert all(has_ended(int(process)) for process in file.read_text().split())


def test_whoever_stops_reading_ends_the_process(tmp_path: Path) -> None:
    following = watched("fake_jobs:jobs", {"names": ["process", "hang"]}, 3600.0)
    process = next(following).value
    following.close()
    assert has_ended(process)


def test_in_this_process_failures_are_reported_likewise(capsys: pytest.CaptureFixture) -> None:
    import fake_jobs

    first, failed, second = run_in_process(
        lambda: fake_jobs.jobs(["process 1", "fail", "process 2"])
    )
    assert first.value == second.value == os.getpid()
    assert (failed.job, failed.reason) == ("fail", "ValueError: no\nsense")
    assert "fake_jobs.py" in capsys.readouterr().err, "the file of the error is named"
    (unlisted,) = run_in_process(fake_jobs.fail)
    assert (unlisted.job, unlisted.reason) == (START, "ValueError: no\nsense")
    with pytest.raises(InputError):
        list(run_in_process(fake_jobs.refuses))


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_in_this_process_an_interruption_passes(error: type[BaseException]) -> None:
    def interrupted() -> list[object]:
        raise error

    with pytest.raises(error):
        list(run_in_process(lambda: [Job("interrupted", interrupted)]))
