"""Fixtures that several folders of tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support import ROOT


def pytest_configure() -> None:
    # On few cores, threads of small tests mostly wait for each other.
    torch.set_num_threads(1)


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data sets; the test is skipped where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not (folder / "cifar100-test.parquet").is_file():
        pytest.skip("the real data sets are not here (../shared/data)")
    return folder


@pytest.fixture(scope="session")
def stage1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished stage-1 run that no test changes."""
    from crkd.stages.pretrain.run import pretrain
    from tests.support.small_runs import small_config

    return pretrain(small_config(), tmp_path_factory.mktemp("runs") / "pretrain").path
