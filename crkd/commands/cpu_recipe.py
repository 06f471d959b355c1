"""A hint at the shipped recipe for a CPU, where the default one would take days."""

from __future__ import annotations

import argparse
import sys

from crkd.config.schema import Config
from crkd.core.paths import shipped


def suggest_cpu_recipe(config: Config, given: argparse.Namespace) -> None:
    """Name the recipe for a CPU, if there is one and the default recipe will run on a CPU.

    Args:
        config: the configuration of the run.
        given: the parsed flags; with ``--config`` the recipe was chosen.
    """
    if given.config is not None or given.resume:
        return
    from crkd.core.device import pick_device
    from crkd.data.splits.class_split import DEFAULT_SPLITS

    split = config.split or DEFAULT_SPLITS.get(config.dataset)
    name = f"{config.dataset}-{split}-fast"
    recipe = shipped("configs") / "presets" / f"{name}.yaml"
    if pick_device(config.device).type == "cpu" and recipe.is_file():
        print(
            f"note: the default recipe is for a GPU; --config {name} is one for a CPU",
            file=sys.stderr,
        )
