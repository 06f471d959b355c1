"""The file of a sweep: methods, a grid of settings, and seeds."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

from crkd.config.check import Range, build, plain
from crkd.config.load import load_config, read_yaml, shipped_config, shipped_configs
from crkd.config.schema import Config
from crkd.core.errors import InputError, listed
from crkd.evaluation.comparison import short_keys, value_text
from crkd.evaluation.steps import parse_plan
from crkd.stages.baselines.vectors import SETTINGS as VECTOR_BASELINES

MAX_RUNS: Final = 10_000
MAX_FOLDER: Final = 80
"""Number of characters in the name of a folder; longer names end with a digest."""

_ELSEWHERE: Final = {
    "seed": "list seeds under the key 'seeds'",
    "device": "give devices with --devices",
}
"""Settings of a run that a sweep sets itself, each with the remedy."""
_ON_VECTORS: Final = (("discover",), *(("baseline", name) for name in VECTOR_BASELINES))
"""The commands that a sweep can run on feature vectors."""


@dataclass(frozen=True)
class MethodBlock:
    """An entry of ``methods``."""

    run: str | None = None
    """The command that runs it; None is that of the sweep."""
    plan: str | None = None
    """Sizes of the groups of classes, for increments; None is that of the sweep."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Configuration keys of this method."""
    grid: dict[str, Any] | None = None
    """Grid of this method; None is that of the sweep."""


@dataclass(frozen=True)
class SweepBlock:
    """The whole file."""

    config: str | None = None
    """A configuration file, relative to the sweep's, or the name of a shipped configuration."""
    run: str = "discover"
    """The command that runs each configuration: a verb, and the name of a baseline."""
    plan: str | None = None
    """Sizes of the groups of classes, for increments."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Configuration keys of every run."""
    seeds: tuple[Annotated[int, Range(0)], ...] = (0,)
    """A list of seeds, or how many from 0."""
    methods: dict[str, Any] = field(default_factory=dict)
    """Name -> :class:`MethodBlock`; without any there is one method."""
    grid: dict[str, Any] = field(default_factory=dict)
    """Configuration key -> list of values; every combination is a configuration."""


@dataclass(frozen=True)
class Configuration:
    """One configuration of a sweep, to run with every seed.

    Attributes:
        name: method, and its values of the grid.
        run: verb, and the name of a baseline or of a method of increments.
        plan: sizes of the groups of classes, for increments.
        config: the resolved configuration; the seed does not count.
    """

    name: str
    run: tuple[str, ...]
    plan: str | None
    config: Config

    @property
    def folder(self) -> str:
        """The name as the name of a folder."""
        plain_name = re.sub(r"[^A-Za-z0-9.=_+-]+", "-", self.name).strip("-.") or "run"
        if len(plain_name) <= MAX_FOLDER:
            return plain_name
        digest = hashlib.sha256(self.name.encode()).hexdigest()[:8]
        return f"{plain_name[: MAX_FOLDER - 9]}-{digest}"

    def recipe(self) -> dict[str, Any]:
        """Return what makes its runs, as plain values without the seed."""
        values = json.loads(json.dumps(plain(dataclasses.replace(self.config, seed=0))))
        return {"run": list(self.run), "plan": self.plan, "config": values}


@dataclass(frozen=True)
class Sweep:
    """A checked sweep.

    Attributes:
        name: stem of its file.
        configurations: at least one, with different names and folders.
        seeds: at least one, all different.
    """

    name: str
    configurations: tuple[Configuration, ...]
    seeds: tuple[int, ...]


def find_sweep(name: str) -> Path:
    """Return the file of a sweep: a path, or the name of a shipped one.

    Raises:
        InputError: there is no such sweep.
    """
    path = Path(name)
    found = path if path.is_file() else shipped_config(name, ("sweeps",))
    if found is None:
        names = [file.stem for file in shipped_configs("sweeps")]
        raise InputError(
            f"sweep {name!r} is neither a file nor a shipped sweep; shipped: {listed(names)}"
        )
    return found


def load_sweep(
    path: Path,
    commands: Mapping[str, Sequence[str]],
    settings: Sequence[str] = (),
    root: str | None = None,
) -> Sweep:
    """Read and check the file of a sweep; every configuration is built.

    Args:
        path: the file.
        commands: verb -> names that may follow it; the first one is the default, and a verb
            with an empty sequence takes no name.
        settings: ``key=value`` strings that change every configuration.
        root: folder of the data sets, where it is given.

    Raises:
        InputError: the message names file, key and value.
    """
    try:
        block = build(SweepBlock, _with_list_of_seeds(read_yaml(path)))
        found = list(_configurations(path, block, commands, settings, root))
        _check_different(found)
    except InputError as error:
        message = str(error)
        raise InputError(message if str(path) in message else f"{path}: {message}") from None
    return Sweep(path.stem, tuple(found), block.seeds)


