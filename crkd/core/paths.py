"""Paths of the package and of the checkout that contains it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

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
