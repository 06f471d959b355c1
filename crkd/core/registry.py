"""The one registry behind everything pluggable: data sets, backbones, losses, OT backends."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable
from typing import Generic, TypeVar

from crkd.core.errors import InputError

T = TypeVar("T")


class Registry(Generic[T]):
    """Named entries of one kind, found by importing every module of one package.

    A new entry is a new file in ``package`` that calls :meth:`register`; no list elsewhere has
    to be edited. The modules are imported at the first look-up, not at ``import crkd``.

    Args:
        kind: what the entries are, for messages ("backbone", "data set").
        package: dotted name of the package whose modules register the entries.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._entries: dict[str, T] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that stores its argument under ``name``.

        Raises:
            RuntimeError: the name is taken; two files would otherwise fight over it silently.
        """

        def store(entry: T) -> T:
            if name in self._entries:
                raise RuntimeError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = entry
            return entry

        return store

    def get(self, name: str) -> T:
        """Return the entry called ``name``.

        Raises:
            InputError: there is none; the message lists the valid names and the nearest one.
        """
        self._load()
        if name not in self._entries:
            near = difflib.get_close_matches(name, self._entries, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise InputError(
                f"unknown {self.kind} {name!r}{hint}; choose one of: {', '.join(self.names())}"
            )
        return self._entries[name]

    def names(self) -> list[str]:
        """Return every registered name, sorted."""
        self._load()
        return sorted(self._entries)

    def _load(self) -> None:
        if self._loaded:
            return
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        self._loaded = True
