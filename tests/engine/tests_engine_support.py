"""Small, fast runs on the embedded digits."""

from __future__ import annotations

from crkd.config.load import load_config
from crkd.config.schema import Config

SMALL = (
    "model.hidden=16",
    "model.projection=8",
    "model.num_heads=2",
    "pretrain.epochs=1",
    "pretrain.num_views=1",
    "discover.epochs=1",
    "evaluation.kmeans_restarts=1",
    "loop.log_every=2",
)


def small_config(*settings: str, **flags: object) -> Config:
    return load_config("digits", [*SMALL, *settings], flags)
