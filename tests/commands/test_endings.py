"""How a command ends: signals at any moment, closed pipes and full devices."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crkd.commands import completion, main
from tests.support import ROOT

GETS_A_SIGNAL = """
import os, signal, sys
from pathlib import Path
from crkd.commands import completion, main
from crkd.core.atomic_write import write_pieces
# The tests may have been started by nohup, or in the background of a shell.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

def pieces():
    yield b"the first half"
    os.kill(os.getpid(), int(sys.argv[1]))
    yield b"the second half"

completion.run = lambda given: write_pieces(Path("file.txt"), pieces())
sys.exit(main.run_verb("completion", ["bash"]))
"""

PRINTS = """
import sys
from crkd.commands import completion, main
completion.run = lambda given: print("x" * int(sys.argv[1])) or int(sys.argv[2])
sys.exit(main.run_verb("completion", ["bash"]))
"""

PRINTS_A_CAT = r"""
import sys
from crkd.commands import completion, main
completion.run = lambda given: print("\xb1 \u732b") or 0
sys.exit(main.run_verb("completion", ["bash"]))
"""


@contextlib.contextmanager
def closed_pipe() -> Iterator[int]:
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


def ended(
    program: str, *arguments: object, place: Path, stdout: int, stderr: int = subprocess.PIPE
) -> tuple[int, str]:
    """Return the exit code of a Python program and its messages."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=stdout,
        stderr=stderr,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("number", [1, 2, 15], ids=["hangup", "interrupt", "terminate"])
def test_a_signal_in_the_middle_of_a_file_leaves_nothing(number: int, tmp_path: Path) -> None:
    code, messages = ended(GETS_A_SIGNAL, number, place=tmp_path, stdout=subprocess.DEVNULL)
    assert (code, messages) == (130, "crkd completion: interrupted\n")
    assert not list(tmp_path.iterdir())


def test_a_signal_during_the_imports_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def importing(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("crkd.commands.verbs.importlib.import_module", importing)
    assert main.run_verb("completion", ["bash"]) == main.INTERRUPTED
    assert capsys.readouterr().err == "crkd completion: interrupted\n"


@pytest.mark.parametrize("length", [1, 1_000_000], ids=["at the end", "in between"])
@pytest.mark.parametrize("code", [0, 1])
def test_a_closed_pipe_ends_the_output_and_not_the_work(
    length: int, code: int, tmp_path: Path
) -> None:
    with closed_pipe() as pipe:
        assert ended(PRINTS, length, code, place=tmp_path, stdout=pipe) == (code, "")


def test_the_help_goes_into_a_closed_pipe(tmp_path: Path) -> None:
    program = "from crkd.commands.main import main; main(['--help'])"
    with closed_pipe() as pipe:
        assert ended(program, place=tmp_path, stdout=pipe) == (0, "")


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("ascii", rb"\xb1 \u732b"),
        ("ascii:surrogateescape", rb"\xb1 \u732b"),
        ("ascii:replace", b"? ?"),
        ("latin-1", b"\xb1 \\u732b"),
        ("utf-8", "± 猫".encode()),
    ],
)
def test_a_letter_that_the_output_cannot_hold_is_escaped(
    encoding: str, written: bytes, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRINTS_A_CAT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, written + b"\n", b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("length", [1, 1_000_000], ids=["at the end", "in between"])
def test_a_full_device_is_one_sentence(length: int, tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        code, messages = ended(PRINTS, length, 0, place=tmp_path, stdout=full.fileno())
    assert code == main.USAGE_ERROR
    assert messages == (
        "crkd completion: the output cannot be written (No space left on device); free space or "
        "name another place for it\n"
    )


def test_an_interruption_is_reported_by_its_exit_code_without_a_reader(tmp_path: Path) -> None:
    """Ctrl+C ends the reader of ``crkd VERB 2>&1 | tee FILE`` first."""
    with closed_pipe() as pipe:
        code, _ = ended(GETS_A_SIGNAL, 2, place=tmp_path, stdout=pipe, stderr=pipe)
    assert code == main.INTERRUPTED


def test_the_streams_of_the_caller_are_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    before = (sys.stdout, sys.stderr)
    monkeypatch.setattr(completion, "run", lambda given: int((sys.stdout, sys.stderr) != before))
    assert main.run_verb("completion", ["bash"]) == 0
