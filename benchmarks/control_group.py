"""Control groups of the system, which limit the memory of a process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from crkd.core.errors import InputError

GROUPS: Final = Path("/sys/fs/cgroup")
"""Folder of the control groups; version 1 has a folder for each controller."""


@contextlib.contextmanager
def control_group(gibibytes: float | None) -> Iterator[Path | None]:
    """Give the file of a new group that takes the number of a process; the group ends with it.

    Args:
        gibibytes: limit of the memory of its processes together; None makes no group.

    Raises:
        InputError: the system lets this process make none.
    """
    if gibibytes is None:
        yield None
        return
    first = GROUPS / "memory"
    root, name = (first, "memory.limit_in_bytes") if first.is_dir() else (GROUPS, "memory.max")
    group = root / f"crkd-bench-{os.getpid()}"
    try:
        group.mkdir()
        (group / name).write_text(str(round(gibibytes * 2**30)))
    except OSError as error:
        raise InputError(
            f"CRKD_LIMIT needs a control group, and {group} cannot be made "
            f"({error.strerror}); start it as root, or leave it out"
        ) from None
    try:
        yield group / "cgroup.procs"
    finally:
        group.rmdir()
