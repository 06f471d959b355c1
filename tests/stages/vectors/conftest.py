"""A discovery on vectors that several files of tests read; no test changes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from crkd.stages.vectors.run import discover_vectors
from tests.support.short_heads import short_heads
from tests.support.vector_clouds import cloud_files, config_of


@pytest.fixture(scope="package")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two files of vectors; the novel one with its hidden labels."""
    return cloud_files(tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="package")
def run(files: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The discovery on these files."""
    with short_heads():
        return discover_vectors(config_of(files), tmp_path_factory.mktemp("runs") / "found").path
