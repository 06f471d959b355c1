"""Registry of pluggable entries: data sets, backbones, losses, OT backends."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import pkgutil
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Generic, NamedTuple, TypeVar

from crkd.core.errors import InputError

T = TypeVar("T")


class Plugin(NamedTuple):
    """An entry from another installed distribution.

    Attributes:
        group: group of its entry point ("crkd.backbones").
        name: the registered name.
        distribution: name of the distribution.
        version: version of that distribution.
    """

    group: str
    name: str
    distribution: str
    version: str


class Registry(Generic[T]):
    """Named entries of one kind, from one package and from installed plug-ins.

    A new entry of crkd is a new file in ``package`` that calls :meth:`register`. No other file has
    to change. The modules are imported at the first look-up, not at ``import crkd``. The look-up of
    an entry whose file has its name imports this file alone.

    A plug-in is an entry point of another distribution in ``group``. Its code is imported only
    when its name is looked up, so an unused plug-in cannot break anything.

    Args:
        kind: kind of the entries, for messages ("backbone", "data set").
        package: dotted name of the package whose modules register the entries.
        group: entry-point group of plug-ins; None disables plug-ins.
    """

    def __init__(self, kind: str, package: str, group: str | None = None) -> None:
        self.kind = kind
        self.package = package
        self.group = group
        self._entries: dict[str, T] = {}
        self._from_plugins: dict[str, T] = {}
        # Two entry points with one name are a conflict, reported when the name is looked up.
        self._points: dict[str, list[EntryPoint]] = {}
        self._listed = self._loaded = False

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that stores its argument under ``name``.

        Raises:
            RuntimeError: the name is already registered.
        """

        def store(entry: T) -> T:
            if name in self._entries:
                raise RuntimeError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = entry
            return entry

        return store

    def get(self, name: str) -> T:
        """Return the entry called ``name``; a plug-in is imported now.

        Raises:
            InputError: there is no such entry (the message lists the valid names and the nearest
                one), a plug-in uses a reserved name, or a plug-in cannot be imported.
        """
        self._list_plugins()
        if name in self._points:
            self._load()
            return self._plugged_in(name)
        if name not in self._entries:
            self._load(name)
        if name not in self._entries:
            near = difflib.get_close_matches(name, self.names(), n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise InputError(
                f"unknown {self.kind} {name!r}{hint}; choose one of: {', '.join(self.names())}"
            )
        return self._entries[name]

    def names(self) -> list[str]:
        """Return every name, sorted; plug-ins are listed without being imported."""
        self._load()
        return sorted({*self._entries, *self._points})

    def loaded(self) -> dict[str, T]:
        """Return the entries that are already imported, by name, sorted.

        These are the package's own entries and the plug-ins that were looked up before.
        """
        self._load()
        return dict(sorted({**self._from_plugins, **self._entries}.items()))

    def plugin(self, name: str) -> Plugin | None:
        """Return the plug-in that defines ``name``, without importing it; None for own names."""
        self._list_plugins()
        if name not in self._points:
            return None
        self._load()
        if name in self._entries:
            return None
        return self._describe(self._points[name][0])

    def _plugged_in(self, name: str) -> T:
        if name in self._from_plugins:
            return self._from_plugins[name]
        point, *others = self._points[name]
        owner = self._describe(point)
        source = f"{owner.distribution} {owner.version}"
        if name in self._entries:
            raise InputError(
                f"the installed distribution {source} claims the {self.kind} {name!r}, which "
                "belongs to crkd and cannot be replaced; uninstall it, or have it choose another "
                "name"
            )
        if others:
            owners = [self._describe(other).distribution for other in (point, *others)]
            raise InputError(
                f"the {self.kind} {name!r} is offered more than once, by the installed "
                f"distributions {' and '.join(owners)}; uninstall all but one"
            )
        try:
            entry: T = point.load()
        # The plug-in may fail in any way; the message reports it in one sentence.
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(
                f"the {self.kind} {name!r} of the installed distribution {source} cannot be "
                f"imported from {point.value!r} ({reason}); fix or update that distribution"
            ) from error
        self._from_plugins[name] = entry
        return entry

    def _describe(self, point: EntryPoint) -> Plugin:
        # An entry point has a distribution only if it was read from an installed one.
        name, version = (point.dist.name, point.dist.version) if point.dist else ("unknown", "0")
        return Plugin(point.group, point.name, name, version)

    def _list_plugins(self) -> None:
        if self._listed:
            return
        if self.group is not None:
            for point in importlib.metadata.entry_points(group=self.group):
                self._points.setdefault(point.name, []).append(point)
        self._listed = True

    def _load(self, name: str | None = None) -> None:
        """Import the file called ``name`` if it registers this name, otherwise every file."""
        if self._loaded:
            return
        self._list_plugins()
        package = importlib.import_module(self.package)
        files = [file.name for file in pkgutil.iter_modules(package.__path__)]
        if name in files:
            importlib.import_module(f"{self.package}.{name}")
            if name in self._entries:
                return
        for file in files:
            importlib.import_module(f"{self.package}.{file}")
        self._loaded = True
