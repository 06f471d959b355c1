"""Rows of a results table: a configuration file with a block ``row`` that says what to expect."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from crkd.config.check import Range, build, convert
from crkd.config.load import config_folder, load_config, read_layers
from crkd.config.schema import Config
from crkd.core.errors import InputError, listed

Method = Literal["discover", "kmeans", "supervised"]
Percent = Annotated[float, Range(0.0, 100.0)]


@dataclass(frozen=True)
class Expectation:
    """Figures that a row is held against, in percent."""

    source: Literal["recorded", "measured elsewhere", "published"] = "recorded"
    """By this program, by another one on the same data, or in a paper."""
    origin: str = ""
    """The result file, or who measured it and how."""
    tolerance: Annotated[float, Range(0.0, 100.0, open_low=True)] = 2.0
    """Percentage points by which the mean over seeds may differ."""
    figures: dict[str, Any] = field(default_factory=dict)
    """"protocol/part/group" -> accuracy in percent."""


@dataclass(frozen=True)
class Row:
    """The block ``row``: what a person calls the row, how it is made, what is expected of it."""

    title: str = ""
    method: Method = "discover"
    """Discovery as configured, or one of the baselines ``kmeans`` and ``supervised``."""
    expected: tuple[Expectation, ...] = ()


def row_names() -> list[str]:
    """Return the names of the shipped rows."""
    return sorted(path.stem for path in (config_folder() / "rows").glob("*.yaml"))


def find_row(name: str) -> Path:
    """Return the file of a row: a path, or the name of a shipped one.

    Raises:
        InputError: there is no such row.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = config_folder() / "rows" / f"{name.removesuffix('.yaml')}.yaml"
    if os.sep not in name and shipped.is_file():
        return shipped
    raise InputError(
        f"row {name!r} is neither a file nor a shipped row; shipped: {listed(row_names(), 40)}"
    )


def load_row(path: Path) -> Row:
    """Return the checked block ``row`` of a configuration file.

    Raises:
        InputError: the file has no such block, or something in it is wrong.
    """
    values = read_layers(path).get("row")
    if values is None:
        raise InputError(f"{path} is no row: it lacks the block 'row'; see configs/rows")
    row = build(Row, values, "row")
    for number, expectation in enumerate(row.expected):
        for key, value in expectation.figures.items():
            convert(Percent, value, f"row.expected[{number}].figures.{key}")
    return row


def row_config(
    path: Path, *, seed: int, settings: Sequence[str] = (), **where: str | None
) -> Config:
    """Return the configuration of a row's run with one seed.

    Args:
        path: the row's file.
        seed: of weights, batches and views.
        settings: ``key=value`` strings that change the row.
        where: ``device`` and ``root``, which are no part of a row.
    """
    flags = {"seed": seed, "device": where.get("device"), "data": {"root": where.get("root")}}
    return load_config(str(path), settings, flags)
