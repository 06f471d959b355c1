"""Experiments: configuration files with a block ``experiment`` of expected results."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from crkd.config.check import Range, build, convert
from crkd.config.load import config_folder, load_config, read_layers, shipped_configs
from crkd.config.schema import Config
from crkd.core.errors import InputError, listed

Method = Literal["discover", "kmeans", "semi-kmeans", "supervised"]
Percent = Annotated[float, Range(0.0, 100.0)]


@dataclass(frozen=True)
class Expectation:
    """Expected results of an experiment, in percent."""

    source: Literal["recorded", "measured elsewhere", "published"] = "recorded"
    """Source of the results: this program, another program on the same data, or a paper."""
    origin: str = ""
    """The result file, or a citation."""
    tolerance: Annotated[float, Range(0.0, 100.0, open_low=True)] = 2.0
    """Largest allowed difference of the mean over seeds, in percentage points."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """"protocol/part/group" -> accuracy in percent."""


@dataclass(frozen=True)
class Experiment:
    """The block ``experiment``: its title, its method and the expected results."""

    title: str = ""
    method: Method = "discover"
    """Discovery as configured, or one of the baselines that train no discovery."""
    expected: tuple[Expectation, ...] = ()


def experiment_names() -> list[str]:
    """Return the names of the shipped experiments."""
    return [path.stem for path in shipped_configs("experiments")]


def find_experiment(name: str) -> Path:
    """Return the file of an experiment: a path, or the name of a shipped one.

    Raises:
        InputError: there is no such experiment.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = config_folder() / "experiments" / f"{name.removesuffix('.yaml')}.yaml"
    if os.sep not in name and shipped.is_file():
        return shipped
    raise InputError(
        f"experiment {name!r} is neither a file nor a shipped experiment; shipped: "
        f"{listed(experiment_names(), 40)}"
    )


def load_experiment(path: Path) -> Experiment:
    """Return the checked block ``experiment`` of a configuration file.

    Raises:
        InputError: the file has no such block, or something in it is wrong.
    """
    values = read_layers(path).get("experiment")
    if values is None:
        raise InputError(
            f"{path} lacks the block 'experiment'; see configs/experiments for examples"
        )
    experiment = build(Experiment, values, "experiment")
    for number, expectation in enumerate(experiment.expected):
        for key, value in expectation.metrics.items():
            convert(Percent, value, f"experiment.expected[{number}].metrics.{key}")
    return experiment


def experiment_config(
    path: Path, *, seed: int, settings: Sequence[str] = (), **where: str | None
) -> Config:
    """Return the configuration of an experiment's run with one seed.

    Args:
        path: the experiment's file.
        seed: seed of weights, batches and views.
        settings: ``key=value`` strings that change the experiment.
        where: ``device`` and ``root``, which are not part of an experiment.
    """
    flags = {"seed": seed, "device": where.get("device"), "data": {"root": where.get("root")}}
    return load_config(str(path), settings, flags)
