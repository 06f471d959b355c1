"""Baselines that train a discovery: the configuration that they run with."""

from __future__ import annotations

import pytest

from crkd.commands.main import run_verb
from crkd.config.schema import Config
from crkd.core.errors import InputError


def config_of(monkeypatch: pytest.MonkeyPatch, *words: str) -> Config:
    """Return the configuration with which the verb would train."""
    seen: list[Config] = []

    def stop(config: Config, *rest: object, **options: object) -> None:
        seen.append(config)
        raise InputError("seen")

    monkeypatch.setattr("crkd.stages.discover.run.discover", stop)
    assert run_verb("baseline", [*words, "--from", "anywhere"]) == 2
    return seen[0]


def test_simgcd_has_the_views_and_batches_of_its_release(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("simgcd", "--set", "discover.num_small=2", "--set", "data.labeled_fraction=0.5")
    found = config_of(monkeypatch, *words)
    assert (found.discover.method, found.discover.num_small) == ("simgcd", 0)
    assert found.discover.labeled_share == 0.5
    assert found.mixed
    given = config_of(monkeypatch, "simgcd", "--set", "discover.labeled_share=0.3")
    assert given.discover.labeled_share == 0.3


def test_uno_has_no_distillation_term(monkeypatch: pytest.MonkeyPatch) -> None:
    found = config_of(monkeypatch, "uno")
    assert (found.discover.method, found.discover.distillation) == ("swapped", ())
