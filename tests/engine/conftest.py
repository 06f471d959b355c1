from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from tests_engine_support import small_config

from crkd.engine.pretrain import pretrain


@pytest.fixture(scope="session")
def stage1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished stage-1 run that no test changes."""
    return pretrain(small_config(), tmp_path_factory.mktemp("runs") / "pretrain").path
