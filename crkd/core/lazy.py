"""Lazy imports of the public names of a package."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_exports(
    package: str, names: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and ``__dir__`` of a package (PEP 562).

    A package lists its exports without importing them, so a command loads only the libraries that
    it uses. A name that is also a module of the package cannot be exported this way, because the
    import of the module would hide it. Such a name is imported in the package itself.

    Args:
        package: dotted name of the package.
        names: maps a module within the package, such as ``heads.prototype``, to the names that
            it defines, separated by spaces.
    """
    homes = {name: f"{package}.{module}" for module, line in names.items() for name in line.split()}

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return get, listed
