"""Files that are either whole or absent."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

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
        descriptor, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=UNFINISHED
        )
        with os.fdopen(descriptor, "wb") as file:
            for piece in pieces:
                file.write(piece)
                size += len(piece)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; a run folder is read by others as its folder allows.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise failed_write(path, error) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
    return size


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file, which takes the place of ``path`` when the block ends.

    After an error or a signal in the block, the temporary file is deleted.

    Args:
        path: the file, in a folder that exists.

    Raises:
        OSError: the temporary file cannot be renamed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


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
