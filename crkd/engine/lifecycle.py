"""How a run begins and how it ends, whatever happens in between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.engine.checkpoint import FILE
from crkd.engine.distributed import is_first, wait
from crkd.engine.files import clear_unfinished
from crkd.engine.loop import Interrupted
from crkd.engine.provenance import command_line, device_name, git_commit, versions
from crkd.engine.run import RunFolder, RunInfo, utc_now


def begin_run(
    out: str | Path, info: RunInfo, config: Config, device: torch.device, *, resume: bool
) -> RunFolder:
    """Make the run folder, or open it to go on.

    Of several processes the first one writes; all of them have looked for runs before it does.

    Raises:
        InputError: the folder is taken, or there is nothing to go on with.
    """
    wait()
    run = _begun(out, info, config, device, resume=resume) if is_first() else RunFolder(out)
    wait()
    return run


def _begun(
    out: str | Path, info: RunInfo, config: Config, device: torch.device, *, resume: bool
) -> RunFolder:
    if resume:
        run = RunFolder.open(out)
        clear_unfinished(run.path)
        saved = run.read_info()
        if (saved.kind, saved.split, saved.dataset) != (info.kind, info.split, info.dataset):
            raise InputError(
                f"--resume: {out} is a {saved.kind} run of {saved.dataset} "
                f"{saved.split['name']}; use the command that started it"
            )
        if saved.status == "complete":
            raise InputError(f"--resume: the run in {out} is complete; start another with --out")
        info.started = saved.started
        info.provenance = {**saved.provenance, "resumed": utc_now()}
    else:
        run = RunFolder.create(out)
        info.started = utc_now()
        info.provenance = {
            "command": command_line(),
            "commit": git_commit(),
            "device": device_name(device),
            "versions": versions(),
        }
    info.status = "running"
    # First of all files: a folder with a description can be resumed, whatever else it lacks.
    run.write_info(info)
    if not (run.path / "config.yaml").exists():
        run.write_config(config)
    return run


@contextmanager
def running(run: RunFolder) -> Iterator[None]:
    """Record in ``run.json`` how the work inside ended.

    Raises:
        Interrupted: as raised inside, with the command that goes on.
    """
    try:
        yield
    except Interrupted as stop:
        _set_status(run, "interrupted")
        raise Interrupted(
            f"{stop}; the state is saved, go on with the same command and --out {run.path} --resume"
        ) from None
    except BaseException:
        _set_status(run, "failed")
        raise
    # The result is written; the optimiser's state would only take up room.
    if is_first():
        (run.path / FILE).unlink(missing_ok=True)


def _set_status(run: RunFolder, status: str) -> None:
    if not is_first():
        return
    try:
        info = run.read_info()
        info.status = status
        run.write_info(info)
    except InputError:
        # A full disk is often why the run failed: the first error is the one to tell.
        return