def _with_list_of_seeds(values: dict[str, Any]) -> dict[str, Any]:
    seeds = values.get("seeds", [0])
    if type(seeds) is int and 1 <= seeds <= MAX_RUNS:
        seeds = list(range(seeds))
    if not isinstance(seeds, list) or not seeds or len(set(map(str, seeds))) < len(seeds):
        raise InputError(
            f"key 'seeds' is {seeds!r}; it must be a number of seeds of at least 1, or a list of "
            "different seeds such as [0, 1, 2]"
        )
    return {**values, "seeds": seeds}


def _configurations(
    path: Path,
    block: SweepBlock,
    commands: Mapping[str, Sequence[str]],
    settings: Sequence[str],
    root: str | None,
) -> Iterator[Configuration]:
    base = _base(path, block.config)
    flags = {"data": {"root": root}}
    own = block.methods or {block.run.split()[-1] if block.run.split() else "": {}}
    for name, values in own.items():
        place = f"methods.{name}"
        method = build(MethodBlock, values or {}, place)
        run, plan = _command(method, block, commands, place if block.methods else "")
        fixed = [*_as_settings(block.settings, "settings"), *settings]
        fixed += _as_settings(method.settings, f"{place}.settings")
        grid, where = (
            (block.grid, "grid") if method.grid is None else (method.grid, f"{place}.grid")
        )
        for point in _points(grid, where):
            title = ", ".join([name, *_shown(point)])
            try:
                config = load_config(base, [*fixed, *_as_settings(point, where)], flags)
            except InputError as error:
                raise InputError(f"configuration {title!r}: {error}") from None
            if config.dataset == "features" and run not in _ON_VECTORS:
                key = "run" if method.run is None else f"{place}.run"
                raise InputError(
                    f"configuration {title!r}: key {key!r} is {' '.join(run)!r}, which a sweep "
                    f"does not run on feature vectors; choose one of: "
                    f"{listed([' '.join(words) for words in _ON_VECTORS])}"
                )
            yield Configuration(title, run, plan, config)


def _base(path: Path, name: str | None) -> str | None:
    """Return the base configuration for :func:`load_config`; files are relative to the sweep."""
    if name is not None and (path.parent / name).is_file():
        return str(path.parent / name)
    return name


def _command(
    method: MethodBlock, block: SweepBlock, commands: Mapping[str, Sequence[str]], place: str
) -> tuple[tuple[str, ...], str | None]:
    """Return verb, name and plan of a method."""
    key = f"{place}.run" if method.run is not None else "run"
    text = block.run if method.run is None else method.run
    verb, *names = text.split() or [""]
    known = commands.get(verb)
    if known is None or len(names) > 1 or not set(names) <= set(known):
        allowed = [f"{v} {n}".strip() for v, ns in commands.items() for n in ns or ("",)]
        raise InputError(f"key {key!r} is {text!r}; it must be one of: {listed(allowed, 40)}")
    if known and not names:
        names = [known[0]] if verb == "increments" else []
        if not names:
            raise InputError(f"key {key!r} is {text!r}; name one of: {listed(known, 40)}")
    plan = block.plan if method.plan is None else method.plan
    if verb == "increments":
        if plan is None:
            raise InputError(f"key {key!r} is {text!r}, which needs a key 'plan' such as 4-3-3")
        try:
            parse_plan(plan)
        except InputError as error:
            raise InputError(f"key 'plan': {str(error).removeprefix('--plan ')}") from None
    return (verb, *names), plan if verb == "increments" else None


def _as_settings(values: Mapping[str, Any], place: str) -> list[str]:
    """Return a block as the words of ``--set``; its keys may be dotted."""
    for key in values:
        remedy = _ELSEWHERE.get(key)
        if remedy is not None:
            raise InputError(f"key '{place}.{key}' is set by the sweep itself; {remedy}")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", key):
            raise InputError(f"key '{place}.{key}' is not a configuration key; correct it")
    # JSON is YAML.
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def _points(grid: Mapping[str, Any], place: str) -> Iterator[dict[str, Any]]:
    """Yield every combination of the values of a grid."""
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise InputError(
                f"key '{place}.{key}' is {values!r}; it must be a list of values such as [1, 2]"
            )
    if math.prod(map(len, grid.values())) > MAX_RUNS:
        raise InputError(f"key '{place}' has more than {MAX_RUNS} combinations; shorten it")
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _shown(point: Mapping[str, Any]) -> list[str]:
    short = short_keys(point, point)
    return [f"{short[key]}={value_text(value)}" for key, value in point.items()]


def _check_different(found: Sequence[Configuration]) -> None:
    names: dict[str, str] = {}
    recipes: dict[str, str] = {}
    for entry in found:
        other = recipes.setdefault(json.dumps(entry.recipe(), sort_keys=True), entry.name)
        if other is not entry.name:
            raise InputError(
                f"the configurations {other!r} and {entry.name!r} are equal; leave one of them out"
            )
        other = names.setdefault(entry.folder.lower(), entry.name)
        if other is not entry.name:
            raise InputError(
                f"the configurations {other!r} and {entry.name!r} would have one folder, "
                f"{entry.folder}; give them names of their own under 'methods'"
            )
