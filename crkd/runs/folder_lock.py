"""A lock on a folder, so that only one process writes into it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from crkd.core.errors import InputError


@contextlib.contextmanager
def locked(folder: Path, *, flag: str, busy: str) -> Iterator[None]:
    """Make a folder and lock it; the end of the process releases the lock in any case.

    A folder that is empty at the end is removed. Windows has no such lock.

    Args:
        folder: the folder.
        flag: the argument that names it, for messages.
        busy: the message if another process has the lock.

    Raises:
        InputError: another process has the lock, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise InputError(
            f"{flag}: {str(folder)!r} cannot be made ({error.strerror}); name another place"
        ) from error
    try:
        with contextlib.suppress(ImportError):
            import fcntl  # Windows has none

            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(busy) from None
        yield
    finally:
        os.close(descriptor)
        # What was refused before any work leaves nothing.
        with contextlib.suppress(OSError):
            folder.rmdir()
