"""A process that dies at one of its writes, played inside this process."""

from __future__ import annotations

import errno
import gc
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from crkd.runs.lock import FolderLock


class Killed(BaseException):
    """The process ends here; nothing that follows in it may change a file."""


@contextmanager
def killed_at(number: int) -> Iterator[None]:
    """Let the ``number``-th change of a file be the last one; the lock ends with the process.

    A kill comes before the change, or between the parts of a write.
    """
    dead, count = False, 0
    release = FolderLock.release

    def dying(honest: Callable[..., Any], writes: Callable[..., bool]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal dead, count
            if writes(*arguments, **options):
                count += 1
                dead = dead or count >= number
                if dead:
                    raise Killed
            return honest(*arguments, **options)

        return call

    def end_of_lock(self: FolderLock) -> None:
        if not dead:
            release(self)
        elif self._file is not None:
            self._file.close()
            self._file = None

    def always(*_: Any, **__: Any) -> bool:
        return True

    def for_writing(_: Path, mode: str = "r", *__: Any, **___: Any) -> bool:
        return "w" in mode or "a" in mode

    with pytest.MonkeyPatch.context() as patch:
        for place, name, writes in (
            (os, "fsync", always),
            (os, "replace", always),
            (tempfile, "mkstemp", always),
            (Path, "unlink", always),
            (Path, "open", for_writing),
        ):
            patch.setattr(place, name, dying(getattr(place, name), writes))
        patch.setattr(FolderLock, "release", end_of_lock)
        yield
    gc.collect()


@contextmanager
def full_disk_at(number: int) -> Iterator[list[str]]:
    """Let the ``number``-th and all later files find a full disk; give a list for refusals."""
    honest, count = tempfile.mkstemp, 0

    def full(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count >= number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return honest(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "mkstemp", full)
        yield []
