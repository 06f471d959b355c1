"""Groups of runs that differ in the seed alone: means, deviations and paired differences."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from crkd.core.errors import InputError

CONFIDENCE: Final = 0.95
"""Level of the confidence intervals of paired differences."""

MAX_NAMED_KEYS: Final = 4
"""Number of settings in the name of a group; more are counted."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One run or one plan of a comparison.

    Attributes:
        name: name of its folder, unique in a comparison.
        kind: "run", or "plan" for several discoveries one after another.
        method: name of its method.
        seed: its seed.
        data: data set and split, which must be equal for a paired difference.
        settings: every setting that shapes the result but the seed, dotted key -> plain value.
        scores: metric -> value in [0, 1], or None if the run does not have it. The parts of a
            metric are joined by "/"; the last two of a run's are the images and the classes.
        label: name of its group; None lets method and settings decide.
    """

    name: str
    kind: Literal["run", "plan"]
    method: str
    seed: int
    data: Mapping[str, str]
    settings: Mapping[str, Any]
    scores: Mapping[str, float | None]
    label: str | None = None

    def identity(self) -> str:
        """Return a text that is equal for the entries of one group alone."""
        own = self.label if self.label is not None else [self.method, self.data, self.settings]
        return json.dumps([self.kind, own], sort_keys=True)


@dataclass(frozen=True)
class Statistic:
    """Mean of n values, and their sample standard deviation (None for one value)."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class PairedDifference:
    """Difference of two groups over the seeds that both have.

    Attributes:
        mean: mean of the differences, in the unit of the metric.
        std: their sample standard deviation; None for one pair.
        n: number of pairs.
        low, high: confidence interval of the mean at level :data:`CONFIDENCE`, of the paired
            t-test: mean ± t(n - 1) · std / √n. None for one pair.
    """

    mean: float
    std: float | None
    n: int
    low: float | None
    high: float | None


@dataclass(frozen=True, eq=False)
class Group:
    """Entries that differ in the seed alone, in the order of their seeds."""

    name: str
    entries: tuple[Entry, ...]
    differing: Mapping[str, Any] = field(default_factory=dict)
    """The settings in which it differs from another group."""

    @property
    def kind(self) -> Literal["run", "plan"]:
        """Whether the entries are runs or plans."""
        return self.entries[0].kind

    @property
    def seeds(self) -> list[int]:
        """The seeds, ascending."""
        return [entry.seed for entry in self.entries]

    def by_seed(self, metric: str) -> dict[int, float]:
        """Return the values of the entries that have a metric."""
        found = {entry.seed: entry.scores.get(metric) for entry in self.entries}
        return {seed: value for seed, value in found.items() if value is not None}

    def statistic(self, metric: str) -> Statistic | None:
        """Return mean and deviation of a metric over the entries that have it; None for none."""
        values = list(self.by_seed(metric).values())
        return _statistic(values) if values else None

    def statistics(self) -> dict[str, Statistic]:
        """Return mean and deviation of every metric that an entry has."""
        found = {metric: self.statistic(metric) for metric in metrics_of([self])}
        return {metric: value for metric, value in found.items() if value is not None}

    def minus(self, reference: Group, metric: str) -> PairedDifference | None:
        """Return the paired difference of this group and ``reference``.

        Returns:
            None if no seed has the metric in both groups, or they are of other data.
        """
        if self.entries[0].data != reference.entries[0].data:
            return None
        mine, others = self.by_seed(metric), reference.by_seed(metric)
        return paired_difference([(mine[s], others[s]) for s in mine if s in others])


def paired_difference(pairs: Sequence[tuple[float, float]]) -> PairedDifference | None:
    """Return the mean of first minus second, with the interval of the paired t-test.

    >>> found = paired_difference([(0.5, 0.4), (0.7, 0.4)])
    >>> round(found.mean, 3), found.n, round(found.low, 2), round(found.high, 2)
    (0.2, 2, -1.07, 1.47)
    """
    if not pairs:
        return None
    found = _statistic([first - second for first, second in pairs])
    if found.std is None:
        return PairedDifference(found.mean, None, 1, None, None)
    from scipy.stats import t

    quantile = float(t.ppf((1 + CONFIDENCE) / 2, found.n - 1))
    half = quantile * found.std / math.sqrt(found.n)
    return PairedDifference(found.mean, found.std, found.n, found.mean - half, found.mean + half)


def _statistic(values: Sequence[float]) -> Statistic:
    std = statistics.stdev(values) if len(values) > 1 else None
    return Statistic(statistics.fmean(values), std, len(values))


def grouped(entries: Iterable[Entry]) -> list[Group]:
    """Group entries by method and settings, in the order of the first entry of each group.

    Raises:
        InputError: two entries of a group have the same seed.
    """
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.identity(), []).append(entry)
    for members in found.values():
        _check_seeds(members)
    groups = [tuple(sorted(members, key=lambda e: e.seed)) for members in found.values()]
    named = [group for kind in ("run", "plan") for group in _named(groups, kind)]
    order = {members[0].identity(): place for place, members in enumerate(groups)}
    return sorted(named, key=lambda group: order[group.entries[0].identity()])


