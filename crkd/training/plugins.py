"""Plug-ins that a configuration uses, for the description of the run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from crkd.config.blocks import TermConfig
from crkd.config.schema import Config
from crkd.core.registry import Plugin, Registry
from crkd.data.datasets.base import DATASETS
from crkd.losses.term import TERMS
from crkd.models.backbones.base import BACKBONES
from crkd.ot.problem import BACKENDS
from crkd.runs.folder import RunInfo
from crkd.training.loggers.base import LOGS


def plugins_of(config: Config, info: RunInfo) -> list[Plugin]:
    """Return the plug-ins that a run of this kind uses, without importing any.

    The run's own settings are asked, not what this process has imported: one process may make
    several runs, and a configuration also holds settings of other stages.
    """
    backbone = None if info.architecture is None else info.architecture["backbone"]
    found = (registry.plugin(name) for registry, name in asked_for(config, info.kind, backbone))
    return list(dict.fromkeys(plugin for plugin in found if plugin is not None))


def asked_for(
    config: Config, kind: str, backbone: str | None
) -> Iterator[tuple[Registry[Any], str]]:
    """Yield every name that a run looks up, with where it does so.

    Args:
        config: the run's configuration.
        kind: one of :data:`crkd.runs.folder.KINDS`.
        backbone: of the run's network; None without one, or where it is asked for elsewhere.
    """
    yield DATASETS, config.dataset
    if backbone is not None:
        yield BACKBONES, backbone
    # The baselines take neither terms nor assignment from the configuration.
    if kind != "discovered" or config.discover.method == "swapped":
        for term in _terms(config, kind):
            yield TERMS, term.name
        if kind == "discovered":
            yield BACKENDS, config.discover.assignment.backend
    for name in config.loop.loggers:
        yield LOGS, name


def _terms(config: Config, kind: str) -> tuple[TermConfig, ...]:
    by_kind = {
        "supervised": config.pretrain.distillation,
        "discovered": config.discover.distillation,
        "distilled": config.distill.method,
    }
    return by_kind.get(kind, ())
