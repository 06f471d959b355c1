"""Finished runs that a larger work keeps: the run that is asked for, or a refusal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.runs.folder import RunFolder
from crkd.training.checkpoint import differences


def is_finished(folder: Path, config: Config, part: Callable[[Config], Any]) -> bool:
    """Return whether a folder holds a complete run of a configuration.

    Args:
        folder: the run folder; it need not exist.
        config: the configuration that is asked for.
        part: returns the settings of a configuration that count, as plain values.

    Raises:
        InputError: a complete run was made with other settings that count.
    """
    run = RunFolder(folder)
    if not (folder / "run.json").is_file() or run.read_info().status != "complete":
        return False
    made, wanted = part(run.read_config()), part(config)
    if made != wanted:
        raise InputError(
            f"the run in {folder} was made with another configuration: "
            f"{differences(made, wanted)}; name another folder with --out, or give the old values"
        )
    return True


def finished(
    folder: Path,
    config: Config,
    part: Callable[[Config], Any],
    work: Callable[[bool], RunFolder],
) -> RunFolder:
    """Return the run in a folder: as it is if it is complete, else by ``work(resume)``.

    The arguments and the error are those of :func:`is_finished`.
    """
    if is_finished(folder, config, part):
        return RunFolder(folder)
    return work((folder / "run.json").is_file())
