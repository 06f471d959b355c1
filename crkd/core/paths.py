"""Where the package is, and the checkout around it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).resolve().parents[1]
"""The folder ``crkd``."""

CHECKOUT: Final = PACKAGE.parent
"""The folder that holds the package: the root of a checkout, or ``site-packages``."""


def in_checkout() -> bool:
    """Return whether the package is used from a checkout, and not installed from a wheel."""
    return (CHECKOUT / "pyproject.toml").is_file()


def shipped(folder: str) -> Path:
    """Return a folder of files that ship with the package, such as "configs".

    In a checkout it is at the top level; a wheel holds a copy in the package.
    """
    return (CHECKOUT if in_checkout() else PACKAGE / "bundled") / folder
