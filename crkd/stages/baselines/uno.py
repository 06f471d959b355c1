"""UNO version 2, and the same without over-clustering, as configurations of a discovery."""

from __future__ import annotations

import dataclasses
from typing import Final

from crkd.config.schema import Config
from crkd.data.splits.class_split import DEFAULT_SPLITS

OVERCLUSTERING: Final = {("cifar10", "5-5"): 10, ("cifar100", "80-20"): 5}
"""Factors of over-clustering by data set and split, from the README of UNO's release (1634dec)."""

DEFAULT_OVERCLUSTERING: Final = 3
"""Default factor of UNO's release, which is also its factor for CIFAR-100 50-50."""


def uno_v2(config: Config) -> Config:
    """Return the configuration of UNO version 2: over-clustering heads and no distillation term.

    The factor is ``model.overclustering``, or the published one if that is 0. Source: Fini et al.,
    ICCV 2021, and their release at 1634dec.
    """
    split = config.split or DEFAULT_SPLITS.get(config.dataset, "")
    published = OVERCLUSTERING.get((config.dataset, split), DEFAULT_OVERCLUSTERING)
    return _without_terms(config, config.model.overclustering or published)


def uno_without_overclustering(config: Config) -> Config:
    """Return the configuration of swapped prediction alone, UNO without over-clustering."""
    return _without_terms(config, 0)


def _without_terms(config: Config, overclustering: int) -> Config:
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, overclustering=overclustering),
        discover=dataclasses.replace(config.discover, distillation=()),
    )
