from __future__ import annotations

import fcntl
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from crkd.core.watched import Job, run_in_process
from crkd.runs.folder import RunFolder
from crkd.training.interruption import Interrupted, graceful_stop
from crkd.training.session import running
from tests.support.compared_runs import KEPT


@pytest.mark.usefixtures("default_hangup")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_noted_and_the_process_continues(number: int) -> None:
    before = signal.getsignal(number)
    with graceful_stop() as received:
        os.kill(os.getpid(), number)
        assert received == [number]
        assert signal.getsignal(number) == before, "a second signal has its usual effect"
    assert signal.getsignal(number) == before


def test_a_hangup_is_ignored_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with graceful_stop() as received:
            os.kill(os.getpid(), signal.SIGHUP)
        assert received == []
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


ENDS_WITH_ITS_TERMINAL = """
import signal, sys, time
from pathlib import Path
from crkd.training.interruption import graceful_stop
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup may have started the tests
with graceful_stop() as received:
    print("ready", flush=True)
    while not received:
        time.sleep(0.01)  # signal.pause() misses a signal that arrives just before it
    print("a line of progress", flush=True)
    print("a warning", file=sys.stderr, flush=True)
    Path(sys.argv[1]).write_text(f"saved after signal {received[0]}")
"""


def test_a_closed_terminal_does_not_prevent_the_saving(tmp_path: Path) -> None:
    master, slave = pty.openpty()

    def as_controlling_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    with subprocess.Popen(
        [sys.executable, "-c", ENDS_WITH_ITS_TERMINAL, str(tmp_path / "state")],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=as_controlling_terminal,
    ) as process:
        os.close(slave)
        assert b"ready" in os.read(master, 100)
        os.close(master)
        assert process.wait(timeout=60) == 0
    assert (tmp_path / "state").read_text() == f"saved after signal {int(signal.SIGHUP)}"


def begun(place: Path) -> RunFolder:
    shutil.copy(KEPT / "discovered" / "run.json", place)
    return RunFolder(place)


def test_an_interruption_without_a_state_says_how_to_begin_again(tmp_path: Path) -> None:
    run = begun(tmp_path)
    with pytest.raises(Interrupted) as stop, running(run):
        raise KeyboardInterrupt
    assert str(stop.value.within("stage 1", Path("mine"))) == (
        "stage 1 stopped outside of the training loop; no state is saved, begin again with the "
        "same command and --out mine --resume"
    )
    assert run.read_info().status == "interrupted"


def test_an_interruption_of_a_run_that_cannot_be_resumed_says_what_to_delete(
    tmp_path: Path,
) -> None:
    run = begun(tmp_path)
    with pytest.raises(Interrupted) as stop, running(run, resumable=False):
        raise KeyboardInterrupt
    assert str(stop.value) == f"stopped; delete {tmp_path}, then give the same command"
    assert run.read_info().status == "interrupted"


def test_an_interruption_is_no_failed_job() -> None:
    begun = []

    def interrupted() -> list[int]:
        begun.append(1)
        raise Interrupted("stopped after step 5 of 10")

    jobs = [Job("first", interrupted), Job("second", interrupted)]
    with pytest.raises(Interrupted):
        list(run_in_process(lambda: jobs))
    assert begun == [1]
