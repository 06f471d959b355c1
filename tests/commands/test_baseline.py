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


def test_baselines_have_no_distillation_term_and_uno_alone_has_over_clustering(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for words, factor in (
        (("uno",), 3),
        (("uno", "--set", "model.overclustering=7"), 7),
        (("swapped", "--set", "model.overclustering=7"), 0),
        (("simgcd", "--set", "model.overclustering=7"), 0),
    ):
        found = config_of(monkeypatch, *words)
        method = "simgcd" if words[0] == "simgcd" else "swapped"
        assert (found.discover.method, found.discover.distillation) == (method, ())
        assert found.model.overclustering == factor
