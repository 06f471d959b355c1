"""State before a discovery on vectors."""

from __future__ import annotations

import pytest
import torch

from crkd.clustering.tied_mixtures import TiedMixtures
from crkd.runs.folder import RunFolder
from crkd.stages.vectors import discovery
from crkd.stages.vectors.discovery import fit_known
from crkd.stages.vectors.start import first_start, next_start
from tests.support.vector_clouds import config_of


def test_before_a_first_discovery_the_spaces_are_those_of_the_known_classes(
    files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(files)
    data = first_start(config).data
    labels = torch.from_numpy(data.fitted_known.labels.copy())
    expected = fit_known(data.of(data.fitted_known), labels, data.of(data.fitted_novel))

    def learned(*args: object) -> None:
        raise AssertionError("the discovery itself learns the known classes")

    monkeypatch.setattr(discovery, "logistic_regression", learned)
    monkeypatch.setattr(TiedMixtures, "fit", learned)
    start = first_start(config)
    pairs = ((start.space, expected.space), (start.wide, expected.gate.space))
    for found, wanted in pairs:
        assert found.root == wanted.root
        assert found.mean.tobytes() == wanted.mean.tobytes()
        assert found.projection.tobytes() == wanted.projection.tobytes()
    assert start.parent is None


def test_an_incremental_step_starts_from_the_discovery_of_its_parent(
    files: list[str], run: str
) -> None:
    parent = RunFolder.open(run)
    start = next_start(config_of([files[1]], "discover.precheck=false"), parent)
    assert start.parent is not None
    assert start.parent.run is parent
    assert start.space is start.parent.found.space
    assert start.wide is start.parent.found.gate.space
