"""Plug-ins of a run, and the check that they are installed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from crkd.core.errors import InputError
from crkd.core.registry import Plugin, Registry
from crkd.runs.folder import RunInfo


def recorded_plugins(info: RunInfo) -> list[Plugin]:
    """Return the plug-ins that ``run.json`` names; other entries are skipped."""
    listed = info.provenance.get("plugins") if isinstance(info.provenance, dict) else None
    return [
        Plugin(**entry)
        for entry in (listed if isinstance(listed, list) else [])
        if isinstance(entry, dict)
        and entry.keys() == set(Plugin._fields)
        and all(isinstance(value, str) for value in entry.values())
    ]


def format_plugins(plugins: Sequence[Plugin]) -> str:
    """Return distributions and versions for a message.

    >>> format_plugins([Plugin("crkd.ot", "exact", "crkd-exact", "1.2")])
    'crkd-exact 1.2'
    >>> format_plugins([])
    'no plug-in'
    """
    named = dict.fromkeys(f"{plugin.distribution} {plugin.version}" for plugin in plugins)
    return ", ".join(named) or "no plug-in"


def check_plugin(path: Path, info: RunInfo, registry: Registry[Any], name: str) -> None:
    """Find out before any foreign code runs whether a name means what it meant to a run.

    Nothing but the same distribution will do: where another distribution brings the name, or to one
    that the run does not mention, opening an untrusted folder would run code that it never used.

    Args:
        path: the run folder, for messages.
        info: its description.
        registry: where the name is about to be looked up.
        name: which the run's files hold.

    Raises:
        InputError: the distribution that brought the entry is missing, or another one brings it.
    """
    recorded = _recorded(info, registry, name)
    wanted = recorded[0].distribution if recorded else None
    here = registry.plugin(name)
    if wanted == (here.distribution if here else None):
        return
    made = _made_with(path, registry, name, recorded)
    if here is None:
        raise InputError(f"{made}, which is not installed; install it to open the run")
    raise InputError(
        f"{made}, but here the plug-in {format_plugins([here])} brings that name; open the run "
        "where that plug-in is not installed"
    )


def check_installed(
    path: Path, info: RunInfo, asked_for: Iterable[tuple[Registry[Any], str]]
) -> None:
    """Check that the plug-ins of an earlier run are installed, before a new run uses it.

    A later run asks for names that the earlier one took from a plug-in: its data set, the losses
    and the other entries of its configuration. An unknown name alone would not say where to get
    it, and the earlier run's description does.

    Args:
        path: the earlier run's folder, for messages.
        info: its description.
        asked_for: names that the later run is about to look up, and where.

    Raises:
        InputError: no installed plug-in has the name, and the earlier run had it from a plug-in.
    """
    for registry, name in asked_for:
        recorded = _recorded(info, registry, name)
        if recorded and name not in registry.names():
            raise InputError(
                f"{_made_with(path, registry, name, recorded)}, which is not installed; install "
                "it to use the run"
            )


def _recorded(info: RunInfo, registry: Registry[Any], name: str) -> list[Plugin]:
    return [p for p in recorded_plugins(info) if (p.group, p.name) == (registry.group, name)]


def _made_with(path: Path, registry: Registry[Any], name: str, recorded: Sequence[Plugin]) -> str:
    origin = f"of the plug-in {format_plugins(recorded)}" if recorded else "without a plug-in"
    return f"{path} was made with the {registry.kind} {name!r} {origin}"