def _named(groups: Sequence[tuple[Entry, ...]], kind: str) -> list[Group]:
    """Return the groups of one kind with their names."""
    mine = [members for members in groups if members[0].kind == kind]
    firsts = [members[0] for members in mine]
    keys = _differing(firsts)
    short = short_keys(keys, [key for first in firsts for key in _everything(first)])
    settings = [
        {short[key]: value for key, value in _everything(first).items() if key in short}
        for first in firsts
    ]
    names = _unique([_name(first, own) for first, own in zip(firsts, settings, strict=True)])
    return [Group(*parts) for parts in zip(names, mine, settings, strict=True)]


def references(groups: Sequence[Group], chosen: Entry | None = None) -> dict[Group, Group]:
    """Return the group to which the paired differences of each group refer.

    Args:
        groups: the groups.
        chosen: an entry of the reference; None, and for groups of other data, takes the first group
            of the same data and kind.
    """
    found = {}
    for group in groups:
        alike = [
            other
            for other in groups
            if other.kind == group.kind and other.entries[0].data == group.entries[0].data
        ]
        named = [other for other in alike if chosen in other.entries]
        found[group] = (named or alike)[0]
    return found


def _check_seeds(members: Sequence[Entry]) -> None:
    first: dict[int, Entry] = {}
    for entry in members:
        other = first.setdefault(entry.seed, entry)
        if other is not entry:
            raise InputError(
                f"{other.name} and {entry.name} have the same method, configuration and seed "
                f"{entry.seed}, which would count twice; leave one of them out"
            )


def _everything(entry: Entry) -> dict[str, Any]:
    return {**entry.data, **entry.settings}


def _differing(firsts: Sequence[Entry]) -> list[str]:
    """Return the settings that have different values in two groups; missing ones have none.

    Digests of a split say nothing to a reader.
    """
    values: dict[str, set[str]] = {}
    for entry in firsts:
        for key, value in _everything(entry).items():
            if not key.startswith("split."):
                values.setdefault(key, set()).add(json.dumps(value, sort_keys=True))
    return [key for key, found in values.items() if len(found) > 1]


def short_keys(keys: Iterable[str], among: Iterable[str]) -> dict[str, str]:
    """Return the shortest endings of dotted keys that no other key has.

    Args:
        keys: the keys to shorten.
        among: all keys.

    >>> short_keys(["discover.epochs", "discover.average"], ["pretrain.epochs", "discover.epochs"])
    {'discover.epochs': 'discover.epochs', 'discover.average': 'average'}
    """
    counts = Counter(ending for key in dict.fromkeys(among) for ending in _endings(key))
    return {key: next((e for e in _endings(key) if counts[e] < 2), key) for key in keys}


def _endings(key: str) -> list[str]:
    """Return "c", "b.c" and "a.b.c" of "a.b.c"."""
    parts = key.split(".")
    return [".".join(parts[-length:]) for length in range(1, len(parts) + 1)]


def _name(entry: Entry, settings: Mapping[str, Any]) -> str:
    if entry.label is not None:
        return entry.label
    shown = [f"{key}={value_text(value)}" for key, value in settings.items()]
    more = len(shown) - MAX_NAMED_KEYS
    if more > 0:
        shown = [*shown[:MAX_NAMED_KEYS], f"and {more} more"]
    return ", ".join([entry.method, *shown])


def value_text(value: Any) -> str:
    """Return a setting in a few characters.

    >>> value_text([{"name": "kd", "weight": 0.5, "options": {}}, {"name": "lwf", "weight": None}])
    '[kd(weight=0.5), lwf]'
    """
    if isinstance(value, Mapping):
        title = str(value.get("name", value.get("recipe", "")))
        rest = {k: v for k, v in value.items() if k not in ("name", "recipe") and v}
        inner = ", ".join(f"{key}={value_text(entry)}" for key, entry in rest.items())
        if not title:
            return f"{{{inner}}}"
        return f"{title}({inner})" if inner else title
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(value_text, value))}]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _unique(names: Sequence[str]) -> list[str]:
    """Return the names; the second and later ones of several equal names get a number."""
    taken: list[str] = []
    for name in names:
        number, candidate = 1, name
        while candidate in taken:
            number += 1
            candidate = f"{name} ({number})"
        taken.append(candidate)
    return taken


def metrics_of(groups: Iterable[Group]) -> list[str]:
    """Return the metrics that an entry of a group has, in the order of the entries."""
    found: dict[str, None] = {}
    for group in groups:
        for entry in group.entries:
            found |= {key: None for key, value in entry.scores.items() if value is not None}
    return list(found)
