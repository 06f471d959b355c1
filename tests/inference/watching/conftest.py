from __future__ import annotations

from pathlib import Path

import pytest
import torch

from crkd.inference.example import RUN
from crkd.inference.watching.predictor import ImagePredictor
from crkd.runs.load import open_run
from tests.support.watched_images import save_checks, save_digits

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def predictor() -> ImagePredictor:
    """The example run, which knows all digits."""
    return ImagePredictor(open_run(RUN, CPU), CPU)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """Five digits and four checkerboards, which fit no class."""
    save_digits(tmp_path / "inbox", 5)
    save_checks(tmp_path / "inbox" / "checks", 4)
    return tmp_path / "inbox"
