"""Fixtures that several folders of tests share."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tests.support import ROOT
from tests.support.unforced import spare_the_disk


def pytest_configure() -> None:
    # On few cores, threads of small tests mostly wait for each other.
    torch.set_num_threads(1)
    spare_the_disk()
    # Another program may take the processor for any time.
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Draw the confusion picture of small runs once for every kind of matrix.

    A picture takes a third of the time of a small run. A run whose classes are those of an
    earlier one in this process gets that one's file.
    ``tests/evaluation`` draws every picture.
    """
    from crkd.evaluation.confusion import Confusion, draw_confusion
    from crkd.stages import results

    folder = tmp_path_factory.mktemp("pictures")
    drawn: dict[object, Path] = {}

    def draw(matrix: Confusion, path: Path) -> None:
        kind = (matrix.true_names, matrix.predicted_names, matrix.num_known)
        if kind not in drawn:
            draw_confusion(matrix, path)
            drawn[kind] = Path(shutil.copy(path, folder / f"{len(drawn)}.png"))
        else:
            shutil.copy(drawn[kind], path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "draw_confusion", draw)
        yield


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


@pytest.fixture(scope="session")
def stage1_held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished stage-1 run that held out images of its classes; no test changes it."""
    from crkd.stages.pretrain.run import pretrain
    from tests.support.small_runs import small_config

    config = small_config("data.validation_fraction=0.2")
    return pretrain(config, tmp_path_factory.mktemp("runs") / "held-out").path


@pytest.fixture(scope="module")
def few_images() -> Iterator[None]:
    """Runs of this module read every fourth image of a data set, whatever the data set."""
    from tests.support.small_runs import thin_data_sets

    with pytest.MonkeyPatch.context() as patch:
        thin_data_sets(patch)
        yield


@pytest.fixture(scope="module")
def few_steps() -> Iterator[None]:
    """Heads on vectors train for few steps in this module."""
    from tests.support.short_heads import short_heads

    with short_heads():
        yield


@pytest.fixture(scope="module")
def few_draws() -> Iterator[None]:
    """The number of classes is estimated with two draws and one split in this module.

    ``tests/clustering`` estimates it with all eight draws and four splits.
    """
    from crkd.clustering.class_count import estimate, validity

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimate, "DRAWS", 2)
        patch.setattr(validity, "SPLITS", 1)
        yield


@pytest.fixture
def default_hangup() -> Iterator[None]:
    """The usual effect of SIGHUP, which nohup has changed if it started the tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
