"""Paths of the package and of the checkout that contains it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from crkd.core.errors import InputError

PACKAGE: Final = Path(__file__).resolve().parents[1]
"""The folder ``crkd``."""

CHECKOUT: Final = PACKAGE.parent
"""The folder that contains the package: the root of a checkout, or ``site-packages``."""


def in_checkout() -> bool:
    """Return whether the package runs from a checkout, not from an installed wheel."""
    return (CHECKOUT / "pyproject.toml").is_file()


def shipped(folder: str) -> Path:
    """Return a folder of shipped files, such as "configs".

    In a checkout it is at the top level; a wheel contains it inside the package.
    """
    return (CHECKOUT if in_checkout() else PACKAGE / "bundled") / folder


def cache_folder() -> Path:
    """Return the folder of what can be made again: ``$CRKD_CACHE``, or the user's cache folder.

    Raises:
        InputError: no variable names it, and the user has no home folder.
    """
    named = os.environ.get("CRKD_CACHE")
    if named:
        return Path(named)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crkd"
    except RuntimeError:
        raise InputError(
            "this user has no home folder for cached files; name a folder in CRKD_CACHE"
        ) from None


def readable(path: str | Path) -> str:
    """Return a path as valid Unicode; bytes that are not UTF-8 become backslash escapes."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def irregular(path: Path) -> str | None:
    """Return the kind of a path that is not a regular file, such as "a named pipe".

    The path is not opened: a named pipe would wait for a writer, and a device may never end. Links
    are followed.

    Returns:
        None for a regular file, and where nothing can be found out: opening it then gives the
        reason.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return None
    return next((name for is_kind, name in _KINDS if is_kind(mode)), None)
