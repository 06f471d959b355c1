"""The lock of a folder: one process at a time writes into it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from crkd.core.atomic_write import failed_write, open_in_place
from crkd.core.errors import InputError

LOCK: Final = ".lock"
"""Name of the locked file; it contains the process id and the host of the owner."""


class FolderLock:
    """Holds ``flock`` on a file of the folder until :meth:`release`.

    The system releases the lock when its process ends, also after ``kill -9``, so a lock never has
    to be removed by hand. Where the file system or the platform has no such locks, none is held.

    Args:
        folder: the folder, which exists.
        subject: description of the folder for messages.

    Raises:
        InputError: another process holds the lock (its process id is in the message), or the file
            of the lock is a symbolic link or cannot be made.
    """

    def __init__(self, folder: Path, subject: str) -> None:
        self._path = folder / LOCK
        self._file: IO[bytes] | None = None
        file = _locked(self._path, subject)
        while file is not None and not _is_same(file, self._path):
            # Its owner deleted it between our opening and locking.
            file.close()
            file = _locked(self._path, subject)
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
                # Who deleted the folder may have let another owner make and lock it.
                if _is_same(self._file, self._path):
                    self._path.unlink()
            self._file.close()
            self._file = None


@contextlib.contextmanager
def locked(folder: Path, flag: str) -> Iterator[None]:
    """Make a folder, and lock it until the block ends; folders that are empty then are removed.

    That are the folder, and those above it that had to be made.

    Args:
        folder: the folder.
        flag: the argument that names it, for messages.

    Raises:
        InputError: another process has the lock, or the folder cannot be made.
    """
    made = [place for place in folder.parents if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{flag}: {str(folder)!r} cannot be made ({error.strerror}); name another place"
        ) from error
    lock = FolderLock(folder, f"{flag}: {str(folder)!r}")
    try:
        yield
    finally:
        lock.release()
        # What was refused before any work leaves nothing.
        with contextlib.suppress(OSError):
            for place in (folder, *made):
                place.rmdir()


def _locked(path: Path, subject: str) -> IO[bytes] | None:
    """Return the open, locked file; None where locks are not supported."""
    try:
        import fcntl  # Windows has none
    except ImportError:
        return None
    try:
        # Appending: the content of another owner must not be lost.
        file = open_in_place(path, "a+b", buffering=0)
    except OSError as error:
        raise failed_write(path, error) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with file:
            file.seek(0)
            pid, _, host = file.read(200).decode("utf-8", "replace").strip().partition(" ")
        owner = f"process {pid} on {host}" if host else "another process"
        raise InputError(
            f"{subject} is in use by {owner}; wait until it ends, or stop it first"
        ) from None
    except OSError:
        file.close()
        return None
    return file


def _is_same(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
