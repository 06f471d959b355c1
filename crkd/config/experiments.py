"""Experiments: configuration files with a block ``experiment`` of expected results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from crkd.config.check import Range, build, convert
from crkd.config.load import load_config, read_layers, shipped_config, shipped_configs
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
    found = path if path.is_file() else shipped_config(name, ("experiments",))
    if found is None:
        raise InputError(
            f"experiment {name!r} is neither a file nor a shipped experiment; shipped: "
            f"{listed(experiment_names(), 40)}"
        )
    return found


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
    path: Path,
    *,
    seed: int,
    settings: Sequence[str] = (),
    device: str | None = None,
    root: str | None = None,
) -> Config:
    """Return the configuration of an experiment's run with one seed.

    Args:
        path: the experiment's file.
        seed: seed of weights, batches and views.
        settings: ``key=value`` strings that change the experiment.
        device: where it computes; None is the experiment's own choice.
        root: folder of the data sets; None is the experiment's own choice.
    """
    flags = {"seed": seed, "device": device, "data": {"root": root}}
    return load_config(str(path), settings, flags)
