from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from crkd.core.errors import InputError
from crkd.runs.folder import RunFolder
from crkd.runs.lock import LOCK, RunLock

HOLDS_THE_LOCK = """
import sys
from pathlib import Path
from crkd.runs.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """A process that holds the lock of a folder until it is killed."""
    command = [sys.executable, "-c", HOLDS_THE_LOCK, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def test_the_lock_of_another_process_is_refused_by_its_number_and_ends_with_it(
    tmp_path: Path,
) -> None:
    with holder(tmp_path) as other:
        message = rf"in use by process {other.pid} on {socket.gethostname()}; wait"
        with pytest.raises(InputError, match=message):
            RunLock(tmp_path)
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert (tmp_path / LOCK).exists(), "nobody tidied up after the killed process"
        lock = RunLock(tmp_path)
    assert (tmp_path / LOCK).read_text().split()[0] == str(os.getpid())
    lock.release()
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_its_owner_deletes_meanwhile_is_not_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crkd.runs import lock as module

    honest, calls = module._locked, []

    def slow(path: Path):  # type: ignore[no-untyped-def]
        file = honest(path)
        if not calls:
            path.unlink()
        calls.append(path)
        return file

    monkeypatch.setattr(module, "_locked", slow)
    first = RunLock(tmp_path)
    assert len(calls) == 2
    with pytest.raises(InputError, match="in use by process"):
        RunLock(tmp_path)
    first.release()


def test_a_folder_with_nothing_but_the_lock_of_a_killed_process_is_empty(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("1 elsewhere\n")
    (tmp_path / ".run.json.abc.unfinished").write_text("{")
    RunFolder.create(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputError, match="holds files already"):
        RunFolder.create(tmp_path)
