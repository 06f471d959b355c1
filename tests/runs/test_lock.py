from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from crkd.core.errors import InputError
from crkd.runs.folder import RunFolder
from crkd.runs.lock import LOCK, FolderLock, locked

HOLDS_THE_LOCK = """
import sys
from pathlib import Path
from crkd.runs.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]), "the run")
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
        message = rf"the run is in use by process {other.pid} on {socket.gethostname()}; wait"
        with pytest.raises(InputError, match=message):
            FolderLock(tmp_path, "the run")
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert (tmp_path / LOCK).exists(), "nobody tidied up after the killed process"
        lock = FolderLock(tmp_path, "the run")
    assert (tmp_path / LOCK).read_text().split()[0] == str(os.getpid())
    lock.release()
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_its_owner_deletes_meanwhile_is_not_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crkd.runs import lock as module

    honest, calls = module._locked, []

    def slow(path: Path, subject: str):  # type: ignore[no-untyped-def]
        file = honest(path, subject)
        if not calls:
            path.unlink()
        calls.append(path)
        return file

    monkeypatch.setattr(module, "_locked", slow)
    first = FolderLock(tmp_path, "the run")
    assert len(calls) == 2
    with pytest.raises(InputError, match="in use by process"):
        FolderLock(tmp_path, "the run")
    first.release()


def test_a_folder_with_nothing_but_the_lock_of_a_killed_process_is_empty(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("1 elsewhere\n")
    (tmp_path / ".run.json.abc.unfinished").write_text("{")
    RunFolder.create(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputError, match="holds files already"):
        RunFolder.create(tmp_path)


def test_a_second_lock_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with locked(folder, "--state"):
        (folder / "file").touch()
        message = rf"--state: .*state' is in use by process {os.getpid()} on"
        with pytest.raises(InputError, match=message), locked(folder, "--state"):
            pass
    with locked(folder, "--state"):
        pass
    assert [file.name for file in folder.iterdir()] == ["file"]


def test_an_empty_folder_is_removed(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b", "--state"):
        assert (tmp_path / "a" / "b").is_dir()
    assert not list(tmp_path.iterdir())


def test_a_lock_in_a_folder_that_was_deleted_leaves_that_of_its_next_owner(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with locked(folder, "--state"):
        shutil.rmtree(folder)
        folder.mkdir()
        second = FolderLock(folder, "the run")
    with pytest.raises(InputError, match="the run is in use"):
        FolderLock(folder, "the run")
    second.release()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match=r"--state: .* cannot be made"),
        locked(tmp_path / "file" / "state", "--state"),
    ):
        pass


@pytest.mark.parametrize("target", ["absent", "precious"])
def test_a_lock_that_is_a_link_is_refused_and_leaves_its_target(
    target: str, tmp_path: Path
) -> None:
    run, other = tmp_path / "run", tmp_path / target
    run.mkdir()
    if target == "precious":
        other.write_text("mine\n")
    (run / LOCK).symlink_to(other)
    with pytest.raises(InputError, match=r"\.lock is a symbolic link, and its target would be"):
        FolderLock(run, "the run")
    assert other.exists() == (target == "precious")
    assert not other.exists() or other.read_text() == "mine\n"
