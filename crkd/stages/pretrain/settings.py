"""The settings that a stage 1 reads: runs that differ in others can share it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from crkd.config.schema import Config
from crkd.training.checkpoint import resumable_settings

_UNREAD_BLOCKS: Final = ("discover", "distill", "vectors", "evaluation")
_UNREAD_OF_MODEL: Final = ("num_heads", "hidden", "projection", "overclustering")
"""Settings that a stage 1 does not read."""


def stage1_settings(config: Config) -> Any:
    """Return what a stage 1 depends on, as plain values; it has no novel heads."""
    values = resumable_settings(config)
    for key in _UNREAD_BLOCKS:
        values.pop(key)
    for key in _UNREAD_OF_MODEL:
        values["model"].pop(key)
    return values


def with_unread(config: Config, begun: Config) -> Config:
    """Return ``config`` with the settings of ``begun`` where a stage 1 reads none."""
    blocks = {key: getattr(begun, key) for key in _UNREAD_BLOCKS}
    heads = {key: getattr(begun.model, key) for key in _UNREAD_OF_MODEL}
    return replace(config, **blocks, model=replace(config.model, **heads))
