"""Starts the runs of a sweep: in this process, or as a stand-in that imports no library."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crkd.commands.main import run_verb

STAND_IN = '''
"""Makes a run folder as crkd does, from a finished one. Its name decides the rest.

fails: exit code 5. waits: waits for a signal, then exit code 130, unless it resumes. meets: waits
until the runs of both seeds have begun.
"""
import json, shutil, signal, sys, time
from pathlib import Path

arguments = sys.argv[2:]
out = Path(arguments[arguments.index("--out") + 1])
seed = int(arguments[arguments.index("--seed") + 1])
kept = Path(sys.argv[1]) / ("pretrained" if arguments[0] == "pretrain" else "discovered")
method = out.parent.name


def write(status):
    out.mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", "predictions.parquet"):
        shutil.copy(kept / name, out / name)
    info = json.loads((kept / "run.json").read_text())
    info.update(status=status, seed=seed, parent=None, seconds=60.0)
    (out / "run.json").write_text(json.dumps(info))


def stop(*_):
    write("interrupted")
    sys.exit(130)


print("stand-in", *arguments)
if method == "fails":
    sys.exit(5)
if method == "waits" and "--resume" not in arguments:
    signal.signal(signal.SIGINT, stop)
    write("running")
    time.sleep(60)
if method == "meets":
    write("running")
    deadline = time.monotonic() + 60
    while not all((out.parent / f"seed{n}" / "run.json").is_file() for n in (0, 1)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
write("complete")
'''


@dataclass
class Ended:
    """A process that has ended."""

    code: int

    def poll(self) -> int:
        return self.code

    wait = poll

    def send_signal(self, number: int) -> None:
        raise AssertionError(f"signal {number} to a process that has ended")

    def kill(self) -> None:
        raise AssertionError("it has ended")


class InThisProcess:
    """Runs each command to its end where it is started; keeps the commands."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []

    def __call__(self, arguments: Sequence[str], log: Path) -> Ended:
        self.commands.append(list(arguments))
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file, contextlib.redirect_stdout(file):
            return Ended(run_verb(arguments[0], arguments[1:]))


class StandIn:
    """Starts the stand-in in a process of its own; keeps the commands.

    Args:
        place: folder for the program.
        kept: folder with the runs ``pretrained`` and ``discovered``.
    """

    def __init__(self, place: Path, kept: Path) -> None:
        self.commands: list[list[str]] = []
        self._program, self._kept = place / "stand_in.py", kept
        self._program.write_text(STAND_IN)

    def __call__(self, arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        self.commands.append(list(arguments))
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-S", str(self._program), str(self._kept), *arguments]
        with log.open("ab") as output:
            return subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
