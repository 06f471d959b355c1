"""The lock of a run folder: one process at a time trains and saves a run."""

from __future__ import annotations

import contextlib
import os
import socket
from io import FileIO
from pathlib import Path
from typing import Final

from crkd.core.errors import InputError

LOCK: Final = ".lock"
"""Name of the locked file; it contains the process id and the host of the owner."""


class RunLock:
    """Holds ``flock`` on a file of the folder until :meth:`release`.

    The system releases the lock when its process ends, also after ``kill -9``, so a lock never has
    to be removed by hand. Where the file system or the platform has no such locks, none is held.

    Args:
        folder: the run folder, which exists.

    Raises:
        InputError: another process holds the lock; its process id is in the message.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK
        self._file: FileIO | None = None
        file = _locked(self._path)
        while file is not None and not _is_same(file, self._path):
            # Its owner deleted it between our opening and locking.
            file.close()
            file = _locked(self._path)
        if file is not None:
            # On a full disk the lock holds all the same; only the name of its owner is missing.
            with contextlib.suppress(OSError):
                file.truncate(0)
                file.write(f"{os.getpid()} {socket.gethostname()}\n".encode())
        self._file = file

    def release(self) -> None:
        """Delete the file and end the lock; a second call does nothing."""
        if self._file is not None:
            # The file is deleted first: the next owner never locks a deleted file for long.
            with contextlib.suppress(OSError):
                self._path.unlink()
            self._file.close()
            self._file = None


def _locked(path: Path) -> FileIO | None:
    """Return the open, locked file; None where locks are not supported."""
    try:
        import fcntl  # Windows has none
    except ImportError:
        return None
    try:
        # Appending: the content of another owner must not be lost.
        file = path.open("a+b", buffering=0)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}); free space or choose another folder"
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with file:
            file.seek(0)
            pid, _, host = file.read(200).decode("utf-8", "replace").strip().partition(" ")
        owner = f"process {pid} on {host}" if host else "another process"
        raise InputError(
            f"the run in {path.parent} is in use by {owner}; wait until it ends, or stop it first"
        ) from None
    except OSError:
        file.close()
        return None
    return file


def _is_same(file: FileIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
