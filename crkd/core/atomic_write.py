"""Files that are either whole or absent, and files that are changed in place."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Final

from crkd.core.errors import InputError

UNFINISHED: Final = ".unfinished"
"""Suffix of files that are being written."""


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` so that a crash leaves either the old file or the new one.

    Raises:
        InputError: the folder cannot be written (read-only, full disk); the old file is intact.
    """
    write_pieces(path, (content,))


def write_pieces(path: Path, pieces: Iterable[bytes]) -> int:
    """Write a file piece by piece, as :func:`write_bytes`, and return its size in bytes.

    Args:
        path: the file.
        pieces: its content; one is in memory at a time. An error of theirs keeps the old file.

    Raises:
        InputError: the folder cannot be written (read-only, full disk); the old file is intact.
    """
    temporary, size = None, 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = _private_file(path)
        with os.fdopen(descriptor, "wb") as file:
            for piece in pieces:
                file.write(piece)
                size += len(piece)
            file.flush()
            os.fsync(file.fileno())
        # A run folder is read by others as its permissions allow.
        share(temporary, 0o666)
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise failed_write(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return size


def _private_file(path: Path) -> tuple[int, Path]:
    """Create a temporary file for ``path``; return its descriptor and path.

    The name cannot be foreseen, so no other program can have made it a link to another file.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=UNFINISHED)
    return descriptor, Path(name)


def share(path: str | Path, mode: int) -> None:
    """Give a private temporary file or folder the permissions of new ones.

    Args:
        path: the file or folder.
        mode: its permissions without the umask, such as 0o666.
    """
    # Some mounted drives have no permissions to change.
    with contextlib.suppress(OSError):
        os.chmod(path, mode & ~_umask())


def _umask() -> int:
    """Return the umask; on Linux without changing it, which other threads would notice."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file, which takes the place of ``path`` when the block ends.

    After an error or a signal in the block, the temporary file is deleted.

    Args:
        path: the file, in a folder that exists.

    Raises:
        OSError: the temporary file cannot be made or renamed.
    """
    descriptor, temporary = _private_file(path)
    os.close(descriptor)
    try:
        share(temporary, 0o666)
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def open_in_place(path: Path, mode: str, buffering: int = -1) -> IO[bytes]:
    """Open a file that is changed in place, but not the target of a symbolic link.

    A folder may come from another person, and a link in it may point to any file of the user.

    Args:
        path: the file.
        mode: binary mode of :func:`open`, such as "ab".
        buffering: as of :func:`open`.

    Raises:
        InputError: it is a symbolic link.
        OSError: it cannot be opened.
    """

    def opened(name: str, flags: int) -> int:
        # Windows has no such flag.
        return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)

    try:
        return open(path, mode, buffering, opener=opened)
    except OSError:
        if path.is_symlink():
            raise InputError(
                f"{path} is a symbolic link, and its target would be changed; remove the link"
            ) from None
        raise


def failed_write(path: Path, error: OSError) -> InputError:
    """Return the error for a file or folder that cannot be written."""
    return InputError(
        f"{path} cannot be written ({error.strerror}); free space or choose another folder"
    )


def is_unfinished(file: Path) -> bool:
    """Return whether a file is one that a process was killed while it wrote."""
    return file.name.startswith(".") and file.name.endswith(UNFINISHED)


def clear_unfinished(folder: Path) -> None:
    """Delete what a process left that was killed while it wrote into ``folder``."""
    for file in folder.glob(f".*{UNFINISHED}"):
        # Where it cannot be deleted nothing can be written, and that will be said.
        with contextlib.suppress(OSError):
            file.unlink()
