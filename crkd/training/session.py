"""Begin, resume and end of a run folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from crkd.config.schema import Config
from crkd.core.atomic_write import clear_unfinished
from crkd.core.batch_shard import processes
from crkd.core.counted import counted
from crkd.core.device import device_name
from crkd.core.errors import InputError
from crkd.core.registry import Plugin
from crkd.runs.folder import RunFolder, RunInfo, utc_now
from crkd.runs.plugins import format_plugins, recorded_plugins
from crkd.runs.provenance import command_line, git_commit, versions
from crkd.runs.sample_digests import SampleDigests, remove_sample_digests
from crkd.training.checkpoint import (
    differ_only_in_recovery,
    differences,
    remove_states,
    resumable_settings,
    states,
)
from crkd.training.distributed import barrier, is_rank_zero
from crkd.training.interruption import Interrupted
from crkd.training.loggers.base import check_logs
from crkd.training.nonfinite import FILE as FAILED
from crkd.training.plugins import plugins_of
from crkd.training.precision import resolved_precision

OUTSIDE = "stopped outside of the training loop"


def begin_run(
    out: str | Path,
    info: RunInfo,
    config: Config,
    device: torch.device,
    *,
    resume: bool,
    samples: SampleDigests | None = None,
) -> RunFolder:
    """Make the run folder, or open it to resume, and lock it; :func:`running` unlocks it.

    Of several processes the first one writes; all of them have looked for runs before it does.

    Args:
        out: the folder.
        info: description of the run.
        config: its configuration.
        device: where it computes.
        resume: whether the run in the folder is continued.
        samples: of the data; those of a resumed run must be the same. None is not compared.

    Raises:
        InputError: the folder is taken or in use, there is nothing to resume, a log is unknown, or
            it would not be the same run: another configuration, data set or teacher, or another
            number of classes.
    """
    check_logs(config)
    barrier()
    run = RunFolder(out)
    if is_rank_zero():
        run = _begun(out, info, config, device, samples, resume=resume)
    barrier()
    return run


def _begun(
    out: str | Path,
    info: RunInfo,
    config: Config,
    device: torch.device,
    samples: SampleDigests | None,
    *,
    resume: bool,
) -> RunFolder:
    plugins = plugins_of(config, info)
    run = RunFolder.open(out) if resume else RunFolder.create(out)
    run.lock()
    try:
        clear_unfinished(run.path)
        then = SampleDigests.read(run.path) if resume else None
        if then is not None and samples is not None:
            _check_same_samples(run, then, samples)
        elif resume and samples is not None:
            _check_same_digest(run, samples)
        _describe(run, info, config, device, plugins, samples, resume=resume)
        # After the description, without which the folder is neither empty nor a run.
        if then is None and samples is not None:
            samples.write(run.path)
    except BaseException:
        run.unlock()
        raise
    return run


def _describe(
    run: RunFolder,
    info: RunInfo,
    config: Config,
    device: torch.device,
    plugins: list[Plugin],
    samples: SampleDigests | None,
    *,
    resume: bool,
) -> None:
    """Write description and configuration; check them first against those of a resumed run."""
    if resume:
        saved = run.read_info()
        _check_same_run(run, saved, info)
        remark = _changes(run, saved, config)
        notes = [*info.notes, *saved.inherited_notes(), *([remark] if remark else [])]
        info.started = saved.started
        info.provenance = {**saved.provenance, "resumed": utc_now()}
        if plugins != recorded_plugins(saved):
            notes.append(
                f"resumed with {format_plugins(plugins)} after "
                f"{format_plugins(recorded_plugins(saved))}"
            )
        count, before = processes()[1], saved.provenance.get("processes", 1)
        if count != before:
            others = counted(count, "process", "processes")
            notes.append(f"resumed with {others} after {before}")
        info.notes = list(dict.fromkeys(notes))
    else:
        info.started = utc_now()
        info.provenance = {
            "command": command_line(),
            "commit": git_commit(),
            "device": device_name(device),
            "precision": resolved_precision(config.loop.precision, device),
            "processes": processes()[1],
            "versions": versions(),
        }
        if samples is not None:
            info.provenance["data_sha256"] = samples.sha256()
    if plugins:
        info.provenance["plugins"] = [plugin._asdict() for plugin in plugins]
    info.status = "running"
    # The first file: a folder with a description can be resumed, even if others are missing.
    run.write_info(info)
    run.write_config(config)


def _check_same_run(run: RunFolder, saved: RunInfo, info: RunInfo) -> None:
    _check_same_images(run, saved, info)
    if (saved.kind, saved.split, saved.dataset) != (info.kind, info.split, info.dataset):
        raise InputError(
            f"--resume: {run.path} is a {saved.kind} run of {saved.dataset} "
            f"{saved.split['name']}; use the command that started it"
        )
    if saved.status == "complete":
        raise InputError(f"--resume: the run in {run.path} is complete; start another with --out")
    if states(run.path) and len(saved.classes) != len(info.classes):
        raise InputError(
            f"--resume: the run in {run.path} has {len(saved.classes)} classes, and this command "
            f"has {len(info.classes)}; use the command that started it"
        )
    teachers = [(parent or {}).get("model_sha256") for parent in (saved.parent, info.parent)]
    if teachers[0] != teachers[1]:
        places = [(parent or {}).get("path") for parent in (saved.parent, info.parent)]
        raise InputError(
            f"--resume: the run in {run.path} began with another teacher, {places[0]} "
            f"({str(teachers[0])[:12]}), than {places[1]} ({str(teachers[1])[:12]}); name the one "
            "that it began with"
        )


def _check_same_samples(run: RunFolder, then: SampleDigests, now: SampleDigests) -> None:
    """Refuse data that changed since the run began, and name the first changes."""
    changes = then.changes(now)
    if changes:
        raise InputError(
            f"--resume: the data has changed since the run in {run.path} began: {changes}; restore "
            "it, or start another run with --out"
        )


def _check_same_digest(run: RunFolder, now: SampleDigests) -> None:
    """Refuse data that changed since a run began that was killed before it listed its samples."""
    recorded = run.read_info().provenance.get("data_sha256")
    if recorded is not None and recorded != now.sha256():
        raise InputError(
            f"--resume: the data has changed since the run in {run.path} began; restore it, or "
            "start another run with --out"
        )


def _check_same_images(run: RunFolder, saved: RunInfo, info: RunInfo) -> None:
    """Refuse own images that changed since the run began."""
    if "images" not in saved.split or "images" not in info.split:
        return
    for name, kind in (("known", "labeled"), ("images", "unlabeled")):
        if saved.split["name"] == info.split["name"] and saved.split[name] != info.split[name]:
            raise InputError(
                f"--resume: the {kind} images have changed since the run in {run.path} began; "
                "restore them, or start another run with --out"
            )


def _changes(run: RunFolder, saved: RunInfo, config: Config) -> str | None:
    """Return a note on the settings that were changed to get past a loss that was not finite.

    Raises:
        InputError: settings differ that have to stay as they were.
    """
    if not (run.path / "config.yaml").exists():
        return None
    before = run.read_config()
    changed = differences(resumable_settings(before), resumable_settings(config))
    if not changed:
        return None
    went_wrong = saved.status == "failed" and (run.path / FAILED).is_file()
    if not (went_wrong and differ_only_in_recovery(before, config)):
        raise InputError(
            f"--resume: the configuration differs from the saved one in {changed}; "
            "leave these settings as they were"
        )
    return f"resumed from the last good state after a loss that was not finite, with {changed}"


@contextmanager
def running(run: RunFolder, *, resumable: bool = True) -> Iterator[None]:
    """Write the status of the work inside to ``run.json``, and unlock the folder at the end.

    Args:
        run: the locked folder.
        resumable: whether the command of the run takes ``--resume``.

    Raises:
        Interrupted: as raised inside, with the folder to resume; or a keyboard interrupt came
            outside of the training loop.
    """
    try:
        with _status_of(run, resumable=resumable):
            yield
        # The result is written; what a resumed run would need is not needed any more.
        if is_rank_zero():
            remove_states(run.path)
            remove_sample_digests(run.path)
    finally:
        run.unlock()


@contextmanager
def _status_of(run: RunFolder, *, resumable: bool) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as stop:
        _set_status(run, "interrupted")
        if isinstance(stop, Interrupted):
            raise Interrupted(stop.progress, run.path, saved=stop.saved) from None
        if not resumable:
            raise Interrupted(f"stopped; delete {run.path}, then give the same command") from None
        raise Interrupted(OUTSIDE, run.path, saved=bool(states(run.path))) from None
    except BaseException:
        _set_status(run, "failed")
        raise


def _set_status(run: RunFolder, status: str) -> None:
    if not is_rank_zero():
        return
    try:
        info = run.read_info()
        info.status = status
        run.write_info(info)
    except InputError:
        # A full disk is often the cause of the failure: report the first error.
        return
